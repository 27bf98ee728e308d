"""Steps that end in closed form: from the beliefs of a round straight to its outcomes, in compiled code.

Most updates of a settled fleet are of one linear or gently bent sensor under a linear motion. They need little
arithmetic, and no tensor. `native_steps` does all of it in one compiled function. `native_bent_steps` goes on with
single ranges and bearings that bend too much for a closed form, by quadrature. `inference.tracking.filtering` takes
what both leave open.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain

import numpy as np
import torch

from beliefstream.inference.motion.linear import LinearMotion
from beliefstream.inference.sensors.encoding import tabulated
from beliefstream.inference.sensors.readings import Reading, expanded
from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief, Step
from beliefstream.inference.tracking.health.columns import Array, Fit
from beliefstream.inference.tracking.health.fits import Channels
from beliefstream.inference.tracking.hidden import fading
from beliefstream.inference.tracking.native_bent_steps import follow
from beliefstream.inference.tracking.native_steps import Found, Given, Judged, Reported, solve
from beliefstream.inference.tracking.outcomes import METHODS, Outcome
from beliefstream.inference.tracking.prediction import begun, by_motion
from beliefstream.inference.update.closed.linearised import LESS_LINEAR
from beliefstream.inference.update.closed.reduction_cost import points_of
from beliefstream.inference.update.closed.updates import Limits
from beliefstream.inference.update.settings import MOST_TOGETHER, MOST_TOUCHED, UpdateSettings


def solved(steps: Sequence[Step], settings: UpdateSettings, with_fits: bool = False) -> list[Outcome | None]:
    """Advance the steps that end in compiled functions, as `filtering.advance`; None for each other one.

    Raises:
        ValueError: an instant is earlier than its belief.
    """
    outcomes: list[Outcome | None] = [None] * len(steps)
    chosen = [i for i, step in enumerate(steps) if _is_simple(step)]
    if not chosen:
        return outcomes
    some = [steps[i] for i in chosen]
    given = _given(some)
    whole = [step.instant.readings for step in some]
    readings = [expanded(row) for row in whole]
    reported = _reported([r for row in readings for r in row], list(map(len, readings)), given)
    judged = _judged(whole, reported, given) if with_fits else _unjudged(reported)
    limits = Limits(
        settings.most_components,
        float(settings.merge_below),
        float(settings.linear_below),
        float(settings.linear_below) * (LESS_LINEAR if settings.quadrature_below > 0 else 1.0),
        MOST_TOUCHED - 1,
        points_of(given.means.shape[1]),
    )
    found = solve(given, reported, judged, limits)
    follow(given, reported, found, settings)
    tables = _fits(judged) if with_fits else [None] * len(some)
    for place, outcome in zip(chosen, _outcomes(some, found, tables), strict=True):
        outcomes[place] = outcome
    return outcomes


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


def _given(steps: Sequence[Step]) -> Given:
    """Stack the beliefs, one component after another, with their motions."""
    beliefs, times = begun(steps)
    weights, intervals = [belief.weights for belief in beliefs], np.array(times)
    errors = np.fromiter(chain.from_iterable([belief.error[:3] for belief in beliefs]), np.float64)
    return Given(
        np.fromiter(map(len, weights), np.int64, len(beliefs)),
        _flat(weights),
        _flat([belief.means for belief in beliefs]),
        _flat([belief.covariances for belief in beliefs]),
        errors.reshape(len(beliefs), -1),
        intervals,
        *_changes(steps, beliefs, intervals),
        steps[0].model.motion.dimension,
    )


def _flat(parts: Sequence[Array]) -> Array:
    return np.ascontiguousarray(np.concatenate(parts, dtype=np.float64))


def _changes(
    steps: Sequence[Step], beliefs: Sequence[Belief], intervals: Array
) -> tuple[Array, Array, Array]:
    """Matrix ``(B, D, D)``, shift ``(B, D)`` and noise ``(B, D, D)`` of every motion, and of hidden coordinates."""
    batch, state, size = len(steps), steps[0].model.motion.dimension, beliefs[0].means.shape[1]
    found = np.zeros((batch, size, size)), np.zeros((batch, size)), np.zeros((batch, size, size))
    for index, motion, control in by_motion(steps, beliefs):
        assert isinstance(motion, LinearMotion)
        rows = index.numpy()
        matrix, shift, noise = motion.change(torch.from_numpy(intervals[rows]), control)
        found[0][rows, :state, :state], found[1][rows, :state] = matrix.numpy(), shift.numpy()
        found[2][rows, :state, :state] = noise.numpy()
    if size > state:
        places = np.arange(state, size)
        found[0][:, places, places], found[2][:, places, places] = fading(beliefs, intervals)
    return found


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


def _outcomes(
    steps: Sequence[Step], found: Found, tables: Sequence[Array] | Sequence[None]
) -> list[Outcome | None]:
    """The outcome of each step; None where there is none."""
    weights, means, covariances = found.posterior
    columns = (found.method, found.counts, *found.numbers.T)
    errors = map(AccumulatedError, *found.errors[:, :3].T.tolist())
    outcomes: list[Outcome | None] = []
    rows = zip(steps, *(column.tolist() for column in columns), errors, tables, strict=True)
    for row, (step, method, count, size, evidence, p_value, error, table) in enumerate(rows):
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
        outcomes.append(Outcome(belief, size, evidence, p_value, METHODS[method], None, table, True))
    return outcomes
