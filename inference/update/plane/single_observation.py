"""Update with one range or bearing in the plane, by quadrature around its sensor (`polar_answers`).

A ring or a beam that is too long for as many Gaussians as an answer may have is published with its divergence, as none
is better. Other methods take what is poor otherwise.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, RANGE, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.closed.scaled_problem import Scaled
from beliefstream.inference.update.plane.densities import WIDEST
from beliefstream.inference.update.plane.polar_answers import (
    DIVERGENCE,
    EVIDENCE,
    GAINED,
    IS_FITTED_TO_ALL,
    IS_LONG,
    IS_SINGLE,
    LEAST_EFFICIENCY,
    UNCERTAIN,
    WIDTH,
    limits_of,
    solve,
)
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer, Method
from beliefstream.inference.update.settings import PLANE, WEAK, UpdateSettings

Array = NDArray[np.float64]

# uncertain share of the posterior, at most, of an answer that is used, and of one that is as if exact
MOST_UNCERTAIN, SURE = 0.01, 0.001
# sample efficiency, below which an answer is left to a search where the settings ask for more
SEARCHED = 0.5


def can(problems: Problems) -> Tensor:
    """Entities with one plain range or bearing in the plane, ``(B,)`` bool."""
    if problems.settings.quadrature_below <= 0:
        return torch.zeros(problems.prior.batch, dtype=torch.bool)
    return has_one_bent(problems.observations) & (problems.touched_count == PLANE)


def answer(problems: Problems, index: Tensor) -> Answer:
    """Answers to the entities at `index`, whose loss is infinite where they are not good enough."""
    problem, settings = problems.scaled, problems.settings
    prior, observations, places = plain(problem, index)
    assert observations.native is not None  # a plain range or bearing
    axes = torch.nonzero(problems.touched[index])[:, 1].view(len(index), PLANE)
    given = prior.numbers, observations.native, places.numpy(), axes.contiguous().numpy()
    found, values = solve(*given, limits_of(settings))
    good, exact = map(torch.from_numpy, accepted(values, settings))
    numbers = torch.from_numpy(values)
    posterior = problem.rows(index).back(GaussianMixture(*(torch.from_numpy(part) for part in found)))
    method = torch.where(exact, int(Method.QUADRATURE), int(Method.REFINED))
    loss = torch.where(good, numbers[DIVERGENCE], math.inf)
    return Answer.of(posterior, numbers[EVIDENCE], loss, method)


def accepted(values: Array, settings: UpdateSettings) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which answers with these values are used, and which are as good as exact moments.

    A ring or a beam that is too long for as many components is poor in any case: to a prior of a single component, or
    where a mixture was fitted to all of them together, none is better. Others are used down to `SEARCHED`, as are these
    where the settings ask for more of a refined answer. What a weak observation leaves is there for many updates, so
    the answer must be exact. A wide beam bends across, and is left to cells unless its answer is as if exact.
    """
    poor = max(settings.refine_below, LEAST_EFFICIENCY)
    together = (values[IS_FITTED_TO_ALL] > 0) & (settings.repeat_below <= SEARCHED)
    least = np.where((values[IS_SINGLE] > 0) | together, 0.0, SEARCHED)
    size, sure = np.exp(-2 * values[DIVERGENCE]), values[UNCERTAIN] < MOST_UNCERTAIN
    exact = (values[DIVERGENCE] < settings.quadrature_below) & (values[UNCERTAIN] < SURE)
    long = (values[IS_LONG] > 0) & (size >= least) & (values[DIVERGENCE] < math.inf)
    good = sure & (values[WIDTH] < WIDEST) & ((size >= poor) | long) & (values[GAINED] >= WEAK)
    return exact | good, exact


def has_one_bent(observations: Observations) -> Tensor:
    """Which problems have one plain range or bearing and nothing else, ``(B,)`` bool."""
    bent = observations.mask & ((observations.kind == RANGE) | (observations.kind == ANGLE))
    return (observations.mask.sum(1) == 1) & bent.any(1) & observations.is_plain


def plain(problem: Scaled, index: Tensor) -> tuple[GaussianMixture, Observations, Tensor]:
    """Priors and observations of a batch with the problems at `index`, and their places in it.

    Others of the batch may have a function, a problem or noise of their own, which native forms do not take.
    """
    prior, observations = problem.prior, problem.observations
    if observations.native is not None:
        return prior, observations, index
    some = replace(
        observations.rows_of(index), mixture=None, deviation_slope=None, functions=None, likelihoods=None
    )
    return prior.rows(index), some, torch.arange(len(index))
