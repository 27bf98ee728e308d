"""Converts observations for inference: to readings of sensors, or to inputs of a motion."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import ClassVar

import msgspec
import numpy as np
import pymap3d

from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.likelihood.observations import RANGE
from beliefstream.inference.likelihood.problems import ONE
from beliefstream.inference.sensors import (
    Reading,
    SatelliteSensor,
    Sensor,
    TimeDifferences,
    WrongLength,
    needs_position,
    placed,
)
from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.schemas import ControlSensor, Geodetic, Model, Observation, Reason, Unusable
from beliefstream.schemas.base import MAXIMUM_VALUES, is_name
from beliefstream.schemas.time import EARLIEST, LATEST

MOST_BYTES = 1024  # longer messages may have more parts than `Observation` accepts
_ID = re.compile(r"[ -~]{1,128}")  # printable ASCII, a part of `schemas.base.Identifier`


class PlainObservation(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """An observation without noise or a position of its own; its fields are those of `schemas.Observation`."""

    standard_deviation: ClassVar[None] = None
    covariance: ClassVar[None] = None
    position: ClassVar[None] = None
    velocity: ClassVar[None] = None
    orientation: ClassVar[None] = None

    entity: str
    sensor: str
    time: float
    value: float | list[float]
    id: str | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The value as a tuple, also if it is a single number."""
        return tuple(self.value) if isinstance(self.value, list) else (self.value,)


AnyObservation = Observation | PlainObservation

_decode = msgspec.json.Decoder(PlainObservation, strict=True).decode


def plain_observation(raw: bytes) -> PlainObservation | None:
    """Return the observation, or None for a message that `schemas.parse` must decide about.

    pydantic takes several times as long, most of it for checks in Python. `plain_observation` accepts a part of what
    `schemas.Observation` accepts: short messages without noise of their own. It returns None for all others, and the
    caller parses these with `schemas.parse`, which gives the full error. So the set of accepted messages is that of
    `schemas.Observation`.
    """
    if len(raw) > MOST_BYTES:
        return None
    try:
        found = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    value = found.value
    if (
        not EARLIEST <= found.time <= LATEST
        or not (is_name(found.entity.encode()) and is_name(found.sensor.encode()))
        or (isinstance(value, list) and not 1 <= len(value) <= MAXIMUM_VALUES)
        or (found.id is not None and _ID.fullmatch(found.id) is None)
    ):
        return None
    return found


@dataclass(frozen=True, eq=False)
class LocalPosition(Sensor):
    """A position sensor whose reports are latitude and longitude (and altitude), converted to metres from an origin."""

    geodetic_origin: Geodetic | None = None

    def local(self, value: Array) -> Array:
        """Convert degrees and metres to metres east, north (and up).

        Raises:
            Unusable: `invalid` if the latitude or longitude is out of range.
        """
        assert self.geodetic_origin is not None
        for index, (name, bound) in enumerate((("latitude", 90.0), ("longitude", 360.0))):
            if not abs(value[index]) <= bound:
                raise Unusable(Reason.invalid, f"value[{index}]: {value[index]} is not a {name} in degrees")
        origin = self.geodetic_origin
        altitude = value[2] if len(value) > 2 else origin.altitude
        metres = pymap3d.geodetic2enu(
            value[0], value[1], altitude, origin.latitude, origin.longitude, origin.altitude
        )
        return np.array(metres[: len(value)], dtype=float)


