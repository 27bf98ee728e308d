"""Sensors of directions: bearing, relative bearing, heading, course; and of distance and direction together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Message, Name, Number, Pair, Positive, Vector
from beliefstream.schemas.sensors.base import (
    Channel,
    Placed,
    ScalarSensor,
    SensorBase,
    Shared,
)
from beliefstream.schemas.sensors.distances import RangeChannel


class PlacedInPlane(Placed):
    """A sensor or landmark at a known place in the plane."""

    coordinates: Pair[Name] = ("x", "y")
    """names of two state coordinates; angles are counter-clockwise from the axis of the first"""


class OrientedInPlane(PlacedInPlane):
    """A sensor at a known place in the plane that looks in a known direction."""

    orientation: Number = 0.0
    """direction in which the sensor reports an angle of 0, in radians counter-clockwise from the axis of the first
    coordinate"""


class Turning(Message):
    """Mixin for sensors that report angles."""

    maximum_turns: Positive = 4.0
    """largest number of whole turns of a reported angle, either way, in the units of h(state); a report with more is a
    dead letter: probably degrees instead of radians, or a broken device; raise it for a device that counts turns; no
    unit"""


class Headed(Message):
    """Mixin for sensors whose report depends on the entity's heading."""

    heading: Annotated[Name, Field(validate_default=True)] = "heading"
    """name of the state coordinate of the entity's heading, in radians"""

    @field_validator("heading")
    @classmethod
    def _no_place(cls, heading: str, info: ValidationInfo) -> str:
        if heading in info.data.get("coordinates", ()):
            raise PydanticCustomError("repeated_name", "expected another name than those in coordinates")
        return heading

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Position coordinates, then the heading."""
        return (*getattr(self, "coordinates", ()), self.heading)


class BearingSensor(Turning, OrientedInPlane, ScalarSensor):
    """Observes the direction of the entity from a place.

    h(state) = atan2(y - position_y, x - position_x) - orientation; outliers are uniform on the circle.
    """

    kind: Literal["bearing"] = "bearing"


class RelativeBearingSensor(Turning, Headed, PlacedInPlane, ScalarSensor):
    """Observes the direction of a landmark from the entity, relative to the entity's heading.

    h(state) = atan2(position_y - y, position_x - x) - heading; outliers are uniform on the circle.
    """

    kind: Literal["relative_bearing"] = "relative_bearing"


class HeadingSensor(Turning, ScalarSensor):
    """Observes a coordinate that is an angle: h(state) is the coordinate, modulo one turn.

    Outliers are uniform on the circle.
    """

    kind: Literal["heading"] = "heading"
    coordinates: Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=1)] = (
        "heading",
    )
    """name of one state coordinate, in radians"""


class CourseSensor(Turning, ScalarSensor):
    """Observes the direction in which the entity moves: h(state) = atan2(vy, vx).

    Outliers are uniform on the circle.
    """

    kind: Literal["course"] = "course"
    coordinates: Pair[Name] = ("vx", "vy")
    """names of the two velocities; the course is counter-clockwise from the axis of the first"""


_Range = Annotated[RangeChannel, Field(description="noise and calibration of the first number, the distance")]
_Bearing = Annotated[
    Channel,
    Field(description="noise and calibration of the second number, the direction, in radians unless scaled"),
]
_Azimuth = Annotated[
    Channel,
    Field(description="noise and calibration of the azimuth, before the elevation; in radians unless scaled"),
]
_Elevation = Annotated[
    Channel,
    Field(description="noise and calibration of the last number, the elevation, in radians unless scaled"),
]


Triple = Annotated[tuple[Name, ...], Field(fail_fast=True), Field(min_length=3, max_length=3)]
"""One each for three dimensions."""


class PlacedInSpace(Placed):
    """A sensor at a known place in space that looks in a known direction."""

    coordinates: Triple = ("x", "y", "z")
    """names of three state coordinates; the azimuth is from the axis of the first to the second's"""
    orientation: Annotated[Vector, Field(min_length=3, max_length=3)] = (0.0, 0.0, 0.0)
    """yaw, pitch and roll of the sensor, in radians, right-handed about its third, then second, then first axis, which
    at 0 are those of the coordinates"""


class RangeBearingSensor(Shared, Turning, OrientedInPlane, SensorBase):
    """Observes distance and direction of the entity from a place: see `range` and `bearing`."""

    kind: Literal["range_bearing"] = "range_bearing"
    range: _Range
    bearing: _Bearing


class RangeRelativeBearingSensor(Shared, Turning, Headed, PlacedInPlane, SensorBase):
    """Observes distance and direction of a landmark, relative to the entity's heading: see `relative_bearing`."""

    kind: Literal["range_relative_bearing"] = "range_relative_bearing"
    depth: Annotated[bool, Field(strict=True)] = False
    """whether the first number is the depth instead of the distance: how far ahead the landmark is, along the heading,
    as stereo cameras report it"""
    range: _Range
    bearing: _Bearing


class AzimuthElevationSensor(Shared, Turning, PlacedInSpace, SensorBase):
    """Observes the direction of the entity from a place in space.

    The azimuth is atan2(dy, dx), the elevation atan2(dz, |(dx, dy)|), of d = coordinates - position, on the axes of
    the sensor. Outliers are uniform on the circle, and on the half circle of the elevation.
    """

    kind: Literal["azimuth_elevation"] = "azimuth_elevation"
    azimuth: _Azimuth
    elevation: _Elevation


class RangeAzimuthElevationSensor(Shared, Turning, PlacedInSpace, SensorBase):
    """Observes distance and direction of the entity from a place in space: see `azimuth_elevation`."""

    kind: Literal["range_azimuth_elevation"] = "range_azimuth_elevation"
    range: _Range
    azimuth: _Azimuth
    elevation: _Elevation
