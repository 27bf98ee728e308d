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
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking.native_steps import (
    Found,
    Given,
    Reported,
    keep,
    smallest,
)
from beliefstream.inference.update.closed.updates import BENT, EFFICIENCY, EVIDENCE
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
    given, _, found = smallest()
    prior, none = _predicted(given, found, np.zeros(1, np.int64)), np.zeros(0, np.int64)
    _keep_all(none, none, prior, prior, np.zeros((0, 2)), none, found)


def follow(given: Given, reported: Reported, found: Found, settings: UpdateSettings) -> None:
    """Solve steps that are `BENT`, where quadrature is good enough; fills `found`."""
    if settings.quadrature_below <= 0:
        return
    rows = np.nonzero((found.method == BENT) & (reported.counts == 1))[0]
    if len(rows) == 0:
        return
    places = (np.cumsum(reported.counts) - 1)[rows]
    table, sensors = reported.table, reported.sensors[places]
    touched = (table.heading[sensors] != 0) | (table.matrix[sensors] != 0).any(1)
    # without a limit for closed forms, a linear sensor with outliers is left too
    count = np.where(table.kind[sensors] != LINEAR, touched.sum(1), 0)
    for size in range(1, MOST_TOUCHED + 1):
        # in the plane, what bends little takes a third of the time along the observation
        for solved in (_along, _in_plane) if size == 2 else (_along,):
            some = (count == size) & (found.method[rows] == BENT)
            if some.any():
                prior, seen = _predicted(given, found, rows[some]), _observations(reported, places[some])
                axes = np.ascontiguousarray(np.nonzero(touched[some])[1].reshape(-1, size))
                _keep_all(*solved(Bent(rows[some], prior, seen, axes), settings), found)


def _predicted(given: Given, found: Found, rows: Places) -> Numbers:
    """The predictions of the entities at `rows`, as one batch; the numbers of absent components do not matter."""
    counts, ends = given.counts[rows, None], np.cumsum(given.counts)[rows, None]
    number = np.arange(counts.max())
    places = ends - counts + np.minimum(number, counts - 1)
    log_weights = np.where(number < counts, found.log_weights[places], -np.inf)
    return Numbers(log_weights, found.means[places], found.covariances[places])


def _observations(reported: Reported, places: Places) -> Seen:
    """The readings at `places` as observations of an entity each; their noise is one Gaussian, and none is linear."""
    table, sensors = reported.table, reported.sensors[places]
    bias, scale = table.bias[sensors, None], table.scale[sensors, None]
    known = {
        "mask": np.ones(len(places), np.bool_),
        "value": (reported.values[places] - bias) / scale * table.inside[sensors],
        "noise": np.empty((len(places), 0, 3)),
    }
    fields = (known[name] if name in known else getattr(table, name)[sensors] for name in Seen._fields)
    return Seen(*(np.ascontiguousarray(field[:, None]) for field in fields))


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
        found.numbers[b, EVIDENCE], found.numbers[b, EFFICIENCY] = numbers[i, 0], np.exp(-2 * numbers[i, 1])
        if keep(before, after, numbers[i, 1], b, prior[1].shape[2], found):
            found.method[b] = method[i]


@borrowing
def _present(log_weights: Array) -> int:
    """How many components there are; absent ones are last."""
    count = 0
    while count < len(log_weights) and log_weights[count] > -np.inf:
        count += 1
    return count
