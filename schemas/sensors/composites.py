"""Sensors that report several numbers at once, each with its own noise, outliers and calibration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from beliefstream.schemas.base import Vector
from beliefstream.schemas.sensors.angles import Headed, OrientedInPlane, PlacedInPlane, Turning
from beliefstream.schemas.sensors.base import Channel, Placed, SensorBase, SpaceCoordinates
from beliefstream.schemas.sensors.distances import RangeChannel

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


class PlacedInSpace(Placed):
    """A sensor at a known place in space that looks in a known direction."""

    coordinates: SpaceCoordinates = ("x", "y", "z")
    """names of three state coordinates; the azimuth is from the axis of the first to the second's"""
    orientation: Annotated[Vector, Field(min_length=3, max_length=3)] = (0.0, 0.0, 0.0)
    """yaw, pitch and roll of the sensor, in radians, right-handed about its third, then second, then first axis, which
    at 0 are those of the coordinates"""


class RangeBearingSensor(Turning, OrientedInPlane, SensorBase):
    """Observes distance and direction of the entity from a place: see `range` and `bearing`."""

    kind: Literal["range_bearing"] = "range_bearing"
    """kind of sensor: range_bearing"""
    range: _Range
    bearing: _Bearing

    @property
    def value_length(self) -> int:
        """Range and bearing."""
        return 2


class RangeRelativeBearingSensor(Turning, Headed, PlacedInPlane, SensorBase):
    """Observes distance and direction of a landmark, relative to the entity's heading: see `relative_bearing`."""

    kind: Literal["range_relative_bearing"] = "range_relative_bearing"
    """kind of sensor: range_relative_bearing"""
    range: _Range
    bearing: _Bearing

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Position coordinates, then the heading."""
        return (*self.coordinates, self.heading)

    @property
    def value_length(self) -> int:
        """Range and bearing."""
        return 2


class AzimuthElevationSensor(Turning, PlacedInSpace, SensorBase):
    """Observes the direction of the entity from a place in space.

    The azimuth is atan2(dy, dx), the elevation atan2(dz, |(dx, dy)|), of d = coordinates - position, on the axes of
    the sensor. Outliers are uniform on the circle, and on the half circle of the elevation.
    """

    kind: Literal["azimuth_elevation"] = "azimuth_elevation"
    """kind of sensor: azimuth_elevation"""
    azimuth: _Azimuth
    elevation: _Elevation

    @property
    def value_length(self) -> int:
        """Azimuth and elevation."""
        return 2


class RangeAzimuthElevationSensor(Turning, PlacedInSpace, SensorBase):
    """Observes distance and direction of the entity from a place in space: see `azimuth_elevation`."""

    kind: Literal["range_azimuth_elevation"] = "range_azimuth_elevation"
    """kind of sensor: range_azimuth_elevation"""
    range: _Range
    azimuth: _Azimuth
    elevation: _Elevation

    @property
    def value_length(self) -> int:
        """Range, azimuth and elevation."""
        return 3
