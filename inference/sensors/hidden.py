"""Sensors with errors that last, and what they are over a state with these as hidden coordinates."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np

from beliefstream.inference.likelihood.observations import LINEAR
from beliefstream.inference.sensors.persistent import Gain, OfRow, PersistentError
from beliefstream.inference.sensors.readings import Sensor

KEPT = 8192  # sensors over a state with hidden coordinates that are kept for the next batch


def with_errors(sensor: Sensor, *errors: PersistentError, row: int = 0, gain: Gain | None = None) -> Sensor:
    """Return the sensor with persistent errors of the number at `row`, besides those that it has.

    Raises:
        ValueError: a number is out of its range, the sensor has no such row, its noise is not Gaussian, it is a
            composite, whose parts have errors of their own, or a problem, which has no noise; or, with a `gain`, it has
            another one already, reports an angle, or several numbers.
    """
    return replace(sensor, errors=(*sensor.errors, *(OfRow(row, error, gain) for error in errors)))


@functools.lru_cache(KEPT)
def over_hidden(sensor: Sensor, count: int, places: tuple[int, ...]) -> Sensor:
    """The sensor over the state and `count` hidden coordinates.

    Its errors and those of its parts, in the order of `Sensor.all_errors`, are at `places` among these. An error
    adds to the reported number, so that its coefficient is one over the scale; one with a gain has none yet
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
        end = start + len(part.all_errors)
        parts.append(over_hidden(part, count, places[start:end]))
        start = end
    return replace(
        sensor, matrix=matrix, heading=heading, parts=tuple(parts), errors=(), hidden=count, gain=gain
    )
