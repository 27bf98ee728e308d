"""A mixture fitted to the lines around one sensor, for `native_polar_quadrature`.

It is for rings and beams whose parts lose too much when they are reduced to an answer. The fit begins with these parts,
or, under a prior of one component, with parts of the lines. Wide components come beside it, and it is measured on the
nodes of the lines.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import inner
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_fitting import FEWEST_LINES, fit_all
from beliefstream.inference.mixtures.reduction import new_room, reduce_one
from beliefstream.inference.update.importance import TRUNCATION, normal_points
from beliefstream.inference.update.missed_mass import SEED
from beliefstream.inference.update.native_measured import draw_all, quality_of_all
from beliefstream.inference.update.native_polar_answers import add_wide, new_answer_space
from beliefstream.inference.update.native_polar_beside import (
    Fitting,
    Problem,
    beside,
    components,
    marginal,
    nothing,
    places_from,
    sources_of,
)
from beliefstream.inference.update.native_polar_work import draw_nodes, touched_covariance, touched_place
from beliefstream.inference.update.native_unseen import Draws, divergence_of_all
from beliefstream.inference.update.polar_rules import (
    CLOSE,
    FEW_STEPS,
    LEAST_GAIN,
    LEAST_SHARE,
    MERGED_TO_BEGIN,
    MOST_UNCERTAIN,
    SEARCHED,
    STEPS,
    UNSEEN_POINTS,
    searched_below,
)
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.wide_components import WIDER

Array = NDArray[np.float64]
Places = NDArray[np.int64]

# of the prior's components that each of a fit follows: where they are more, its reduction nearly always loses more than
# that of the parts, unless these lose more nats; a fit is still tried where more is asked of a refined answer
MOST_SOURCES, LITTLE = 3.0, 0.2
MOST_OF_PARTS = 0.35  # nats that reduced parts may lose where no fit is better, as `SEARCHED`


class Reduced(NamedTuple):
    """Parts of a posterior, and what they were reduced to over the whole state."""

    parts: int
    components: int  # of the answer that they were reduced to
    loss: float  # of it, nats; infinite where it must not be used


class Fitted(NamedTuple):
    """An answer that `fit_lines` has filled."""

    components: int
    size: float  # effective sample size
    divergence: float  # nats; infinite where the answer must not be used
    is_fitted: bool  # or the parts, reduced, which were better


@lru_cache(maxsize=8)
def fitting_of(settings: UpdateSettings, dimension: int) -> Fitting:
    """How mixtures over `dimension` coordinates are fitted, two of which are seen."""
    searched = searched_below(settings)
    normal = normal_points(UNSEEN_POINTS, max(dimension - 1, 1), SEED).double()
    return Fitting(
        settings.most_components,
        float(settings.merge_below),
        (WIDER, float(settings.prior_share)),
        float(settings.defend_below),
        float(settings.defence),
        float(settings.refined_defence),
        -0.5 * math.log(settings.refine_below) if settings.refine_below > 0 else math.inf,
        MOST_OF_PARTS,
        searched,
        math.inf if searched > 0 else MOST_SOURCES * settings.most_components,
        Draws(array(torch.special.ndtr(normal[:, 0])), array(normal[:, 1:])),
    )


@inner
def loss_of_parts(
    problem: Problem, nodes: int, divergence: float, found: Numbers, row: int, left: int
) -> float:
    """Loss of what parts were reduced to over the whole state, nats; infinite where it is not to be used.

    `divergence` is its loss in the plane, with what is uncertain. Under a single component, a fit is better.
    """
    fitting = problem.fitting
    if problem.whole.means.shape[1] == 1 or not divergence < fitting.most_of_parts:
        return math.inf
    points = np.empty((1, len(fitting.draws.uniform), 2))
    draw_nodes(problem.nodes, nodes, problem.plane, points[0])
    loss = divergence + _unseen(components(found, row, left), problem, points)
    return loss if loss < fitting.most_of_parts else math.inf


@inner
def fit_lines(problem: Problem, reduced: Reduced, found: Numbers, row: int) -> Fitted:
    """Fill an answer over the whole state, in a row of `found`, where what the parts were reduced to may be better."""
    places, several = problem.gathered.places[0], problem.whole.means.shape[1] > 1
    failed = Fitted(0, 0.0, math.inf, True)
    missing = places[2] == 0 or (reduced.parts if several else places[1]) == 0
    if missing or not problem.gathered.uncertain[0] < MOST_UNCERTAIN:
        return failed
    if not several:
        fitted, size = _from_lines(problem)
        return _complete(fitted, size, problem, found, row)
    before = components(found, row, reduced.components)
    start = _reduced(problem, reduced.parts)
    if not (reduced.loss < LITTLE and sources_of(start, problem) > problem.fitting.most_sources):
        fitted, size = _from_parts(start, problem)
        # a search may fit a poor answer better, beside what the prior's components say
        if size >= problem.fitting.searched:
            after = _complete(fitted, size, problem, found, row)
            if after.divergence < reduced.loss:
                return after
    if not reduced.loss < math.inf:
        return failed
    size = _measured(marginal(before, 0, reduced.components, problem.axes), problem)[0]
    if not size >= problem.fitting.searched:
        return failed
    for k in range(reduced.components):
        found.log_weights[row, k], found.means[row, k] = before.log_weights[0, k], before.means[0, k]
        found.covariances[row, k] = before.covariances[0, k]
    return Fitted(reduced.components, min(size, math.exp(-2 * reduced.loss)), reduced.loss, False)


@inner
def _complete(fitted: Numbers, size: float, problem: Problem, found: Numbers, row: int) -> Fitted:
    """Fill the answer of a fit with that effective sample size: with wide components, reduced, and measured."""
    fitting, gathered = problem.fitting, problem.gathered
    share = fitting.refined_defence if size >= fitting.defend_below else fitting.defence
    joint, left = beside(fitted, problem, share)
    one = (joint.log_weights[0, :left], joint.means[0], joint.covariances[0])
    into = (found.log_weights[row], found.means[row], found.covariances[row])
    left = reduce_one(one, fitting.most, fitting.merge_below, new_room(left, len(into[1][0])), into)
    size, divergence = _measured(marginal(found, row, left, problem.axes), problem)
    divergence += gathered.uncertain[0]
    if problem.whole.means.shape[1] > 1:
        points = np.empty((1, len(fitting.draws.uniform), len(problem.axes)))
        draw_all(gathered.nodes, places_from(0, gathered.node_places[0, 1]), points)
        divergence += _unseen(components(found, row, left), problem, points)
        size = min(size, math.exp(-2 * divergence))
    # comparisons that keep what is not a number out
    size, divergence = size if size > 0 else 0.0, divergence if divergence < math.inf else math.inf
    return Fitted(left, size, divergence, True)


@inner
def _reduced(problem: Problem, count: int) -> Numbers:
    """The parts of a posterior in the seen coordinates, reduced to as many components as an answer may have.

    One of them is as wide as the prior, with little weight.
    """
    whole, plane, parts, most = problem.whole, problem.plane, problem.parts, problem.fitting.most
    every, found = nothing(count, 2), nothing(most, 2)
    for j in range(count):
        covariance = every.covariances[0, j]
        every.log_weights[0, j] = math.log(parts.share[j])
        every.means[0, j, 0], every.means[0, j, 1] = touched_place(
            plane, parts.moments[j, 0], parts.moments[j, 1]
        )
        xx, xy, yy = touched_covariance(plane, parts.moments[j])
        covariance[0, 0], covariance[1, 1] = xx, yy
        covariance[0, 1] = covariance[1, 0] = xy
    given = (every.log_weights[0], every.means[0], every.covariances[0])
    into = (found.log_weights[0], found.means[0], found.covariances[0])
    left = reduce_one(given, most - 1, MERGED_TO_BEGIN, new_room(count, 2), into)
    prior, space = marginal(whole, 0, whole.means.shape[1], plane.axes), new_answer_space(1, 1, 2)
    wide = (WIDER, LEAST_SHARE)
    return components(found, 0, add_wide(prior, 0, prior.means.shape[1], found, 0, left, wide, space))


@inner
def _measured(answer: Numbers, problem: Problem) -> tuple[float, float]:
    """Effective sample size and divergence of an answer in the seen coordinates."""
    gathered, evidence = problem.gathered, np.full(1, problem.evidence)
    found, span = np.empty((2, 1)), places_from(0, gathered.node_places[0, 1])
    quality_of_all(answer, gathered.nodes, span, evidence, math.log(TRUNCATION), found)
    return found[0, 0], found[1, 0]


@inner
def _from_lines(problem: Problem) -> tuple[Numbers, float]:
    """A fit to the lines of an inlier, beside the only component of the prior, which an outlier leaves as it is."""
    gathered, most, seen = problem.gathered, problem.fitting.most, len(problem.axes)
    fitted = nothing(most - 1, seen)
    limits = (STEPS, LEAST_GAIN, math.inf, FEWEST_LINES)
    fit_all(gathered.strips, places_from(0, gathered.places[0, 1]), np.zeros(1, np.bool_), limits, fitted)
    found, own = nothing(most, seen), marginal(problem.whole, 0, 1, problem.axes)
    for k in range(most):
        part, place = (fitted, k) if k < most - 1 else (own, 0)
        found.log_weights[0, k] = part.log_weights[0, place]
        found.means[0, k], found.covariances[0, k] = part.means[0, place], part.covariances[0, place]
    found.log_weights[0, most - 1] = math.log1p(-min(gathered.inlier[0], 1.0))
    return found, _measured(found, problem)[0]


@inner
def _from_parts(start: Numbers, problem: Problem) -> tuple[Numbers, float]:
    """A fit that begins with a mixture; where that stays poor, with parts of the lines."""
    gathered = problem.gathered
    strips, span, some = gathered.strips, places_from(0, gathered.places[0, 2]), np.zeros(1, np.bool_)
    size = _measured(start, problem)[0]
    found = start
    if not size >= CLOSE:
        again = components(start, 0, start.means.shape[1])
        fit_all(strips, span, some, (FEW_STEPS, LEAST_GAIN, math.inf, 0), again)
        other = _measured(again, problem)[0]
        if other > size or math.isnan(size):
            found, size = again, other
    if not size >= SEARCHED:
        again = nothing(problem.fitting.most, start.means.shape[2])
        some[0] = gathered.places[0, 2] > gathered.places[0, 1]  # an outlier has strips too
        fit_all(strips, span, some, (STEPS, LEAST_GAIN, math.inf, FEWEST_LINES), again)
        other = _measured(again, problem)[0]
        if other > size or math.isnan(size):
            found, size = again, other
    return found, size


@inner
def _unseen(answer: Numbers, problem: Problem, points: Array) -> float:
    """Divergence of the coordinates that no sensor sees, nats, at least 0; infinite if it is not a number.

    The `points` ``(1, P, 2)`` are drawn from the posterior.
    """
    whole, axes, fitting = problem.whole, problem.axes, problem.fitting
    size, place = whole.means.shape[2], 0
    if size == len(axes):
        return 0.0
    rest = np.empty(size - len(axes), np.int64)
    for i in range(size):
        seen = False
        for axis in axes:
            seen = seen or axis == i
        if not seen:
            rest[place] = i
            place += 1
    found = np.empty(1)
    share = np.full((1, points.shape[1]), 1 / points.shape[1])
    divergence_of_all(answer, whole, (axes, rest), points, share, fitting.draws, found)
    off: float = found[0]
    return math.inf if math.isnan(off) else max(off, 0.0)
