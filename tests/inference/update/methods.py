"""One method of the update alone, asked as the router asks it."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.problems import Problems, Solve
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import UpdateSettings


class Method(Protocol):
    """A file of a method."""

    def can(self, problems: Problems) -> Tensor: ...

    def answer(self, problems: Problems, index: Tensor) -> Answer: ...


def unasked(prior: GaussianMixture, observations: Observations) -> Answer:
    """Fail: the method divides nothing into other problems."""
    raise AssertionError(f"{prior.batch} problems of {observations.batch}")


def taken(
    method: Method,
    prior: GaussianMixture,
    observations: Observations,
    settings: UpdateSettings,
    solve: Solve = unasked,
) -> tuple[Tensor, Answer]:
    """Places of the problems that the method answers well enough, and the answers."""
    problems = Problems.of(prior, observations, settings, solve)
    index = torch.nonzero(method.can(problems))[:, 0]
    if len(index) == 0:
        return index, Answer.none(prior.rows(index))
    found = method.answer(problems, index).with_p_value(problems.p_value[index])
    good = torch.nonzero(found.lost < torch.inf)[:, 0]
    return index[good], found.rows(good)
