"""Steps with one range or bearing that bends too much for a closed form, by quadrature.

It goes on where `native_steps` leaves such a step open, with its prediction: along the observation first, and in the
plane then around the sensor. These are most first steps of an entity, and some of a settled fleet. What it solves
poorly stays open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.sensors.sensor_table import Numbers as Table
from beliefstream.inference.tracking.native_steps import (
    Found,
    Given,
    Reported,
    fill_readings,
    keep,
    smallest,
    space_for_readings,
)
from beliefstream.inference.update.closed.updates import BENT, EVIDENCE, SIZE
from beliefstream.inference.update.curved import solve as solve_along
from beliefstream.inference.update.curved_nodes import MOST_TOUCHED
from beliefstream.inference.update.plane.polar_answers import (
    DIVERGENCE,
    EVIDENCE as LOG_EVIDENCE,
    limits_of,
    solve,
)
from beliefstream.inference.update.plane.single_observation import accepted
from beliefstream.inference.update.result import Method
from beliefstream.inference.update.settings import UpdateSettings

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Bent(NamedTuple):
    """Steps with one bent observation: predictions, readings, and the coordinates that they touch."""

    rows: Places  # (n,)
    prior: Numbers  # (n, K)
    seen: Seen
    axes: Places  # (n, d)


class Answers(NamedTuple):
    """Answers to these steps."""

    rows: Places  # (n,)
    chosen: Places  # those that are good enough
    prior: Numbers  # (n, K)
    posterior: Numbers  # (n, J)
    numbers: Array  # (n, 2) log evidence and divergence
    method: Places  # (n,)


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, reported, found = smallest()
    prior, none = _bent(given, reported, found, 1).prior, np.zeros(0, np.int64)
    _keep_all(none, none, prior, prior, np.zeros((0, 2)), none, found)


def follow(given: Given, reported: Reported, found: Found, settings: UpdateSettings) -> None:
    """Solve steps that are `BENT`, where quadrature is good enough; fills `found`."""
    if settings.quadrature_below <= 0 or BENT not in found.method.tolist():
        return
    for touched in range(1, min(MOST_TOUCHED, given.means.shape[1]) + 1):
        # in the plane, what bends little takes a third of the time along the observation
        for solved in (_along, _in_plane) if touched == 2 else (_along,):
            bent = _bent(given, reported, found, touched)
            if len(bent.rows):
                _keep_all(*solved(bent, settings), found)


def _in_plane(bent: Bent, settings: UpdateSettings) -> Answers:
    """Around the sensor."""
    index = np.arange(len(bent.rows))
    posterior, values = solve(bent.prior, bent.seen, index, bent.axes, limits_of(settings))
    good, exact = accepted(values, settings)
    method = np.where(exact, int(Method.QUADRATURE), int(Method.REFINED))
    numbers = np.ascontiguousarray(values[[LOG_EVIDENCE, DIVERGENCE]].T)
    return Answers(bent.rows, np.nonzero(good)[0], bent.prior, posterior, numbers, method)


def _along(bent: Bent, settings: UpdateSettings) -> Answers:
    """Along the observation."""
    index, limits = np.arange(len(bent.rows)), (settings.most_components, float(settings.merge_below))
    posterior, values = solve_along(bent.prior, bent.seen, index, bent.axes, *limits)
    good = np.nonzero(values[1] < settings.quadrature_below)[0]
    method = np.full(len(index), int(Method.QUADRATURE))
    return Answers(bent.rows, good, bent.prior, posterior, np.ascontiguousarray(values.T), method)


@native
def _bent(given: Given, reported: Reported, found: Found, number: int) -> Bent:
    """The steps left with one range or bearing that touches so many coordinates.

    Without a limit for closed forms, a linear sensor with outliers is left too.
    """
    (size, table), most, count, at = (given.means.shape[1], reported.table), 1, 0, 0
    rows, readings = np.empty(len(given.counts), np.int64), np.empty(len(given.counts), np.int64)
    touched = np.empty((len(given.counts), number), np.int64)
    for b in range(len(given.counts)):
        if found.method[b] == BENT and reported.counts[b] == 1:
            s = reported.sensors[at]
            if table.kind[s] != LINEAR and _fill_touched(table, s, size, touched[count]) == number:
                rows[count], readings[count] = b, at
                most, count = max(most, given.counts[b]), count + 1
        at += reported.counts[b]
    prior = Numbers(
        np.full((count, most), -np.inf), np.zeros((count, most, size)), np.zeros((count, most, size, size))
    )
    seen, one = _space_for(count, table), space_for_readings(1, table)
    row, start = 0, 0
    for b in range(len(given.counts)):
        if row < count and rows[row] == b:
            for k in range(given.counts[b]):
                prior.log_weights[row, k] = found.log_weights[start + k]
                for i in range(size):
                    prior.means[row, k, i] = found.means[start + k, i]
                    for j in range(size):
                        prior.covariances[row, k, i, j] = found.covariances[start + k, i, j]
            fill_readings(reported, readings[row], one)
            _copy(one, seen, row)
            row += 1
        start += given.counts[b]
    return Bent(rows[:count], prior, seen, touched[:count].copy())


@borrowing
def _fill_touched(table: Table, s: int, size: int, into: Places) -> int:
    """Fill the first coordinates that a sensor touches; how many it does."""
    count = 0
    for i in range(size):
        touches = table.heading[s, i] != 0
        for r in range(table.matrix.shape[1]):
            touches = touches or table.matrix[s, r, i] != 0
        if touches:
            if count < len(into):
                into[count] = i
            count += 1
    return count


@inner
def _space_for(count: int, table: Table) -> Seen:
    """Space for one observation of each of so many entities."""
    rows, size = table.matrix.shape[1], table.matrix.shape[2]
    numbers, none = np.zeros((7, count, 1)), np.zeros((count, 1), np.int64)
    return Seen(
        np.empty((count, 1), np.int64),
        np.ones((count, 1), np.bool_),
        np.empty((count, 1, rows)),
        np.empty((count, 1, rows, size)),
        np.empty((count, 1, rows)),
        np.empty((count, 1, size)),
        numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], numbers[6],
        np.empty((count, 1, 0, 3)), np.zeros((count, 1), np.bool_), none, np.empty((count, 1, 0)),
    )  # fmt: skip


@borrowing
def _copy(one: Seen, into: Seen, row: int) -> None:
    into.kind[row, 0] = one.kind[0, 0]
    for r in range(one.matrix.shape[2]):
        into.value[row, 0, r], into.origin[row, 0, r] = one.value[0, 0, r], one.origin[0, 0, r]
        for i in range(one.matrix.shape[3]):
            into.matrix[row, 0, r, i] = one.matrix[0, 0, r, i]
    for i in range(one.matrix.shape[3]):
        into.heading[row, 0, i] = one.heading[0, 0, i]
    into.deviation[row, 0], into.rows[row, 0], into.constant[row, 0] = (
        one.deviation[0, 0], one.rows[0, 0], one.constant[0, 0],
    )  # fmt: skip
    into.log_inlier[row, 0], into.log_outlier[row, 0] = one.log_inlier[0, 0], one.log_outlier[0, 0]
    into.outlier[row, 0] = one.outlier[0, 0]


@native
def _keep_all(
    rows: Places,
    chosen: Places,
    prior: Numbers,
    posterior: Numbers,
    numbers: Array,
    method: Places,
    found: Found,
) -> None:
    """Keep the chosen `Answers`."""
    for i in chosen:
        b, sources, count = rows[i], _present(prior.log_weights[i]), _present(posterior.log_weights[i])
        before = (
            prior.log_weights[i : i + 1, :sources],
            prior.means[i : i + 1, :sources],
            prior.covariances[i : i + 1, :sources],
        )
        after = (
            posterior.log_weights[i : i + 1, :count],
            posterior.means[i : i + 1, :count],
            posterior.covariances[i : i + 1, :count],
        )
        found.numbers[b, EVIDENCE], found.numbers[b, SIZE] = numbers[i, 0], np.exp(-2 * numbers[i, 1])
        if keep(before, after, numbers[i, 1], b, found):
            found.method[b] = method[i]


@borrowing
def _present(log_weights: Array) -> int:
    """How many components there are; absent ones are last."""
    count = 0
    while count < len(log_weights) and log_weights[count] > -np.inf:
        count += 1
    return count