def reading_of(observation: AnyObservation, sensor: Sensor) -> Reading:
    """Convert one report of the sensor to a reading.

    Raises:
        Unusable: `wrong_length` if the value, its covariance, the position or the orientation has another length than
            the sensor's. `invalid` if the value is not a place on Earth, or lies outside the domain of a problem's
            data; if a position or orientation is stated for a sensor without one, or the position of one that moves is
            not; if a satellite is below the horizon, or its place or velocity is missing. `impossible` if a pseudorange
            exceeds the sensor's `maximum_clock`. `invalid_definition` if a problem fails on the observation's context.
            `invalid_covariance` if a standard deviation has no positive finite square or is given to a problem, one
            standard deviation is given for both lengths and angles or for time differences, or the covariance
            correlates the numbers of a composite sensor.
    """
    if isinstance(observation, PlainObservation) and _is_direct(sensor):  # nearly all are
        return Reading(sensor, value_of(observation, sensor.value_length))
    if isinstance(sensor, SatelliteSensor):
        return _of_satellite(observation, sensor)
    if observation.velocity is not None:
        raise Unusable(
            Reason.invalid, f"velocity: {observation.sensor} takes none, only a pseudorange_rate does"
        )
    if observation.position is not None or observation.orientation is not None or needs_position(sensor):
        sensor = _placed(observation, sensor)
    if sensor.problem is not None:
        return _of_problem(observation, sensor)
    value = value_of(observation, sensor.value_length)
    one_for_all = isinstance(observation.standard_deviation, float)
    if one_for_all and {part.kind for part in sensor.parts} > {RANGE}:
        raise Unusable(
            Reason.invalid_covariance,
            f"standard_deviation: {observation.sensor} reports a length and angles, expected one number each",
        )
    if isinstance(sensor, TimeDifferences) and observation.standard_deviation is not None:
        raise Unusable(
            Reason.invalid_covariance,
            f"standard_deviation: the differences of {observation.sensor} share the error of its reference, state "
            "their covariance",
        )
    covariance = stated_covariance(observation, len(value))
    independent = sensor.parts and not isinstance(sensor, TimeDifferences)
    if covariance is not None and independent and np.any(covariance != np.diag(np.diag(covariance))):
        raise Unusable(
            Reason.invalid_covariance,
            f"covariance: the numbers of {observation.sensor} are independent, expected zeros off the diagonal",
        )
    if isinstance(sensor, LocalPosition):
        value = sensor.local(value)
    return Reading(sensor, value, covariance)


@functools.lru_cache(4096)
def _is_direct(sensor: Sensor) -> bool:
    """Whether plain reports of the sensor need no position, no conversion and no check but that of their length."""
    special = isinstance(sensor, (LocalPosition, SatelliteSensor)) or sensor.problem is not None
    return not (special or needs_position(sensor))


def _placed(observation: AnyObservation, sensor: Sensor) -> Sensor:
    """The sensor where the observation says that it was."""
    if observation.position is None and needs_position(sensor):
        raise Unusable(
            Reason.invalid, f"position: {observation.sensor} moves, so that each observation must state it"
        )
    try:
        return placed(sensor, observation.position, observation.orientation)
    except ValueError as error:
        reason = Reason.wrong_length if isinstance(error, WrongLength) else Reason.invalid
        raise Unusable(reason, f"{error}; the sensor is {observation.sensor}") from error


def _of_satellite(observation: AnyObservation, sensor: SatelliteSensor) -> Reading:
    """Convert a report that states where its satellite was."""
    velocity = observation.velocity
    if (
        observation.position is None
        or observation.orientation is not None
        or (velocity is None) == sensor.has_rate
    ):
        wanted = "position and velocity" if sensor.has_rate else "position"
        raise Unusable(
            Reason.invalid, f"position: {observation.sensor} needs the {wanted} of its satellite, and no more"
        )
    if len(observation.position) != 3:
        raise Unusable(Reason.wrong_length, f"position: expected 3 numbers, got {len(observation.position)}")
    value, *strength = value_of(observation, sensor.reported_length).tolist()
    if isinstance(observation.standard_deviation, tuple):
        raise Unusable(Reason.invalid_covariance, "standard_deviation: expected one number")
    try:
        reading = sensor.reading(value, observation.position, velocity, *strength)
    except ValueError as error:
        raise Unusable(Reason.invalid, f"{error}; the sensor is {observation.sensor}") from error
    if abs(reading.value[0] / sensor.scale) > sensor.maximum_clock:
        raise Unusable(
            Reason.impossible,
            f"value: {value} is {reading.value[0] / sensor.scale:.6g} m more than from the origin, which exceeds "
            f"maximum_clock, {sensor.maximum_clock:g} m; the sensor is {observation.sensor}",
        )
    covariance = stated_covariance(observation, 1)
    return reading if covariance is None else Reading(reading.sensor, reading.value, covariance)


