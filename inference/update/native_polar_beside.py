"""Wide components beside a fit to the lines around one sensor, and mixtures as batches of one."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.update.importance import WIDENING
from beliefstream.inference.update.native_extension import extend_all
from beliefstream.inference.update.native_followed import new_work, regress, responsible
from beliefstream.inference.update.native_measured import moments_of_all
from beliefstream.inference.update.native_polar_answers import (
    Plane,
    add_wide,
    new_answer_space,
    put_whole_moments,
)
from beliefstream.inference.update.native_polar_space import Nodes, Parts
from beliefstream.inference.update.native_polar_work import Gathered
from beliefstream.inference.update.native_unseen import Draws
from beliefstream.inference.update.unseen_coordinates import LEAST_RESPONSIBILITY, MERGED_BELOW

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Fitting(NamedTuple):
    """Settings of a fit, and what is the same for all."""

    most: int  # components of an answer
    merge_below: float
    wide: tuple[float, float]  # share of the variance that a wide component may add, and its largest weight
    defend_below: float
    defence: float
    refined_defence: float
    enough: float  # nats that reduced parts may lose, below which there is no fit
    most_of_parts: float  # the same, above which they are not used even if a fit is worse
    searched: float  # effective sample size of a fit, below which it is left to a search
    most_sources: float  # of a fit, see `sources_of`, above which it is only made where the parts lose much
    draws: Draws  # of the unseen coordinates


class Problem(NamedTuple):
    """One observation under a prior, with its lines; few arrays, as every call counts the references to all of them."""

    whole: Numbers  # the prior over the whole state, as a batch of one
    axes: Places  # the seen coordinates
    evidence: float  # log
    gathered: Gathered  # the lines, and nothing else
    fitting: Fitting
    plane: Plane
    nodes: Nodes
    parts: Parts  # of the posterior


@inner
def components(mixture: Numbers, b: int, count: int) -> Numbers:
    """The first components of a mixture, as a batch of one."""
    size = mixture.means.shape[2]
    found = Numbers(np.empty((1, count)), np.empty((1, count, size)), np.empty((1, count, size, size)))
    for k in range(count):
        found.log_weights[0, k] = mixture.log_weights[b, k]
        for i in range(size):
            found.means[0, k, i] = mixture.means[b, k, i]
            for j in range(size):
                found.covariances[0, k, i, j] = mixture.covariances[b, k, i, j]
    return found


@inner
def marginal(mixture: Numbers, b: int, count: int, axes: Places) -> Numbers:
    """The same, in the seen coordinates."""
    size = len(axes)
    found = Numbers(np.empty((1, count)), np.empty((1, count, size)), np.empty((1, count, size, size)))
    for k in range(count):
        found.log_weights[0, k] = mixture.log_weights[b, k]
        for i in range(size):
            found.means[0, k, i] = mixture.means[b, k, axes[i]]
            for j in range(size):
                found.covariances[0, k, i, j] = mixture.covariances[b, k, axes[i], axes[j]]
    return found


@inner
def nothing(count: int, size: int) -> Numbers:
    """Space for a mixture, no component of which has a weight."""
    found = Numbers(
        np.full((1, count), -math.inf), np.zeros((1, count, size)), np.zeros((1, count, size, size))
    )
    for k in range(count):
        for i in range(size):
            found.covariances[0, k, i, i] = 1.0
    return found


@inner
def places_from(first: int, end: int) -> Places:
    found = np.empty((1, 2), np.int64)
    found[0, 0], found[0, 1] = first, end
    return found


@inner
def beside(fitted: Numbers, problem: Problem, share: float) -> tuple[Numbers, int]:
    """The fit over the whole state, a Gaussian as wide as the posterior, and one as wide as the prior."""
    whole, axes = problem.whole, problem.axes
    count, (sources, size) = fitted.means.shape[1], whole.means.shape[1:]
    extended = (
        np.full((1, count, sources), -math.inf),
        np.empty((1, count, sources, size)),
        np.empty((1, count, sources, size, size)),
    )
    limits = (LEAST_RESPONSIBILITY, MERGED_BELOW)
    extend_all(fitted, whole, axes, limits, extended)
    places = 2
    for j in range(count):
        for s in range(sources):
            places += 1 if extended[0][0, j, s] > -math.inf else 0
    joint, place = nothing(places, size), 0
    for j in range(count):
        for s in range(sources):
            if extended[0][0, j, s] > -math.inf:
                joint.log_weights[0, place] = extended[0][0, j, s] + math.log1p(-share)
                joint.means[0, place], joint.covariances[0, place] = (
                    extended[1][0, j, s],
                    extended[2][0, j, s],
                )
                place += 1
    if share > 0:
        joint.log_weights[0, place] = math.log(share)
        _put_wide(problem, joint.means[0, place], joint.covariances[0, place])
        place += 1
    return joint, add_wide(
        whole, 0, sources, joint, 0, place, problem.fitting.wide, new_answer_space(1, 1, size)
    )


@inner
def sources_of(fitted: Numbers, problem: Problem) -> int:
    """How many components of the prior those of a fit follow in the unseen coordinates, all together."""
    whole, axes, found = problem.whole, problem.axes, 0
    sources, size = whole.means.shape[1:]
    regression, work = new_work(sources, size, len(axes))
    for k in range(sources):
        regress(whole, 0, k, axes, regression, work)
    for j in range(fitted.means.shape[1]):
        found += responsible(fitted, whole, 0, j, axes, regression, LEAST_RESPONSIBILITY, work)
    return found


@inner
def _put_wide(problem: Problem, mean: Array, covariance: Array) -> None:
    """Fill one Gaussian with the moments of the posterior, wider; see `wide_components.widened`.

    The coordinates that no sensor sees follow as if the whole prior were one Gaussian.
    """
    whole, gathered, size, seen = problem.whole, problem.gathered, len(mean), len(problem.axes)
    wide, prior = nothing(1, seen), nothing(1, size)
    moments_of_all(gathered.strips, places_from(0, gathered.places[0, 2]), wide.means[0], wide.covariances[0])
    spread = 0.0
    for i in range(seen):
        spread += wide.covariances[0, 0, i, i]
    wide.covariances[0, 0] *= min(seen / spread, WIDENING)
    wide.log_weights[0, 0] = prior.log_weights[0, 0] = 0.0
    put_whole_moments(whole, 0, whole.means.shape[1], prior.means[0, 0], prior.covariances[0, 0])
    extended = (np.empty((1, 1, 1)), np.empty((1, 1, 1, size)), np.empty((1, 1, 1, size, size)))
    limits = (LEAST_RESPONSIBILITY, MERGED_BELOW)
    extend_all(wide, prior, problem.axes, limits, extended)
    for i in range(size):
        mean[i] = extended[1][0, 0, 0, i]
        for j in range(size):
            covariance[i, j] = extended[2][0, 0, 0, i, j]
