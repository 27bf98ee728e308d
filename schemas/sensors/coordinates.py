"""Sensors of coordinates: position, linear combinations, latitude and longitude."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import MAXIMUM_COORDINATES, MAXIMUM_VALUES, Matrix, Message, Name, Number
from beliefstream.schemas.sensors.base import (
    Calibrated,
    Coordinates,
    Covariance,
    OutlierProbability,
    SensorBase,
    StandardDeviation,
    one_noise,
)
from beliefstream.schemas.sensors.noise import Noise

NoiseOfOne = Annotated[
    Noise | None,
    Field(description="what is not Gaussian about the noise, of a sensor of one number; absent: nothing"),
]


class PositionSensor(Calibrated, SensorBase):
    """Observes coordinates of the state: h(state) = the coordinates, in the order given.

    An outlier has noise ten times as wide.
    """

    kind: Annotated[Literal["position"], Field(description="of the sensor: position")] = "position"
    coordinates: Annotated[Coordinates, Field(description="names of the state coordinates observed")] = (
        "x",
        "y",
    )
    standard_deviation: StandardDeviation = None
    covariance: Covariance = None
    noise: NoiseOfOne = None

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return one_noise(covariance, info, info.data.get("coordinates"))

    @field_validator("noise")
    @classmethod
    def _of_one_number(cls, noise: Noise | None, info: ValidationInfo) -> Noise | None:
        return _of_one(noise, info, info.data.get("coordinates"))

    @property
    def value_length(self) -> int:
        """One number per coordinate."""
        return len(self.coordinates)


class LinearSensor(Calibrated, SensorBase):
    """Observes linear combinations of the state: one number per row, the sum of coefficient times coordinate.

    An outlier has noise ten times as wide.
    """

    kind: Annotated[Literal["linear"], Field(description="of the sensor: linear")] = "linear"
    rows: Annotated[
        tuple[Annotated[dict[Name, Number], Field(min_length=1, max_length=MAXIMUM_COORDINATES)], ...],
        Field(fail_fast=True),
        Field(
            min_length=1,
            max_length=MAXIMUM_VALUES,
            description="for each reported number: coefficients by the name of the coordinate, in the unit "
            "of h per unit of the coordinate",
        ),
    ]
    standard_deviation: StandardDeviation = None
    covariance: Covariance = None
    noise: NoiseOfOne = None

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return one_noise(covariance, info, info.data.get("rows"))

    @field_validator("noise")
    @classmethod
    def _of_one_number(cls, noise: Noise | None, info: ValidationInfo) -> Noise | None:
        return _of_one(noise, info, info.data.get("rows"))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the state coordinates in the rows, in order of their first occurrence."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def value_length(self) -> int:
        """One number per row."""
        return len(self.rows)


class Geodetic(Message):
    """A place given by latitude, longitude and altitude on the WGS 84 ellipsoid."""

    latitude: Annotated[Number, Field(ge=-90, le=90, description="geodetic, in degrees, north positive")]
    longitude: Annotated[Number, Field(ge=-180, le=180, description="in degrees, east positive")]
    altitude: Annotated[Number, Field(description="above the ellipsoid, in metres")] = 0.0


class GeodeticSensor(SensorBase):
    """Observes latitude and longitude in degrees, and altitude in metres if there is a third coordinate.

    The coordinates are metres east, north (and up) in the plane that touches the ellipsoid at the origin. The noise is
    in metres too, also if an observation gives its own. An outlier has noise ten times as wide.
    """

    kind: Annotated[Literal["geodetic"], Field(description="of the sensor: geodetic")] = "geodetic"
    outlier_probability: OutlierProbability = 0.0
    origin: Annotated[Geodetic, Field(description="where the coordinates are 0")]
    coordinates: Annotated[
        tuple[Name, ...],
        Field(fail_fast=True),
        Field(
            min_length=2,
            max_length=3,
            description="names of the state coordinates in metres east, north and, if altitude is reported, up",
        ),
    ] = ("x", "y")
    standard_deviation: Annotated[
        StandardDeviation, Field(description="of the noise east, north and up alike, in metres")
    ] = None
    covariance: Annotated[
        Covariance,
        Field(
            description="of the noise east, north (and up), in square metres; instead of standard_deviation",
            validate_default=True,
        ),
    ] = None

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return one_noise(covariance, info, info.data.get("coordinates"))

    @property
    def value_length(self) -> int:
        """One number per coordinate."""
        return len(self.coordinates)


def _of_one(noise: Noise | None, info: ValidationInfo, values: tuple[Any, ...] | None) -> Noise | None:
    """Check that the noise is for one number, without other outliers."""
    if noise is not None and values is not None and len(values) != 1:
        raise PydanticCustomError(
            "invalid_noise",
            "expected none with {length} reported numbers, only with one",
            {"length": len(values)},
        )
    if noise is not None and info.data.get("outlier_probability"):
        raise PydanticCustomError(
            "invalid_noise", "expected an outlier_probability of 0 beside it: say outliers as a component"
        )
    return noise
