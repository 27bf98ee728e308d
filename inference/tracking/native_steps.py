"""Steps of entities whose updates end in closed form, each in one compiled function: see `closed_steps`.

It predicts, updates and reduces one entity after another, so an answer does not depend on the others of a batch. A step
that does not end in closed form is left open. So is one whose numbers are not finite.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.mixtures.native import borrowing, inlined, inner, native
from beliefstream.inference.mixtures.native_linear_algebra import (
    affine_all,
    is_definite,
    put_matrix,
    put_vector,
)
from beliefstream.inference.sensors.lengths import linear
from beliefstream.inference.sensors.sensor_table import Numbers, sensor_table
from beliefstream.inference.tracking.accumulated_error import (
    OF_BOUND,
    add_loss,
    fade_by_motion,
    fade_by_update,
    space_for,
)
from beliefstream.inference.tracking.health import native_fits
from beliefstream.inference.update.closed.nearly_linear import Components
from beliefstream.inference.update.closed.reduction_cost import points_of
from beliefstream.inference.update.closed.updates import (
    BENT,
    LINEARISED,
    OPEN,
    Limits,
    new_update_space,
    update,
)

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Bits = NDArray[np.bool_]
SpaceOfFits = tuple[native_fits.Slopes, native_fits.Predictive]


class Given(NamedTuple):
    """Beliefs of ``B`` entities and how they move; their ``T`` components one after another."""

    counts: Counts  # (B,) of components
    weights: Array  # (T,)
    means: Array  # (T, D)
    covariances: Array  # (T, D, D)
    errors: Array  # (B, 3), the fields of `AccumulatedError`
    intervals: Array  # (B,)
    matrix: Array  # (B, D, D), of the motion
    shift: Array  # (B, D)
    noise: Array  # (B, D, D)
    state: int  # coordinates before the hidden ones


class Reported(NamedTuple):
    """Readings of ``B`` entities, one after another."""

    counts: Counts  # (B,) of readings
    sensors: Counts  # (N,) rows of the table
    values: Array  # (N, R)
    table: Numbers


class Judged(NamedTuple):
    """Channels of these readings, one after another, and their fits."""

    reported: Reported
    first: Bits  # (C,) whether it is the first of its sensor
    found: Array  # (C, len(Fit))


class Found(NamedTuple):
    """Predictions, in the places of `Given`, and what the updates found."""

    log_weights: Array  # (T,), predicted, as the next two
    means: Array
    covariances: Array
    errors: Array  # (B, 4), the table of `AccumulatedErrors`, predicted; after the update where there is one
    method: Counts  # (B,), `OPEN` or `BENT` where there is none
    numbers: Array  # (B, 3): sample efficiency, log evidence, p_value
    counts: Counts  # (B,) of components of a posterior
    posterior: tuple[Array, Array, Array]  # weights (B, K), means and covariances


def smallest() -> tuple[Given, Reported, Found]:
    """The smallest step, for which native forms are compiled; it is `BENT`."""
    one, few = np.ones(1), np.ones(1, np.int64)
    matrix = one.reshape(1, 1, 1)
    table = sensor_table([linear(matrix[0], matrix[0])], None, 1).numbers
    given = Given(few, one, matrix[0], matrix, np.zeros((1, 3)), one, matrix, matrix[0], matrix, 1)
    found = space_for_answers(given, 1)
    found.method[0] = BENT
    return given, Reported(few, few - 1, matrix[0], table), found


def space_for_answers(given: Given, most: int) -> Found:
    """Space for predictions, and for answers of `most` components."""
    batch, size = len(given.counts), given.means.shape[1]
    return Found(
        np.empty_like(given.weights),
        np.empty_like(given.means),
        np.empty_like(given.covariances),
        np.empty((batch, 4)),
        np.empty(batch, np.int64),
        np.empty((batch, 3)),
        np.empty(batch, np.int64),
        (np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))),
    )


@inner
def _space_for_readings(number: int, table: Numbers) -> Seen:
    """Space for so many observations of one entity."""
    rows, size = table.matrix.shape[1], table.matrix.shape[2]
    numbers = np.empty((7, 1, number))
    return Seen(
        np.empty((1, number), np.int64), np.ones((1, number), np.bool_),
        np.empty((1, number, rows)), np.empty((1, number, rows, size)), np.empty((1, number, rows)),
        np.empty((1, number, size)),
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
        np.empty((1, number, table.noise.shape[1], 3)), np.zeros((1, number), np.bool_),
        np.zeros((1, number), np.int64), np.empty((1, number, table.parameters.shape[1])),
        np.zeros((1, number), np.int64), np.empty((1, number, table.product.shape[1])),
    )  # fmt: skip


@borrowing
def _fill_readings(reported: Reported, start: int, into: Seen) -> None:
    """Fill observations with the readings from `start` on."""
    table, rows, size = reported.table, reported.table.matrix.shape[1], reported.table.matrix.shape[2]
    for n in range(into.kind.shape[1]):
        s = reported.sensors[start + n]
        into.kind[0, n] = table.kind[s]
        for r in range(rows):
            total = 0.0
            for q in range(rows):
                plain = (reported.values[start + n, q] - table.bias[s]) / table.scale[s] * table.inside[s, q]
                total += table.whitening[s, r, q] * plain
            into.value[0, n, r], into.origin[0, n, r] = total, table.origin[s, r]
            for i in range(size):
                into.matrix[0, n, r, i] = table.matrix[s, r, i]
        for i in range(size):
            into.heading[0, n, i] = table.heading[s, i]
        into.deviation[0, n], into.rows[0, n] = table.deviation[s], table.rows[s]
        into.constant[0, n], into.log_inlier[0, n] = table.constant[s], table.log_inlier[s]
        into.log_outlier[0, n], into.outlier[0, n] = table.log_outlier[s], table.outlier[s]
        into.slope[0, n], into.wraps[0, n] = table.slope[s], table.wraps[s]
        into.function[0, n], into.hidden[0, n] = table.function[s], table.hidden[s]
        put_matrix(into.noise[0, n], table.noise[s])
        put_vector(into.parameters[0, n], table.parameters[s])
        put_vector(into.product[0, n], table.product[s])


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, reported, _ = smallest()
    judged = Judged(reported, np.ones(1, np.bool_), np.empty((1, native_fits.WIDTH)))
    solve(given, reported, judged, Limits(1, 0.0, 1.0, 1.0, 1, points_of(given.means.shape[1])))


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
        seen = _space_for_readings(number, table)
        space, to_judge = new_update_space(count, size, seen), _space_to_judge(count, judged.reported.table)
        for b in range(first, batch):
            if given.counts[b] != count or reported.counts[b] != number:
                continue
            solved[b] = True
            prior = _predict(given, b, starts[b], count, found)
            _fill_readings(reported, at[b], seen)
            method, posterior, loss = update(prior, seen, limits, found.numbers[b], space)
            found.method[b] = method
            loss *= OF_BOUND if method == LINEARISED else 1.0
            if method >= 0 and not keep(prior, posterior, loss, b, given.state, found):
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
        one = (log_weights[0], means[0], covariances[0])
        fade_by_motion(one, given.noise[b], space_for(given.state), found.errors[b])
    return log_weights, means, covariances


@inlined
def keep(prior: Components, posterior: Components, loss: float, b: int, state: int, found: Found) -> bool:
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
    if error[0] > 0 or error[1] > 0:
        one, other = (prior[0][0], prior[1][0], prior[2][0]), (posterior[0][0], means[0], covariances[0])
        fade_by_update(one, other, factor, space_for(state), error)
    add_loss(loss, error)
    return math.isfinite(error[0] + error[1] + error[2])


@inner
def _space_to_judge(count: int, table: Numbers) -> tuple[Seen, native_fits.Channels, SpaceOfFits]:
    """Space for one channel of a prior with `count` components."""
    seen, numbers = _space_for_readings(1, table), np.empty((4, 1))
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
    table, one = reported.table, (prior[0][0], prior[1][0], prior[2][0])
    for n in range(start, start + width):
        s = reported.sensors[n]
        channels.first[0] = judged.first[n]
        channels.sign[0], channels.value[0] = math.copysign(1.0, table.scale[s]), reported.values[n, 0]
        channels.probability[0], channels.log_scale[0] = table.probability[s], table.log_scale[s]
        _fill_readings(reported, n, seen)
        native_fits.fill_one(one, seen, native_fits.Row(0, 0), channels, 0, work, judged.found[n])
