"""Converts observations to readings for the filter."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pymap3d

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.observations import RANGE
from beliefstream.inference.sensors import Reading, Sensor
from beliefstream.schemas import Geodetic, Observation, Reason, Unusable


@dataclass(frozen=True, eq=False)
class LocalPosition(Sensor):
    """A position sensor that reports latitude, longitude (and altitude), converted to metres from `origin`."""

    place: Geodetic | None = None

    def local(self, value: Array) -> Array:
        """Convert degrees and metres to metres east, north (and up); raises Unusable (`invalid`) for no valid place."""
        assert self.place is not None
        for index, (name, bound) in enumerate((("latitude", 90.0), ("longitude", 360.0))):
            if not abs(value[index]) <= bound:
                raise Unusable(Reason.invalid, f"value[{index}]: {value[index]} is no {name} in degrees")
        origin = (self.place.latitude, self.place.longitude, self.place.altitude)
        altitude = value[2] if len(value) > 2 else self.place.altitude
        metres = pymap3d.geodetic2enu(value[0], value[1], altitude, *origin)
        return np.array(metres[: len(value)], dtype=float)


def reading_of(observation: Observation, sensor: Sensor) -> Reading:
    """Convert one report of the sensor to a reading.

    Raises:
        Unusable: `wrong_length`, if the value or its covariance has another length than the sensor's values;
            `invalid_covariance`, if the square of its standard deviation is 0 or infinite, or it would apply to lengths
            and angles alike, or its covariance correlates numbers that have models of their own; `invalid`, if the
            value is no place on Earth.
    """
    value = value_of(observation, sensor.value_length)
    one_for_all = isinstance(observation.standard_deviation, float)
    if one_for_all and {part.kind for part in sensor.parts} > {RANGE}:
        raise Unusable(
            Reason.invalid_covariance,
            f"standard_deviation: {observation.sensor} reports a length and angles, expected one number each",
        )
    covariance = stated_covariance(observation, len(value))
    if covariance is not None and sensor.parts and np.any(covariance != np.diag(np.diag(covariance))):
        raise Unusable(
            Reason.invalid_covariance,
            f"covariance: the numbers of {observation.sensor} are independent, expected zeros beside the diagonal",
        )
    if isinstance(sensor, LocalPosition):
        value = sensor.local(value)
    return Reading(sensor, value, covariance)


def value_of(observation: Observation, length: int) -> Array:
    """The observation's numbers, ``(length,)``; raises Unusable if there are more or fewer."""
    value: Array = np.atleast_1d(np.array(observation.value, dtype=float))
    if len(value) != length:
        raise Unusable(
            Reason.wrong_length, f"value: {observation.sensor} reports {length} numbers, got {len(value)}"
        )
    return value


def stated_covariance(observation: Observation, length: int) -> Array | None:
    """The covariance sent with the observation, ``(length, length)``, if there is one; raises Unusable."""
    if observation.standard_deviation is not None:
        with np.errstate(over="ignore", under="ignore"):
            variances = np.square(np.array(observation.standard_deviation))
        if not np.all((variances > 0) & (variances < math.inf)):
            raise Unusable(
                Reason.invalid_covariance,
                f"standard_deviation: {observation.standard_deviation} has no square that is a positive number",
            )
        covariance: Array = np.eye(length) * variances
        return covariance
    if observation.covariance is None:
        return None
    if len(observation.covariance) != length:
        rows = len(observation.covariance)
        raise Unusable(
            Reason.wrong_length,
            f"covariance: {observation.sensor} reports {length} numbers, got {rows} rows",
        )
    return np.array(observation.covariance)
