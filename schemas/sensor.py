"""What a sensor measures: h(state), its noise, its outliers and its calibration.

A sensor reports `scale * h(state) + bias + noise`. The standard deviation is that of the reported number:
as an observation of h(state) it is `(value - bias) / scale`, with deviation `standard_deviation / |scale|`.
With probability `outlier_probability` an observation is an outlier: of positions and linear sensors with
noise ten times as wide, of ranges uniform on [0, maximum_range], of bearings uniform on the circle.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from schemas import covariance as covariance_checks
from schemas.base import (
    MAXIMUM_COORDINATES,
    MAXIMUM_VALUES,
    Matrix,
    Message,
    Name,
    Number,
    Vector,
    distinct,
    unusable,
)
from schemas.base import Unusable as Unusable

Coordinates = Annotated[
    tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)
]
_PositiveNumber = Annotated[Number, Field(gt=0)]


class _Sensor(Message):
    defines: ClassVar[bool] = True

    sensor: Annotated[Name, Field(description="the name of the sensor; also the key of the record")]
    outlier_probability: Annotated[
        Number, Field(ge=0, le=0.9, description="that an observation is an outlier, 0 to 0.9; no unit")
    ] = 0.0
    scale: Annotated[
        Number,
        Field(
            description="calibration: reported unit per unit of h(state), not 0",
            json_schema_extra={"not": {"const": 0}},
        ),
    ] = 1.0
    bias: Annotated[Number, Field(description="calibration: added to what is reported, in its units")] = 0.0

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise PydanticCustomError("invalid_scale", "expected a scale other than 0")
        return scale

    @field_validator("coordinates", check_fields=False)
    @classmethod
    def _distinct_coordinates(cls, coordinates: tuple[str, ...]) -> tuple[str, ...]:
        return _distinct(coordinates)

    @property
    def value_length(self) -> int:
        """How many numbers an observation of this sensor has."""
        return 1


class PositionSensor(_Sensor):
    """Observes coordinates of the state themselves: h(state) = the coordinates, in the order given."""

    kind: Annotated[Literal["position"], Field(description="of the sensor: position")] = "position"
    coordinates: Annotated[Coordinates, Field(description="names of the state coordinates observed")] = (
        "x",
        "y",
    )
    standard_deviation: Annotated[
        _PositiveNumber | None, Field(description="of the noise of every number, in the reported units")
    ] = None
    covariance: Annotated[
        Matrix | None,
        Field(
            description="of the noise, in the squared reported units; instead of standard_deviation",
            validate_default=True,
        ),
    ] = None

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return _noise(covariance, info, info.data.get("coordinates"))

    @property
    def value_length(self) -> int:
        """One number a coordinate."""
        return len(self.coordinates)


class LinearSensor(_Sensor):
    """Observes linear combinations of the state: a number a row, the sum of coefficient times coordinate."""

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
    standard_deviation: Annotated[
        _PositiveNumber | None, Field(description="of the noise of every number, in the reported units")
    ] = None
    covariance: Annotated[
        Matrix | None,
        Field(
            description="of the noise, in the squared reported units; instead of standard_deviation",
            validate_default=True,
        ),
    ] = None

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return _noise(covariance, info, info.data.get("rows"))

    @property
    def coordinates(self) -> tuple[str, ...]:
        """Names of the state coordinates that occur in a row, in order of their first occurrence."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    @property
    def value_length(self) -> int:
        """One number a row."""
        return len(self.rows)


class RangeSensor(_Sensor):
    """Observes the distance of the entity from a place: h(state) = |coordinates - position|."""

    kind: Annotated[Literal["range"], Field(description="of the sensor: range")] = "range"
    coordinates: Annotated[
        Coordinates, Field(description="names of the state coordinates that are the place of the entity")
    ] = ("x", "y")
    position: Annotated[Vector, Field(description="where the sensor is, in the units of the coordinates")]
    standard_deviation: Annotated[_PositiveNumber, Field(description="of the noise, in the reported unit")]
    maximum_range: Annotated[
        _PositiveNumber,
        Field(description="outliers are uniform on [0, maximum_range], in metres (the unit of h)"),
    ] = 100.0

    @field_validator("position")
    @classmethod
    def _as_long(cls, position: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        return _position(position, info)


class BearingSensor(_Sensor):
    """Observes the direction of the entity from a place: h(state) = atan2(y - position_y, x - position_x)."""

    kind: Annotated[Literal["bearing"], Field(description="of the sensor: bearing")] = "bearing"
    coordinates: Annotated[
        Annotated[tuple[Name, ...], Field(min_length=2, max_length=2)],
        Field(
            description="two state coordinates; the bearing counts counter-clockwise from the first's axis"
        ),
    ] = ("x", "y")
    position: Annotated[Vector, Field(description="where the sensor is, in the units of the coordinates")]
    standard_deviation: Annotated[_PositiveNumber, Field(description="of the noise, in radians")]

    @field_validator("position")
    @classmethod
    def _as_long(cls, position: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        return _position(position, info)


Sensor: TypeAlias = Annotated[
    PositionSensor | LinearSensor | RangeSensor | BearingSensor, Field(discriminator="kind")
]
sensor_adapter: TypeAdapter[PositionSensor | LinearSensor | RangeSensor | BearingSensor] = TypeAdapter(Sensor)


def parse_sensor(definition: bytes | dict[str, Any] | None) -> Sensor:
    """A sensor from its JSON or from the object in it.

    Raises:
        Unusable: with reason `invalid_definition`, `not_json` or `not_finite`.
    """
    try:
        if isinstance(definition, dict):
            return sensor_adapter.validate_python(definition)
        return sensor_adapter.validate_json(definition or b"")
    except ValidationError as error:
        raise unusable(error, defines=True) from error


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if not distinct(names):
        raise PydanticCustomError("repeated_name", "expected each coordinate once")
    return names


def _noise(covariance: Matrix | None, info: ValidationInfo, values: tuple[Any, ...] | None) -> Matrix | None:
    """The covariance, checked: the noise is given in exactly one way and fits the number of values."""
    if "standard_deviation" in info.data and (info.data["standard_deviation"] is None) == (
        covariance is None
    ):
        raise PydanticCustomError(
            "invalid_noise", "expected exactly one of standard_deviation and covariance"
        )
    return (
        None if covariance is None else covariance_checks.checked(covariance, len(values) if values else None)
    )


def _position(position: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
    coordinates = info.data.get("coordinates")
    if coordinates is not None and len(position) != len(coordinates):
        raise PydanticCustomError(
            "wrong_size", "expected {expected} numbers, one a coordinate", {"expected": len(coordinates)}
        )
    return position
