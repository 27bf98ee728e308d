"""Observation: a sensor's report about one entity at one time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import (
    MAXIMUM_COORDINATES,
    MAXIMUM_VALUES,
    Identifier,
    Matrix,
    Message,
    Name,
    Number,
    Positive,
    Vector,
)
from beliefstream.schemas.time import Time


class Observation(Message):
    """One observation. Noise, position and orientation stated here replace those in the sensor's definition."""

    most_parts: ClassVar[int] = 5_000  # 64 values with their covariance

    entity: Name
    """entity that is observed; also the key of the record, whose murmur2 hash gives the partition"""
    sensor: Name
    """name of the sensor, as defined on the topic of sensors"""
    time: Time
    """time of the observed state (phenomenon time): seconds since the epoch UTC, or RFC 3339"""
    value: Number | Annotated[Vector, Field(min_length=1, max_length=MAXIMUM_VALUES)]
    """reported number or numbers, in the units of the sensor"""
    standard_deviation: (
        Positive
        | Annotated[
            tuple[Positive, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_VALUES)
        ]
        | None
    ) = None
    """standard deviation of the noise, one for all numbers in value or one each, in the units of the value (in metres
    for latitude and longitude)"""
    covariance: Matrix | None = None
    """covariance of the noise, in the squared units of the value (in square metres for latitude and longitude); instead
    of standard_deviation"""
    position: Annotated[Vector, Field(min_length=1, max_length=MAXIMUM_COORDINATES)] | None = None
    """position of the sensor (or landmark) at that time, if it moves, in the units of its coordinates; only for sensors
    whose definition has a position. For a pseudorange and its rate, always: the satellite's at transmission, in metres,
    Earth-centred and Earth-fixed (ECEF)"""
    velocity: Annotated[Vector, Field(min_length=3, max_length=3)] | None = None
    """velocity of the satellite, in metres per second, ECEF; only for a pseudorange rate"""
    orientation: Number | Annotated[Vector, Field(min_length=1, max_length=3)] | None = None
    """orientation of the sensor at that time, in radians: one angle in the plane, or yaw, pitch and roll in space; only
    for sensors whose definition has an orientation"""
    id: Identifier | None = None
    """identifier chosen by the producer, repeated in the posterior; no unit"""

    @field_validator("standard_deviation")
    @classmethod
    def _one_each(
        cls, deviation: float | tuple[float, ...] | None, info: ValidationInfo
    ) -> float | tuple[float, ...] | None:
        value = info.data.get("value")
        size = len(value) if isinstance(value, tuple) else 1
        if isinstance(deviation, tuple) and value is not None and len(deviation) != size:
            raise PydanticCustomError(
                "wrong_length", "expected one number, or {size} as in value", {"size": size}
            )
        return deviation

    # Runs only if a covariance is given, so scalar observations (ten thousand a second) have no extra cost.
    @field_validator("covariance")
    @classmethod
    def _fits_the_value(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        if covariance is None:
            return None
        if info.data.get("standard_deviation") is not None:
            raise PydanticCustomError(
                "invalid_noise", "expected either standard_deviation or covariance, not both"
            )
        value = info.data.get("value")
        size = None if value is None else len(value) if isinstance(value, tuple) else 1
        return covariance_checks.checked(covariance, size)

    @property
    def values(self) -> tuple[float, ...]:
        """The value as a tuple, also if it is a single number."""
        return self.value if isinstance(self.value, tuple) else (self.value,)
