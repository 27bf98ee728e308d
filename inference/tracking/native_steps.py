"""Steps of entities whose updates end in closed form, each in one native function: `inference.tracking.closed_steps`.

It calls the native forms of the operators that `inference.tracking.filtering` calls otherwise, for one entity after
another. So an answer does not depend on the others of a batch. A step that does not end in closed form is left open,
with its prediction. So is one whose numbers are not finite.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.mixtures.native import borrowing, inlined, inner, native
from beliefstream.inference.mixtures.native_affine import affine_all
from beliefstream.inference.mixtures.native_linear_algebra import is_definite
from beliefstream.inference.sensors.sensor_table import Numbers
from beliefstream.inference.tracking.accumulated_error import GROWTH, LEAST_ALIKE, MOST, OF_BOUND, SMALL
from beliefstream.inference.tracking.health import native_fits
from beliefstream.inference.tracking.native_accumulated_error import covariance_of, share_of, space_for
from beliefstream.inference.tracking.native_step_columns import (
    Found,
    Given,
    Judged,
    Reported,
    fill_readings,
    smallest,
    space_for_answers,
    space_for_readings,
)
from beliefstream.inference.update.native_closed_forms import Components
from beliefstream.inference.update.native_closed_update import (
    LINEARISED,
    OPEN,
    Limits,
    new_update_space,
    update,
)
from beliefstream.inference.update.native_reduction_cost import points_of

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Bits = NDArray[np.bool_]
SpaceOfFits = tuple[native_fits.Work, native_fits.Predictive]


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, reported, _ = smallest()
    judged = Judged(reported, np.ones(1, np.bool_), np.empty((1, native_fits.WIDTH)))
    solve(given, reported, judged, Limits(1, 0.0, 1.0, points_of(given.means.shape[1])))


def solve(given: Given, reported: Reported, judged: Judged, limits: Limits) -> Found:
    """Predict all entities, and update those whose updates end in closed form; fills the fits in `judged`."""
    found = space_for_answers(given, limits.components)
    _solve_all(given, reported, judged, limits, found)
    return found


@native
def _solve_all(given: Given, reported: Reported, judged: Judged, limits: Limits, found: Found) -> None:
    starts, at, channels = _firsts(given.counts), _firsts(reported.counts), _firsts(judged.reported.counts)
    batch, size, table = len(given.counts), given.means.shape[1], reported.table
    solved = np.zeros(batch, np.bool_)
    for first in range(batch):
        if solved[first]:
            continue
        # entities with as many components and readings share their space: each array of their own takes time
        count, number = given.counts[first], reported.counts[first]
        seen = space_for_readings(number, table)
        space, to_judge = new_update_space(count, size, seen), _space_to_judge(count, judged.reported.table)
        for b in range(first, batch):
            if given.counts[b] != count or reported.counts[b] != number:
                continue
            solved[b] = True
            prior = _predict(given, b, starts[b], count, found)
            fill_readings(reported, at[b], seen)
            method, posterior, loss = update(prior, seen, limits, found.numbers[b], space)
            found.method[b] = method
            loss *= OF_BOUND if method == LINEARISED else 1.0
            if method >= 0 and not keep(prior, posterior, loss, b, found):
                found.method[b] = OPEN
            _judge(prior, judged, channels[b], judged.reported.counts[b], to_judge)


@inner
def _firsts(counts: Counts) -> Counts:
    """The places of the first of each entity, where so many follow one another."""
    found, total = np.empty_like(counts), 0
    for b in range(len(counts)):
        found[b] = total
        total += counts[b]
    return found


@inlined
def _predict(given: Given, b: int, start: int, count: int, found: Found) -> Components:
    """Predict a belief and its error."""
    size, end = given.means.shape[1], start + count
    before = (
        given.means[start:end].reshape((1, count, size)),
        given.covariances[start:end].reshape((1, count, size, size)),
    )
    log_weights = found.log_weights[start:end].reshape((1, count))
    means = found.means[start:end].reshape((1, count, size))
    covariances = found.covariances[start:end].reshape((1, count, size, size))
    change = (given.matrix[b : b + 1], given.shift[b : b + 1], given.noise[b : b + 1])
    affine_all(before, change, means, covariances)
    for k in range(count):
        log_weights[0, k] = math.log(given.weights[start + k])
    for i in range(3):
        found.errors[b, i] = given.errors[b, i]
    found.errors[b, 3] = 1.0
    if given.errors[b, 0] * given.intervals[b] > 0:
        work = space_for(size)
        covariance_of(log_weights[0], means[0], covariances[0], work[0], work[1])
        found.errors[b, 3] = 1 - min(share_of(given.noise[b], work)[0], 1.0)
        found.errors[b, 0] *= found.errors[b, 3]
    return log_weights, means, covariances


@inlined
def keep(prior: Components, posterior: Components, loss: float, b: int, found: Found) -> bool:
    """Keep the answer and its error; False if a number is not finite, or a covariance not positive definite."""
    log_weights, means, covariances = posterior
    count, size, total = log_weights.shape[1], means.shape[2], loss
    factor, definite = np.empty((size, size)), True
    weights = found.posterior[0][b]
    for number in found.numbers[b]:
        total += number
    share = 0.0
    for k in range(count):
        weights[k] = math.exp(log_weights[0, k])
        share += weights[k]
        for i in range(size):
            found.posterior[1][b, k, i] = means[0, k, i]
            total += means[0, k, i]
            for j in range(size):
                found.posterior[2][b, k, i, j] = covariances[0, k, i, j]
                total += covariances[0, k, i, j]
        definite &= is_definite(found.posterior[2][b, k], factor)
    if not (definite and math.isfinite(total + share)):
        return False
    for k in range(count):
        weights[k] /= share
    found.counts[b] = count
    error = found.errors[b]
    _update_error(prior, posterior, loss, error)
    return math.isfinite(error[0] + error[1] + error[2])


@inlined
def _update_error(prior: Components, posterior: Components, loss: float, error: Array) -> None:
    """As `AccumulatedErrors.updated` and `AccumulatedErrors.plus`, of one finite loss."""
    if error[0] > 0 or error[1] > 0:
        size = prior[1].shape[2]
        work, part = space_for(size), np.empty((size, size))
        covariance_of(posterior[0][0], posterior[1][0], posterior[2][0], part, work[1])
        covariance_of(prior[0][0], prior[1][0], prior[2][0], work[0], work[1])
        ratio, information = share_of(part, work)
        left = math.sqrt(min(ratio, GROWTH))
        error[0] *= left
        error[3] *= left
        error[2] = max(error[2] + information, 0.0)
    new = min(max(loss, 0.0), MOST)
    little, alike = min(new, SMALL), math.sqrt(max(1 - error[3], LEAST_ALIKE * LEAST_ALIKE))
    error[0] += little + 2 * alike * math.sqrt(error[0] * little)
    beyond = new - SMALL
    if beyond > 0:
        earlier = error[1] / (1 + error[2])
        error[2] *= earlier / max(earlier + beyond, 1e-300)
        error[1] = (earlier + beyond) * (1 + error[2])


@inner
def _space_to_judge(count: int, table: Numbers) -> tuple[Seen, native_fits.Channels, SpaceOfFits]:
    """Space for one channel of a prior with `count` components."""
    seen, numbers = space_for_readings(1, table), np.empty((4, 1))
    channels = native_fits.Channels(
        np.zeros(1, np.int64), np.empty(1, np.bool_), numbers[0], numbers[1], numbers[2], numbers[3]
    )
    return seen, channels, native_fits.new_space_of_fits(count, seen)


@borrowing
def _judge(
    prior: Components,
    judged: Judged,
    start: int,
    width: int,
    space: tuple[Seen, native_fits.Channels, SpaceOfFits],
) -> None:
    """Fill the fits of an entity's channels."""
    reported, (seen, channels, work) = judged.reported, space
    table = reported.table
    for n in range(start, start + width):
        s = reported.sensors[n]
        channels.first[0] = judged.first[n]
        channels.sign[0], channels.value[0] = math.copysign(1.0, table.scale[s]), reported.values[n, 0]
        channels.probability[0], channels.log_scale[0] = table.probability[s], table.log_scale[s]
        fill_readings(reported, n, seen)
        native_fits.fill_one(prior, 0, seen, 0, channels, 0, work, judged.found[n])
