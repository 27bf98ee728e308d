"""Sensors of lengths and derived quantities: range, speed, range rate, signal strength, time difference."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Matrix, Name, Number, Positive, Several, Vector, distinct
from beliefstream.schemas.sensors.base import (
    Channel,
    Placed,
    Scalable,
    ScalarSensor,
    SensorBase,
    as_many,
    one_noise,
)

SPEED_OF_LIGHT = 299_792_458.0  # metres per second
MOST_RECEIVERS = 32

MaximumRange = Annotated[
    Positive, Field(description="outliers are uniform on [0, maximum_range], in metres (the unit of h)")
]

PropagationSpeed = Annotated[
    Positive,
    Field(
        description="speed of the signal, in units of the coordinates per second; by default the speed of light"
    ),
]


class Length(Channel, Scalable):
    """One reported number that is a length, a distance or a speed: a report far below 0 is a dead letter."""


class RangeChannel(Length):
    """Noise, outliers and calibration of a reported distance."""

    maximum_range: MaximumRange = 100.0


class RangeSensor(Placed, RangeChannel, ScalarSensor):
    """Observes the distance of the entity from a place: h(state) = |coordinates - position|."""

    kind: Literal["range"] = "range"


class SpeedSensor(ScalarSensor, Length):
    """Observes the speed of the entity: h(state) = |coordinates|."""

    kind: Literal["speed"] = "speed"
    coordinates: Several[Name] = ("vx", "vy")
    """names of the velocity coordinates"""
    maximum_speed: Positive = 100.0
    """outliers are uniform on [0, maximum_speed], in the unit of the coordinates"""


class RangeRateSensor(Placed, ScalarSensor, Scalable):
    """Observes how fast the distance from a place grows (Doppler): h(state) = velocity along the line of sight."""

    kind: Literal["range_rate"] = "range_rate"
    velocities: Annotated[Several[Name], Field(validate_default=True)] = ("vx", "vy")
    """names of the velocities, in the order of the coordinates"""
    maximum_speed: Positive = 100.0
    """outliers are uniform on [-maximum_speed, maximum_speed], in the unit of the velocities"""

    @field_validator("velocities")
    @classmethod
    def _one_each(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        coordinates = info.data.get("coordinates")
        if coordinates is not None and len(velocities) != len(coordinates):
            raise PydanticCustomError("wrong_size", "expected one velocity for each of coordinates")
        if coordinates is not None and not distinct((*coordinates, *velocities)):
            raise PydanticCustomError("repeated_name", "expected velocities that are not among coordinates")
        return velocities

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Position coordinates, then velocities."""
        return (*self.coordinates, *self.velocities)


class SignalStrengthSensor(Placed, ScalarSensor):
    """Observes received power by the log-distance path loss model.

    h(state) = reference_power - 10 exponent log10(|coordinates - position| / reference_distance), in decibels.
    """

    kind: Literal["signal_strength"] = "signal_strength"
    reference_power: Number
    """power received at the reference distance, in dB (or dBm, as reported)"""
    exponent: Positive = 2.0
    """path loss exponent, 2 in free space; no unit"""
    reference_distance: Positive = 1.0
    """distance of reference_power, in the unit of the coordinates"""
    outlier_span: Positive = 100.0
    """width of the uniform density of outliers, in dB"""
    exponent_deviation: Positive | None = None
    """standard deviation of a constant error of the exponent that is not known, at most half of it; absent: there is
    none; no unit"""

    @field_validator("exponent_deviation")
    @classmethod
    def _below_exponent(cls, deviation: float | None, info: ValidationInfo) -> float | None:
        exponent = info.data.get("exponent")
        if deviation is not None and exponent is not None and deviation > exponent / 2:
            raise PydanticCustomError(
                "invalid_noise",
                "expected at most half of the exponent, {most}",
                {"most": f"{exponent / 2:g}"},
            )
        if deviation is not None and info.data.get("noise") is not None:
            raise PydanticCustomError(
                "invalid_noise", "expected none with a noise: the rest of the error must be Gaussian"
            )
        return deviation


class TimeDifferenceSensor(ScalarSensor, Scalable):
    """Observes the delay of a signal at the receiver `first` after the receiver `second`.

    h(state) = (|coordinates - first| - |coordinates - second|) / propagation_speed, in seconds. Outliers are uniform
    over all delays that the distance between the receivers allows.
    """

    kind: Literal["time_difference"] = "time_difference"
    coordinates: Several[Name] = ("x", "y")
    """names of the state coordinates of the entity's position"""
    first: Vector
    """position of the first receiver, in the units of the coordinates"""
    second: Vector
    """position of the second receiver, in the units of the coordinates"""
    propagation_speed: PropagationSpeed = SPEED_OF_LIGHT

    @field_validator("second")
    @classmethod
    def _elsewhere(cls, second: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        if second == info.data.get("first"):
            raise PydanticCustomError("invalid_place", "expected another position than first")
        return second


class TimeDifferencesSensor(SensorBase):
    """Observes the delays of a signal at several receivers, each after the first one, the reference.

    h(state) = (|coordinates - receiver| - |coordinates - reference|) / propagation_speed, in seconds. All differences
    share the error of the reference, so they are correlated. There are no outliers.
    """

    kind: Literal["time_differences"] = "time_differences"
    coordinates: Several[Name] = ("x", "y")
    """names of the state coordinates of the entity's position"""
    receivers: Annotated[
        tuple[Vector, ...], Field(fail_fast=True), Field(min_length=2, max_length=MOST_RECEIVERS)
    ]
    """positions of the receivers, in the units of the coordinates; the first is the reference"""
    standard_deviation: Positive | Annotated[tuple[Positive, ...], Field(fail_fast=True)] | None = None
    """standard deviation of the time of arrival at each receiver, one for all or one each, the reference's first, in
    seconds; all differences share the reference's"""
    covariance: Annotated[Matrix | None, Field(validate_default=True)] = None
    """covariance of the differences, in square seconds; instead of standard_deviation"""
    propagation_speed: PropagationSpeed = SPEED_OF_LIGHT

    @field_validator("receivers")
    @classmethod
    def _places(
        cls, receivers: tuple[tuple[float, ...], ...], info: ValidationInfo
    ) -> tuple[tuple[float, ...], ...]:
        for place in receivers:
            as_many(place, info, "coordinates")
        if len(set(receivers)) < len(receivers):
            raise PydanticCustomError("invalid_place", "expected each position once")
        return receivers

    @field_validator("standard_deviation")
    @classmethod
    def _one_each(
        cls, deviation: float | tuple[float, ...] | None, info: ValidationInfo
    ) -> float | tuple[float, ...] | None:
        return as_many(deviation, info, "receivers") if isinstance(deviation, tuple) else deviation

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        receivers = info.data.get("receivers")
        return one_noise(covariance, info, receivers[1:] if receivers else None)

    @property
    def value_length(self) -> int:
        """One delay for each receiver but the reference."""
        return len(self.receivers) - 1
