"""Steps that end in closed form: from the beliefs of a round straight to its outcomes, in compiled code.

Most updates of a settled fleet are of one linear or gently bent sensor under a linear motion. They need little
arithmetic, and no tensor. `native_steps` does all of it in one compiled function. `native_bent_steps` goes on with
single ranges and bearings that bend too much for a closed form, by quadrature. `inference.tracking.filtering` takes
what both leave open, with its prediction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Motion
from beliefstream.inference.motion.linear import LinearMotion
from beliefstream.inference.sensors.encoding import tabulated
from beliefstream.inference.sensors.readings import Reading, expanded
from beliefstream.inference.tracking.accumulated_error import AccumulatedError, AccumulatedErrors
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.health.columns import Array, Fit
from beliefstream.inference.tracking.health.fits import Channels
from beliefstream.inference.tracking.native_bent_steps import follow
from beliefstream.inference.tracking.native_steps import Found, Given, Judged, Reported, predicted, solve
from beliefstream.inference.tracking.outcomes import METHODS, Outcome
from beliefstream.inference.tracking.prediction import Step, begun, controls
from beliefstream.inference.update.closed.reduction_cost import points_of
from beliefstream.inference.update.closed.updates import Limits
from beliefstream.inference.update.quadrature import LESS_LINEAR, RULES
from beliefstream.inference.update.settings import MOST_TOGETHER, UpdateSettings

__all__ = ["Ahead", "Solved", "solved"]


class Ahead(NamedTuple):
    """What is known of steps before their update."""

    mixture: GaussianMixture  # the predictions
    errors: AccumulatedErrors  # of these
    fits: Sequence[Array] | None  # None if they are not known


class Solved(NamedTuple):
    """Outcomes of a batch of steps, and predictions of those that have none."""

    outcomes: list[Outcome | None]  # of every step
    left: list[int]  # places of the steps that were predicted, but have no outcome
    ahead: Ahead | None  # of these; None if there are none


def solved(steps: Sequence[Step], settings: UpdateSettings, with_fits: bool = False) -> Solved | None:
    """Advance the steps that end in compiled functions, as `filtering.advance`; None if there are none.

    Raises:
        ValueError: an instant is earlier than its belief.
    """
    chosen = [i for i, step in enumerate(steps) if _is_simple(step)]
    if not chosen:
        return None
    some = [steps[i] for i in chosen]
    beliefs, intervals = begun(some)
    given = _given(some, beliefs, np.array(intervals))
    whole = [step.instant.readings for step in some]
    sensors = {reading.sensor for row in whole for reading in row}
    readings = [expanded(row) for row in whole] if any(sensor.parts for sensor in sensors) else whole
    reported = _reported([r for row in readings for r in row], list(map(len, readings)), given)
    judged = _judged(whole, reported, given) if with_fits else _unjudged(reported)
    limits = Limits(
        settings.most_components,
        float(settings.merge_below),
        float(settings.linear_below),
        float(settings.linear_below) * (LESS_LINEAR if settings.quadrature_below > 0 else 1.0),
        max(RULES) - 1,
        points_of(given.means.shape[1]),
    )
    found = solve(given, reported, judged, limits)
    follow(given, reported, found, settings)
    tables = _fits(judged) if with_fits else None
    outcomes: list[Outcome | None] = [None] * len(steps)
    left = []
    rows = zip(chosen, _outcomes(some, found, tables or [None] * len(some)), strict=True)
    for row, (place, outcome) in enumerate(rows):
        outcomes[place] = outcome
        if outcome is None:
            left.append(row)
    if not left:
        return Solved(outcomes, [], None)
    errors = AccumulatedErrors(found.errors[left])
    known = None if tables is None else [tables[row] for row in left]
    ahead = GaussianMixture(*map(torch.from_numpy, predicted(given, found, np.array(left))))
    return Solved(outcomes, [chosen[row] for row in left], Ahead(ahead, errors, known))


def _is_simple(step: Step) -> bool:
    """Whether a step has readings of simple sensors only, few enough for one update, and a linear motion."""
    instant = step.instant
    readings = instant.readings
    if instant.prior is not None or not readings or not isinstance(step.model.motion, LinearMotion):
        return False
    if len(readings) == 1 and not readings[0].sensor.parts:  # nearly always
        return readings[0].sensor.is_simple
    if not all(reading.sensor.is_simple for reading in readings):
        return False
    return len(expanded(readings)) <= MOST_TOGETHER


def _given(steps: Sequence[Step], beliefs: Sequence[Belief], intervals: Array) -> Given:
    """Stack the beliefs, one component after another, with their motions."""
    weights = [belief.weights for belief in beliefs]
    errors = np.fromiter(chain.from_iterable([belief.error for belief in beliefs]), np.float64)
    matrix, shift, noise = _changes(steps, beliefs, intervals)
    return Given(
        np.fromiter(map(len, weights), np.int64, len(beliefs)),
        _flat(weights),
        _flat([belief.means for belief in beliefs]),
        _flat([belief.covariances for belief in beliefs]),
        errors.reshape(len(beliefs), -1),
        intervals,
        matrix,
        shift,
        noise,
    )


def _flat(parts: Sequence[Array]) -> Array:
    return np.ascontiguousarray(np.concatenate(parts, dtype=np.float64))


def _changes(
    steps: Sequence[Step], beliefs: Sequence[Belief], intervals: Array
) -> tuple[Array, Array, Array]:
    """Matrix ``(B, D, D)``, shift ``(B, D)`` and noise ``(B, D, D)`` of every motion."""
    motions = [step.model.motion for step in steps]
    if len(set(map(id, motions))) == 1:  # nearly always
        return _changes_alike(motions[0], beliefs, intervals)
    alike: dict[int, list[int]] = defaultdict(list)
    for row, motion in enumerate(motions):
        alike[id(motion)].append(row)
    size = motions[0].dimension
    found = tuple(np.empty((len(steps), *shape)) for shape in ((size, size), (size,), (size, size)))
    for rows in alike.values():
        parts = _changes_alike(motions[rows[0]], [beliefs[row] for row in rows], intervals[rows])
        for whole, part in zip(found, parts, strict=True):
            whole[rows] = part
    return found[0], found[1], found[2]


def _changes_alike(motion: Motion, beliefs: Sequence[Belief], intervals: Array) -> tuple[Array, Array, Array]:
    """Matrix, shift and noise of one motion over `intervals`."""
    assert isinstance(motion, LinearMotion)
    change = motion.change(torch.from_numpy(intervals), controls(beliefs, motion.inputs))
    matrix, shift, noise = (np.ascontiguousarray(part.numpy()) for part in change)
    return matrix, shift, noise


def _reported(flat: Sequence[Reading], counts: Sequence[int], given: Given) -> Reported:
    table, rows, values = tabulated(flat, given.means.shape[1])
    return Reported(np.array(counts, np.int64), rows, values, table.numbers)


def _unjudged(reported: Reported) -> Judged:
    """No channels."""
    none = reported._replace(counts=np.zeros_like(reported.counts))
    return Judged(none, np.zeros(0, np.bool_), np.zeros((0, len(Fit))))


def _judged(readings: Sequence[Sequence[Reading]], reported: Reported, given: Given) -> Judged:
    """The channels of all readings."""
    first = np.ones(len(readings), np.bool_)
    sensors = {reading.sensor for row in readings for reading in row}
    if sum(map(len, readings)) > len(readings) or not all(sensor.is_one_number for sensor in sensors):
        channels = Channels.of(readings)
        counts = np.bincount(channels.entities, minlength=len(readings)).tolist()
        reported, first = _reported(channels.readings, counts, given), np.array(channels.first)
    return Judged(reported, first, np.zeros((len(first), len(Fit))))


def _fits(judged: Judged) -> list[Array]:
    """The fits of each entity."""
    table, counts = judged.found, judged.reported.counts.tolist()
    ends = accumulate(counts)
    return [table[end - count : end] for end, count in zip(ends, counts, strict=True)]


def _outcomes(steps: Sequence[Step], found: Found, tables: Sequence[Array | None]) -> list[Outcome | None]:
    """The outcome of each step; None where there is none."""
    weights, means, covariances = found.posterior
    columns = (found.method, found.counts, *found.numbers.T)
    errors = map(AccumulatedError, *found.errors[:, :3].T.tolist())
    outcomes: list[Outcome | None] = []
    rows = zip(steps, *(column.tolist() for column in columns), errors, tables, strict=True)
    for row, (step, method, count, size, evidence, surprise, error, table) in enumerate(rows):
        if method not in METHODS:
            outcomes.append(None)
            continue
        belief = Belief(
            step.instant.time,
            weights[row, :count].copy(),
            means[row, :count].copy(),
            covariances[row, :count].copy(),
            None,
            error,
        )
        outcomes.append(Outcome(belief, size, evidence, surprise, METHODS[method], None, table, True))
    return outcomes