def _of_problem(observation: AnyObservation, sensor: Sensor) -> Reading:
    """Convert a report to a problem, which has no noise beside its likelihood."""
    assert sensor.problem is not None
    if sensor.problem.rows == ONE:
        value = value_of(observation, sensor.value_length)
    else:
        try:
            value = sensor.filled(np.atleast_1d(np.array(observation.value, dtype=float)))
        except ValueError as error:
            raise Unusable(Reason.wrong_length, f"value: {observation.sensor}: {error}") from error
    if observation.standard_deviation is not None or observation.covariance is not None:
        raise Unusable(
            Reason.invalid_covariance,
            f"standard_deviation: {observation.sensor} has a likelihood of its own, expected no noise",
        )
    try:
        numbers = sensor.numbers(value)
    except ValueError as error:
        raise Unusable(Reason.invalid, f"value: {error}") from error
    try:
        sensor.problem.check_context(numbers[sensor.problem.data_length :].tolist())
    except ValueError as error:
        raise Unusable(
            Reason.invalid_definition, f"sensor: {observation.sensor} cannot be used: {error}"
        ) from error
    return Reading(sensor, value)


def value_of(observation: AnyObservation, length: int) -> Array:
    """Return the observation's numbers, ``(length,)``; raises Unusable, `wrong_length`, for another number."""
    value = observation.value
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    if len(numbers) != length:
        raise Unusable(
            Reason.wrong_length, f"value: {observation.sensor} reports {_numbers(length)}, got {len(numbers)}"
        )
    found: Array = np.array(numbers, dtype=float)
    return found


def _numbers(count: int) -> str:
    return "1 number" if count == 1 else f"{count} numbers"


def stated_covariance(observation: AnyObservation, length: int) -> Array | None:
    """Return the covariance stated in the observation, ``(length, length)``, or None.

    Raises:
        Unusable: `invalid_covariance` if a standard deviation has no positive finite square; `wrong_length` if the
            covariance has another size.
    """
    if observation.standard_deviation is not None:
        with np.errstate(over="ignore", under="ignore"):
            variances = np.square(np.array(observation.standard_deviation))
        if not np.all((variances > 0) & (variances < math.inf)):
            raise Unusable(
                Reason.invalid_covariance,
                f"standard_deviation: {observation.standard_deviation} has no positive finite square",
            )
        covariance: Array = np.eye(length) * variances
        return covariance
    if observation.covariance is None:
        return None
    if len(observation.covariance) != length:
        rows = len(observation.covariance)
        raise Unusable(
            Reason.wrong_length,
            f"covariance: {observation.sensor} reports {_numbers(length)}, got {rows} rows",
        )
    return np.array(observation.covariance)


def control_of(observation: AnyObservation, sensor: ControlSensor, model: Model) -> ControlReading:
    """Convert one report to inputs of the model's motion, without the sensor's calibration.

    Noise stated in the observation replaces the sensor's.

    Raises:
        Unusable: `missing_coordinates` if the motion lacks one of the inputs; `wrong_length` if the value or its
            covariance has another length; `invalid_covariance` if its standard deviation has no positive finite square.
    """
    known = model.motion.input_names
    missing = [name for name in sensor.inputs if name not in known]
    if missing:
        raise Unusable(
            Reason.missing_coordinates,
            f"sensor: {sensor.sensor} reports the inputs {', '.join(missing)}; the motion {model.motion.kind} of "
            f"{model.name} takes {', '.join(known) or 'none'}",
        )
    value = value_of(observation, sensor.value_length)
    covariance = stated_covariance(observation, len(value))
    if covariance is None:
        covariance = np.array(sensor.noise_covariance, dtype=float)
    scale = np.broadcast_to(np.array(sensor.scale, dtype=float), value.shape)
    value, covariance = (value - np.array(sensor.bias)) / scale, covariance / np.outer(scale, scale)
    return ControlReading(value, covariance, tuple(known.index(name) for name in sensor.inputs))
