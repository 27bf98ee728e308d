"""The methods of the update that can be left out, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking import closed_steps, native_bent_steps
from beliefstream.inference.tracking.native_bent_steps import Answers
from beliefstream.inference.update import amortised, network, quadrature
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.network import ThoroughNetwork
from beliefstream.inference.update.plane import hypotheses, several_observations, single_observation
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer

Replaced = tuple[object, str, Callable[..., Any]]
"""A module or class, the name of a function in it, and what takes its place."""


def _cannot(problems: Problems) -> Tensor:
    """No problem is taken."""
    return torch.zeros(problems.prior.batch, dtype=torch.bool)


def _leave(*_: Any) -> None:
    """No step is solved."""


def _none_chosen(prior: Numbers, seen: Seen, _: Any) -> Answers:
    """No step is solved by this method; others may solve it."""
    none = np.zeros(0, np.int64)
    return Answers(none, none, prior, np.zeros((0, 2)), none)


def _none_first(observations: Observations) -> tuple[Tensor, Tensor]:
    """No observation is taken in a first step."""
    return torch.zeros_like(observations.heading, dtype=torch.bool).any(1), torch.zeros_like(
        observations.mask
    )


def _same_answer(
    _: ThoroughNetwork, __: LocalProblem, ___: GaussianMixture, now: Answer, ____: Any
) -> Answer:
    return now


def _same_peaks(_: GaussianMixture, __: Observations, peaks: Any) -> Any:
    return peaks


METHODS: dict[str, tuple[Replaced, ...]] = {
    "plane, around a sensor": (
        (single_observation, "can", _cannot),
        (native_bent_steps, "_by_quadrature", _none_chosen),
    ),
    "plane, cells": ((several_observations, "can", _cannot),),
    "hypotheses": ((hypotheses, "can", _cannot),),
    "two steps": ((amortised, "seen_first", _none_first),),
    "Gauss-Hermite": ((quadrature, "can", _cannot),),
    "bent steps in compiled code": ((closed_steps, "follow", _leave),),
    "refinement": ((ThoroughNetwork, "_moved", _same_answer),),
    "points along the posterior": ((ThoroughNetwork, "_along", ThoroughNetwork._moved),),
    "search": ((ThoroughNetwork, "_searched", _same_answer),),
    "contradictions": ((network, "with_agreeing", _same_peaks),),
}
"""What takes the place of each method, by name."""


@contextmanager
def without(method: str) -> Iterator[None]:
    """Leave one of `METHODS` out; AttributeError says that the update has it no longer."""
    with ExitStack() as stack:
        for owner, name, other in METHODS[method]:
            stack.enter_context(mock.patch.object(owner, name, other))
        yield
