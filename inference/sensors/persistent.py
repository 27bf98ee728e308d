"""Persistent errors: the part of a sensor's error that lasts from one report to the next.

The error of a reported number is noise, which is independent, plus persistent errors. Each of these is an
Ornstein-Uhlenbeck process, with a stationary deviation and a correlation time (G. E. Uhlenbeck and L. S. Ornstein, "On
the theory of the Brownian motion", Physical Review 36, 1930); of infinite correlation time it is a constant that is
not known. For each entity that the sensor reports about it is a hidden coordinate, after those of the state. Sensors
that name the same error share it.

An error adds to the reported number, or multiplies a part of it (`Gain`): a scale, for instance.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from beliefstream.inference.likelihood.observations import LINEAR

if TYPE_CHECKING:
    from collections.abc import Iterable

    from beliefstream.inference.sensors.readings import Sensor

MOST_ERRORS = 64  # of one entity at a time
MOST_GAIN = 0.5  # deviation of what multiplies: with more, the report is as likely to have the other sign
KEPT = 8192  # sensors over a state with hidden coordinates that are kept for the next batch


class PersistentError(NamedTuple):
    """An error that lasts; the same one has the same name and the same numbers.

    Attributes:
        name: what it is an error of.
        deviation: stationary standard deviation, in the reported unit.
        correlation_time: in seconds; infinite for a constant.
    """

    name: str
    deviation: float
    correlation_time: float = math.inf

    def check(self) -> None:
        """Raise ValueError, with the name of the argument, if a number is not positive, or a deviation not finite."""
        if not (self.deviation > 0 and math.isfinite(self.deviation)):
            raise ValueError(f"persistent_deviation: must be positive and finite, got {self.deviation}")
        if not self.correlation_time > 0:
            raise ValueError(f"correlation_time: must be positive, got {self.correlation_time}")


class Gain(NamedTuple):
    """How an error e multiplies: the report is of ``h + factor (h − reference) e``, and e has no unit of its own.

    Attributes:
        reference: what is not multiplied, in the unit of h.
        factor: share of the rest by which one unit of e changes it.
    """

    reference: float = 0.0
    factor: float = 1.0


class OfRow(NamedTuple):
    """A persistent error of one of a sensor's numbers; it adds to that number, or multiplies by its gain."""

    row: int
    error: PersistentError
    gain: Gain | None = None


def with_errors(sensor: Sensor, *errors: PersistentError, row: int = 0, gain: Gain | None = None) -> Sensor:
    """Return the sensor with persistent errors of the number at `row`, besides those that it has.

    Raises:
        ValueError: a number is out of its range, the sensor has no such row, its noise is not Gaussian, it is a
            composite, whose parts have errors of their own, or a problem, which has no noise; or, with a `gain`, it has
            another one already, reports an angle, or several numbers.
    """
    return replace(sensor, errors=(*sensor.errors, *(OfRow(row, error, gain) for error in errors)))


def require_room(errors: Iterable[PersistentError]) -> None:
    """Raise ValueError, with their names, if there are more errors than an entity may have at a time."""
    names = [error.name for error in errors]
    if len(names) > MOST_ERRORS:
        raise ValueError(
            f"persistent_deviation: {len(names)} errors that last, at most {MOST_ERRORS}: {', '.join(names)}"
        )


def errors_of(sensor: Sensor) -> tuple[PersistentError, ...]:
    """The persistent errors of a sensor and its parts."""
    own = tuple(each.error for each in sensor.errors)
    return own + tuple(error for part in sensor.parts for error in errors_of(part))


@functools.lru_cache(KEPT)
def over_hidden(sensor: Sensor, count: int, places: tuple[int, ...]) -> Sensor:
    """The sensor over the state and `count` hidden coordinates.

    Its errors and those of its parts, in the order of `errors_of`, are at `places` among these. An error adds to the
    reported number, so that its coefficient is one over the scale; one with a gain has none yet
    (`inference.tracking.gains`).
    """
    matrix = np.hstack([sensor.matrix, np.zeros((len(sensor.matrix), count))])
    heading = np.zeros(sensor.dimension + count)
    if sensor.heading is not None:
        heading[: sensor.dimension] = sensor.heading
    gain = None
    for error, place in zip(sensor.errors, places, strict=False):
        if error.gain is not None:
            gain = sensor.dimension + place, error.gain
        elif sensor.kind == LINEAR:
            matrix[error.row, sensor.dimension + place] += 1 / sensor.scale
        else:
            heading[sensor.dimension + place] -= 1 / sensor.scale
    parts, start = [], len(sensor.errors)
    for part in sensor.parts:
        end = start + len(errors_of(part))
        parts.append(over_hidden(part, count, places[start:end]))
        start = end
    return replace(
        sensor, matrix=matrix, heading=heading, parts=tuple(parts), errors=(), hidden=count, gain=gain
    )
