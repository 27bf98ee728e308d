"""Sensors of coordinates: position, linear combinations, latitude and longitude."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import (
    MAXIMUM_COORDINATES,
    MAXIMUM_VALUES,
    Matrix,
    Message,
    Name,
    Number,
    Several,
)
from beliefstream.schemas.sensors.base import (
    Calibrated,
    Covariance,
    Lasting,
    Noise,
    OutlierProbability,
    Scalable,
    SensorBase,
    Shared,
    StandardDeviation,
    one_noise,
    with_gaussian_noise,
)

NoiseOfOne = Annotated[
    Noise | None,
    Field(description="non-Gaussian noise, only for a sensor of one number; absent: the noise is Gaussian"),
]


class VectorSensor(SensorBase):
    """Base of sensors that report several numbers with one covariance."""

    numbered: ClassVar[str] = "coordinates"
    """The field with an entry for each number."""

    @field_validator("covariance", check_fields=False)
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return one_noise(covariance, info, info.data.get(cls.numbered))

    @field_validator("noise", check_fields=False)
    @classmethod
    def _of_one_number(cls, noise: Noise | None, info: ValidationInfo) -> Noise | None:
        """Check that non-Gaussian noise is for one number, without other outliers."""
        values = info.data.get(cls.numbered)
        if noise is not None and values is not None and len(values) != 1:
            raise PydanticCustomError(
                "invalid_noise",
                "expected no noise for a sensor of {length} numbers; only a sensor of one number may have it",
                {"length": len(values)},
            )
        if noise is not None and info.data.get("outlier_probability"):
            raise PydanticCustomError(
                "invalid_noise",
                "expected an outlier_probability of 0 with noise; describe outliers as a component",
            )
        return with_gaussian_noise(noise, info)

    @property
    def value_length(self) -> int:
        return len(getattr(self, self.numbered))


class PositionSensor(Shared, Calibrated, Lasting, VectorSensor):
    """Observes coordinates of the state: h(state) is the coordinates, in the given order.

    An outlier has ten times the standard deviation.
    """

    kind: Literal["position"] = "position"
    coordinates: Several[Name] = ("x", "y")
    """names of the state coordinates observed"""
    standard_deviation: StandardDeviation = None
    """standard deviation of the noise of every number, in the reported units"""
    covariance: Covariance = None
    """covariance of the noise, in the squared reported units; instead of standard_deviation"""
    noise: NoiseOfOne = None


class LinearSensor(Shared, Calibrated, Lasting, Scalable, VectorSensor):
    """Observes linear combinations of the state: each row gives one number, the sum of coefficient times coordinate.

    An outlier has ten times the standard deviation.
    """

    numbered: ClassVar[str] = "rows"

    kind: Literal["linear"] = "linear"
    rows: Annotated[
        tuple[Annotated[dict[Name, Number], Field(min_length=1, max_length=MAXIMUM_COORDINATES)], ...],
        Field(fail_fast=True),
        Field(min_length=1, max_length=MAXIMUM_VALUES),
    ]
    """coefficients of each reported number by the name of the coordinate, in the unit of h per unit of the
    coordinate"""
    standard_deviation: StandardDeviation = None
    """standard deviation of the noise of every number, in the reported units"""
    covariance: Covariance = None
    """covariance of the noise, in the squared reported units; instead of standard_deviation"""
    noise: NoiseOfOne = None

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the coordinates in the rows, in the order of their first occurrence."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))


class Geodetic(Message):
    """A place given by latitude, longitude and altitude on the WGS 84 ellipsoid."""

    latitude: Annotated[Number, Field(ge=-90, le=90)]
    """geodetic latitude in degrees, north positive"""
    longitude: Annotated[Number, Field(ge=-180, le=180)]
    """longitude in degrees, east positive"""
    altitude: Number = 0.0
    """height above the ellipsoid, in metres"""


class GeodeticSensor(Shared, Lasting, VectorSensor):
    """Observes latitude and longitude in degrees, and altitude in metres if there is a third coordinate.

    The coordinates are metres east, north (and up) in the plane that touches the ellipsoid at the origin. The noise is
    in metres too, also in an observation. An outlier has ten times the standard deviation.
    """

    kind: Literal["geodetic"] = "geodetic"
    outlier_probability: OutlierProbability = 0.0
    origin: Geodetic
    """place at which the coordinates are 0"""
    coordinates: Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=2, max_length=3)] = (
        "x",
        "y",
    )
    """names of the state coordinates in metres east, north and, if altitude is reported, up"""
    standard_deviation: StandardDeviation = None
    """standard deviation of the noise, the same east, north and up, in metres"""
    covariance: Covariance = None
    """covariance of the noise east, north (and up), in square metres; instead of standard_deviation"""
