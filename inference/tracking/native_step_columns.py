"""Columns of a batch of steps, for `native_steps`: beliefs, readings and what the updates found, and space for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.sensors.sensor_table import Numbers
from beliefstream.inference.update.native_closed_update import BENT

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Bits = NDArray[np.bool_]


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
    errors: Array  # (B, 4), the fields of `AccumulatedErrors`, predicted; after the update where there is one
    method: Counts  # (B,), `OPEN` or `BENT` where there is none
    numbers: Array  # (B, 3): effective sample size, log evidence, surprise
    counts: Counts  # (B,) of components of a posterior
    posterior: tuple[Array, Array, Array]  # weights (B, K), means and covariances


def smallest() -> tuple[Given, Reported, Found]:
    """The smallest step, for which native forms are compiled; it is `BENT`."""
    one, few = np.ones(1), np.ones(1, np.int64)
    matrix = one.reshape(1, 1, 1)
    table = Numbers(
        few - 1, matrix, matrix[0], matrix[0], matrix, matrix[0], *(one,) * 2, *(-one,) * 4, *(one,) * 4
    )
    given = Given(few, one, matrix[0], matrix, np.zeros((1, 3)), one, matrix, matrix[0], matrix)
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
def seen_of(reported: Reported, start: int, end: int) -> Seen:
    """The readings from `start` to `end` as observations of one entity."""
    found = space_for_readings(end - start, reported.table)
    fill_readings(reported, start, found)
    return found


@inner
def space_for_readings(number: int, table: Numbers) -> Seen:
    """Space for so many observations of one entity."""
    rows, size = table.matrix.shape[1], table.matrix.shape[2]
    numbers = np.empty((6, 1, number))
    return Seen(
        np.empty((1, number), np.int64),
        np.ones((1, number), np.bool_),
        np.empty((1, number, rows)),
        np.empty((1, number, rows, size)),
        np.empty((1, number, rows)),
        np.empty((1, number, size)),
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
    )


@borrowing
def fill_readings(reported: Reported, start: int, into: Seen) -> None:
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
