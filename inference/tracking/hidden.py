"""Hidden coordinates of beliefs: errors of sensors that last, after the coordinates of the state.

A belief gets one for each persistent error (`inference.sensors.persistent`) at the first report that has it, with
mean zero, the stationary variance, and no correlation. It fades as its process does, and is marginalised out after
`LASTING` correlation times without such a report, or when a report has an error of that name with other numbers: then
the sensor's definition has changed, and its error starts anew. Where there are more than `MOST_ERRORS`, those that are
silent for the longest time go first. The coordinates are in order of their names, so that they do not depend on the
order of arrival.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from beliefstream.inference.sensors.hidden import over_hidden
from beliefstream.inference.sensors.persistent import MOST_ERRORS, PersistentError, require_room
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import NO_HIDDEN, Belief, Hidden, Step
from beliefstream.inference.tracking.outcomes import Outcome

Array = NDArray[np.float64]

LASTING = 4.0  # correlation times of silence, after which exp(-4) of an error is left


def prepared(step: Step) -> Step:
    """Return the step with the hidden coordinates of its instant, over which its readings are then.

    Raises ValueError if the readings have more than `MOST_ERRORS`, or two of them different ones of one name.
    """
    readings, belief = step.instant.readings, step.belief
    reported = any(reading.sensor.has_errors for reading in readings)
    if not reported and (belief is None or not belief.hidden.errors):
        return step
    time = step.instant.time
    if belief is None:
        belief = replace(step.model.prior, time=time)
    belief = _arranged(belief, _hidden_at(time, belief.hidden, _reported(readings)))
    places = places_of(belief.hidden.errors)
    instant = replace(step.instant, readings=tuple(_over(reading, places) for reading in readings))
    return replace(step, belief=belief, instant=instant)


def _reported(readings: Iterable[Reading]) -> dict[str, PersistentError]:
    """The errors of the readings by their names."""
    found: dict[str, PersistentError] = {}
    for reading in readings:
        if reading.sensor.has_errors:
            for error in reading.sensor.all_errors:
                if found.setdefault(error.name, error) != error:
                    raise ValueError(f"persistent_deviation: {found[error.name]} and {error} have one name")
    return found


def _hidden_at(time: float, before: Hidden, reported: dict[str, PersistentError]) -> Hidden:
    """The hidden coordinates after reports with these errors."""
    known, times = places_of(before.errors), list(before.seen)
    for name, error in reported.items():
        place = known.get(name)
        if place is None or before.errors[place] != error:
            break
        times[place] = time
    else:
        if all(time - last <= LASTING * error[2] for error, last in zip(before.errors, times, strict=True)):
            return Hidden(before.errors, tuple(times))  # nearly always
    seen = dict.fromkeys(reported.values(), time)
    for error, last in zip(*before, strict=True):
        if (
            error not in seen
            and error.name not in reported
            and time - last <= LASTING * error.correlation_time
        ):
            seen[error] = last
    if len(seen) > MOST_ERRORS:
        require_room(reported.values())
        newest = sorted(seen, key=lambda error: (-seen[error], error))
        seen = {error: seen[error] for error in newest[:MOST_ERRORS]}
    errors = tuple(sorted(seen))
    return Hidden(errors, tuple(seen[error] for error in errors))


def _arranged(belief: Belief, hidden: Hidden) -> Belief:
    """The belief with these hidden coordinates: new ones are added, and others marginalised out."""
    before = belief.hidden
    if before.errors == hidden.errors:
        return replace(belief, hidden=hidden)
    old, new = len(before.errors), len(hidden.errors)
    (count, size), known = belief.means.shape, {error: place for place, error in enumerate(before.errors)}
    state = size - old
    places = [place for place, error in enumerate(hidden.errors) if error in known]
    to = np.array([*range(state), *(state + place for place in places)])
    of = np.array([*range(state), *(state + known[hidden.errors[place]] for place in places)])
    means, covariances = np.zeros((count, state + new)), np.zeros((count, state + new, state + new))
    covariances[:, range(state, state + new), range(state, state + new)] = processes(hidden.errors)[0]
    means[:, to] = belief.means[:, of]
    covariances[:, to[:, None], to] = belief.covariances[:, of[:, None], of]
    return replace(belief, means=means, covariances=covariances, hidden=hidden)


def _over(reading: Reading, places: dict[str, int]) -> Reading:
    sensor = reading.sensor
    own = tuple([places[error.name] for error in sensor.all_errors]) if sensor.has_errors else ()
    return replace(reading, sensor=over_hidden(sensor, len(places), own))


def with_hidden(outcome: Outcome, step: Step) -> Outcome:
    """Return the outcome of a prepared step with the hidden coordinates of its belief, unless a prior replaced them."""
    if step.belief is None or not step.belief.hidden.errors:
        return outcome
    belief = outcome.belief
    if belief.means.shape[1] == step.model.motion.dimension:
        return outcome
    return replace(outcome, belief=replace(belief, hidden=step.belief.hidden))


def state_part(belief: Belief) -> Belief:
    """Return the marginal over the state, without hidden coordinates."""
    if not belief.hidden.errors:
        return belief
    state = belief.means.shape[1] - len(belief.hidden.errors)
    means, covariances = belief.means[:, :state], belief.covariances[:, :state, :state]
    return replace(belief, means=means, covariances=covariances, hidden=NO_HIDDEN)


@functools.lru_cache(4096)
def places_of(errors: tuple[PersistentError, ...]) -> dict[str, int]:
    """The place of each error by its name."""
    return {error.name: place for place, error in enumerate(errors)}


@functools.lru_cache(4096)
def processes(errors: tuple[PersistentError, ...]) -> tuple[Array, Array]:
    """Stationary variances and rates, 1/s, of errors, ``(m,)``."""
    variances = np.array([error.deviation**2 for error in errors])
    return variances, np.array([1 / error.correlation_time for error in errors])


def fading(beliefs: Sequence[Belief], intervals: Array) -> tuple[Array, Array]:
    """Factors and added variances ``(B, m)`` of the hidden coordinates of beliefs after intervals ``(B,)``, seconds."""
    each = [processes(belief.hidden.errors) for belief in beliefs]
    variances, rates = np.array([one[0] for one in each]), np.array([one[1] for one in each])
    passed = rates * intervals[:, None]
    return np.exp(-passed), variances * -np.expm1(-2 * passed)
