"""Base of all kinds of sensors.

A sensor reports `scale * h(state) + bias + noise`. The standard deviation is that of the reported number. So
`(value - bias) / scale` observes h(state) with the standard deviation `standard_deviation / |scale|`. Angles are in
radians, counter-clockwise from the first axis towards the second. For degrees use a scale of 180/pi. For a compass
(degrees clockwise from the second axis) use a scale of -180/pi and a bias of 90.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import MAXIMUM_COORDINATES, Matrix, Message, Name, Number, Vector, distinct
from beliefstream.schemas.sensors.noise import Noise

Coordinates = Annotated[
    tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)
]
PlaneCoordinates = Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=2, max_length=2)]
SpaceCoordinates = Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=3, max_length=3)]
PositiveNumber = Annotated[Number, Field(gt=0)]
OutlierProbability = Annotated[
    Number,
    Field(ge=0, le=0.9, description="probability that an observation is an outlier, 0 to 0.9; no unit"),
]


class SensorBase(Message):
    """Base of every kind of sensor."""

    defines: ClassVar[bool] = True
    most_parts: ClassVar[int] = (
        20_000  # 64 values with their covariance, or tables among a function's parameters
    )

    sensor: Annotated[Name, Field(description="name of the sensor; also the key of the record")]

    @field_validator("coordinates", "velocities", "inputs", check_fields=False)
    @classmethod
    def _distinct_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not distinct(names):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return names

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The state coordinates that the sensor observes."""
        names: tuple[str, ...] = getattr(self, "coordinates", ())
        return names

    @property
    def value_length(self) -> int:
        """Number of values in an observation of this sensor."""
        return 1


class Calibrated(Message):
    """Mixin for sensors with outliers and calibration."""

    outlier_probability: OutlierProbability = 0.0
    scale: Annotated[
        Number,
        Field(
            description="calibration: reported units per unit of h(state), not 0",
            json_schema_extra={"not": {"const": 0}},
        ),
    ] = 1.0
    bias: Annotated[
        Number, Field(description="calibration: added to scale * h(state), in the reported units")
    ] = 0.0

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise PydanticCustomError("invalid_scale", "expected a scale other than 0")
        return scale


class Channel(Calibrated):
    """One reported number: its noise, outliers and calibration."""

    standard_deviation: Annotated[
        PositiveNumber, Field(description="standard deviation of the noise, in the reported unit")
    ]
    noise: Annotated[Noise | None, Field(description="non-Gaussian noise; absent: the noise is Gaussian")] = (
        None
    )

    @field_validator("noise")
    @classmethod
    def _leaves_inliers(cls, noise: Noise | None, info: ValidationInfo) -> Noise | None:
        outliers = info.data.get("outlier_probability")
        if noise is not None and outliers is not None and outliers + noise.clutter_probability >= 1:
            raise PydanticCustomError(
                "invalid_noise",
                "expected probabilities of clutter and outliers with a sum below 1, got {total}",
                {"total": f"{outliers + noise.clutter_probability:g}"},
            )
        return noise


class ScalarSensor(Channel, SensorBase):
    """A sensor that reports one number."""


class Placed(Message):
    """A sensor or landmark at a known place."""

    coordinates: Annotated[
        Coordinates, Field(description="names of the state coordinates of the entity's position")
    ] = ("x", "y")
    position: Annotated[
        Vector, Field(description="position of the sensor or landmark, in the units of the coordinates")
    ]

    moves: Annotated[
        bool,
        Field(
            strict=True,
            description="whether it moves: every observation must then state its position, and the one here is "
            "not used",
        ),
    ] = False

    @field_validator("position")
    @classmethod
    def _as_long(cls, position: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        return as_many(position, info, "coordinates")


StandardDeviation = Annotated[
    PositiveNumber | None,
    Field(description="standard deviation of the noise of every number, in the reported units"),
]
Covariance = Annotated[
    Matrix | None,
    Field(
        description="covariance of the noise, in the squared reported units; instead of standard_deviation",
        validate_default=True,
    ),
]


def one_noise(
    covariance: Matrix | None, info: ValidationInfo, values: tuple[Any, ...] | None
) -> Matrix | None:
    """Check that the noise is given in exactly one way, and that the covariance fits the number of values."""
    if "standard_deviation" in info.data and (info.data["standard_deviation"] is None) == (
        covariance is None
    ):
        raise PydanticCustomError(
            "invalid_noise", "expected exactly one of standard_deviation and covariance"
        )
    return (
        None if covariance is None else covariance_checks.checked(covariance, len(values) if values else None)
    )


def as_many(numbers: tuple[float, ...], info: ValidationInfo, field: str) -> tuple[float, ...]:
    """Check that there is one number for each name in another field."""
    names = info.data.get(field)
    if names is not None and len(numbers) != len(names):
        raise PydanticCustomError(
            "wrong_size",
            "expected {expected} numbers, one for each of {field}",
            {"expected": len(names), "field": field},
        )
    return numbers
