"""Steps with one range or bearing that bends too much for a closed form, by quadrature.

It goes on where `native_steps` leaves such a step open, with its prediction, in the plane around the sensor. These are
most first steps of an entity, and some of a settled fleet. A sensor's errors that last are taken out
(`update.persistent`). What it solves poorly stays open.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_observations import fill_differences
from beliefstream.inference.likelihood.native_terms import Seen, rows_of
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking.native_steps import (
    Found,
    Given,
    Reported,
    keep,
    smallest,
)
from beliefstream.inference.update.closed.reduction_cost import condense
from beliefstream.inference.update.closed.updates import BENT, EFFICIENCY, EVIDENCE
from beliefstream.inference.update.persistent.single_observation import Alone, StateAnswer, solved
from beliefstream.inference.update.plane.polar_answers import (
    DIVERGENCE,
    EVIDENCE as LOG_EVIDENCE,
    limits_of,
    solve,
)
from beliefstream.inference.update.plane.single_observation import accepted
from beliefstream.inference.update.result import Method
from beliefstream.inference.update.settings import PLANE, UpdateSettings

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Answers(NamedTuple):
    """Answers to the steps `at` some places of a batch."""

    at: Places  # (n,)
    chosen: Places  # those that are good enough
    posterior: Numbers  # (n, J)
    numbers: Array  # (n, 2) log evidence and divergence
    method: Places  # (n,)


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, _, found = smallest()
    prior, none = _predicted(given, found, np.zeros(1, np.int64)), np.zeros(0, np.int64)
    _keep_all(none, prior, Answers(none, none, prior, np.zeros((0, 2)), none), given.state, found)


def follow(given: Given, reported: Reported, found: Found, settings: UpdateSettings) -> None:
    """Solve steps that are `BENT`, where quadrature is good enough; fills `found`."""
    if settings.quadrature_below <= 0:
        return
    rows = np.nonzero((found.method == BENT) & (reported.counts == 1))[0]
    if len(rows) == 0:
        return
    prior = _predicted(given, found, rows)
    seen = _observations(reported, (np.cumsum(reported.counts) - 1)[rows])
    has_errors = given.means.shape[1] > given.state
    answers = (
        _with_errors(prior, seen, given.state, settings)
        if has_errors
        else _by_quadrature(prior, seen, settings)
    )
    _keep_all(rows, prior, answers, given.state, found)


def _by_quadrature(prior: Numbers, seen: Seen, settings: UpdateSettings) -> Answers:
    """Answers around the sensor, to those in the plane."""
    touched = (seen.heading[:, 0] != 0) | (seen.matrix[:, 0] != 0).any(1)
    # without a limit for closed forms, a linear sensor with outliers is left too
    index = np.nonzero((seen.kind[:, 0] != LINEAR) & (touched.sum(1) == PLANE))[0]
    axes = np.ascontiguousarray(np.nonzero(touched[index])[1].reshape(-1, PLANE))
    posterior, values = solve(prior, seen, index, axes, limits_of(settings))
    good, exact = accepted(values, settings)
    method = np.where(exact, int(Method.QUADRATURE), int(Method.REFINED))
    numbers = np.ascontiguousarray(values[[LOG_EVIDENCE, DIVERGENCE]].T)
    return Answers(index, np.nonzero(good)[0], posterior, numbers, method)


def _with_errors(prior: Numbers, seen: Seen, state: int, settings: UpdateSettings) -> Answers:
    """Answers with errors that last, where quadrature is good enough for each component of the state alone."""
    matrix, heading = seen.matrix[..., :state].copy(), seen.heading[..., :state].copy()
    own = seen._replace(matrix=matrix, heading=heading, hidden=np.zeros_like(seen.hidden))

    def differences(row: Places, points: Array) -> Array:
        off = np.empty((*points.shape[:2], 1))
        fill_differences(rows_of(own, row), points, off)
        return off[..., 0]

    def answer(alone: Alone) -> StateAnswer:
        return _of_components(alone, rows_of(own, alone.row), settings)

    found = solved(prior, seen, state, differences, answer, int(Method.KALMAN))
    joint = GaussianMixture(*map(torch.from_numpy, found.joint))
    evidence = torch.logsumexp(joint.log_weights, 1)
    posterior, loss = condense(joint.normalised(), settings.most_components, settings.merge_below)
    lost = found.lost + loss.numpy()
    numbers = np.stack([evidence.numpy(), lost], 1)
    return Answers(
        np.arange(len(lost)), np.nonzero(lost < np.inf)[0], posterior.numbers, numbers, found.method
    )


def _of_components(alone: Alone, seen: Seen, settings: UpdateSettings) -> StateAnswer:
    """Answers to components over the state, by quadrature."""
    (count, _, state), most = alone.prior.means.shape, settings.most_components
    none, value = np.zeros((count, 1)), seen.value.copy()
    value[:, 0, 0] = alone.value
    seen = seen._replace(
        value=value, deviation=alone.deviation[:, None], constant=seen.constant + alone.growth[:, None],
        log_inlier=none, log_outlier=none - np.inf,
    )  # fmt: skip
    shape = count, most
    posterior = Numbers(np.full(shape, -np.inf), np.zeros((*shape, state)), np.zeros((*shape, state, state)))
    found = StateAnswer(posterior, np.zeros(count), np.full(count, np.inf), np.zeros(count, np.int64))
    place, chosen, some, numbers, method = _by_quadrature(alone.prior, seen, settings)
    at, width = place[chosen], some.means.shape[1]
    for into, part in zip(posterior, some, strict=True):
        into[at, :width] = part[chosen]
    found.log_evidence[at], found.lost[at] = numbers[chosen].T
    found.method[at] = method[chosen]
    return found


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


@native
def _keep_all(rows: Places, prior: Numbers, answers: Answers, state: int, found: Found) -> None:
    """Keep the chosen answers to steps of the entities at `rows`."""
    posterior, numbers = answers.posterior, answers.numbers
    for i in answers.chosen:
        at = answers.at[i]
        b, sources, count = rows[at], _present(prior.log_weights[at]), _present(posterior.log_weights[i])
        before = (
            prior.log_weights[at : at + 1, :sources],
            prior.means[at : at + 1, :sources],
            prior.covariances[at : at + 1, :sources],
        )
        after = (
            posterior.log_weights[i : i + 1, :count],
            posterior.means[i : i + 1, :count],
            posterior.covariances[i : i + 1, :count],
        )
        found.numbers[b, EVIDENCE], found.numbers[b, EFFICIENCY] = numbers[i, 0], np.exp(-2 * numbers[i, 1])
        if keep(before, after, numbers[i, 1], b, state, found):
            found.method[b] = answers.method[i]


@borrowing
def _present(log_weights: Array) -> int:
    """How many components there are; absent ones are last."""
    count = 0
    while count < len(log_weights) and log_weights[count] > -np.inf:
        count += 1
    return count
