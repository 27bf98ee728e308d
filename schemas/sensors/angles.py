"""Sensors of directions: bearing, relative bearing, heading, course."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Message, Name
from beliefstream.schemas.sensors.base import Placed, PlaneCoordinates, PositiveNumber, ScalarSensor


class PlacedInPlane(Placed):
    """As `Placed`, in two coordinates."""

    coordinates: Annotated[
        PlaneCoordinates,
        Field(description="two state coordinates; angles count counter-clockwise from the first's axis"),
    ] = ("x", "y")


class Turning(Message):
    """Mixin for sensors that report angles."""

    maximum_turns: Annotated[
        PositiveNumber,
        Field(
            description="most whole turns, either way, of a reported angle as h(state); one beyond is a dead letter: "
            "degrees that were to be radians, or a broken device; more for one that counts turns; no unit"
        ),
    ] = 4.0


class Headed(Message):
    """Mixin for sensors that depend on the entity's own heading."""

    heading: Annotated[
        Name,
        Field(
            description="name of the state coordinate that is the entity's heading, in radians",
            validate_default=True,
        ),
    ] = "heading"

    @field_validator("heading")
    @classmethod
    def _no_place(cls, heading: str, info: ValidationInfo) -> str:
        if heading in info.data.get("coordinates", ()):
            raise PydanticCustomError("repeated_name", "expected none of coordinates")
        return heading


class BearingSensor(Turning, PlacedInPlane, ScalarSensor):
    """Observes the direction of the entity from a place: h(state) = atan2(y - position_y, x - position_x).

    Outliers are uniform on the circle.
    """

    kind: Annotated[Literal["bearing"], Field(description="of the sensor: bearing")] = "bearing"


class RelativeBearingSensor(Turning, Headed, PlacedInPlane, ScalarSensor):
    """Observes the direction of a landmark from the entity, relative to the entity's own heading.

    h(state) = atan2(position_y - y, position_x - x) - heading; outliers are uniform on the circle.
    """

    kind: Annotated[Literal["relative_bearing"], Field(description="of the sensor: relative_bearing")] = (
        "relative_bearing"
    )

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """Place and heading."""
        return (*self.coordinates, self.heading)


class HeadingSensor(Turning, ScalarSensor):
    """Observes a coordinate that is an angle: h(state) = the coordinate, modulo one turn.

    Outliers are uniform on the circle.
    """

    kind: Annotated[Literal["heading"], Field(description="of the sensor: heading")] = "heading"
    coordinates: Annotated[
        tuple[Name, ...],
        Field(fail_fast=True),
        Field(min_length=1, max_length=1, description="name of the state coordinate, which is in radians"),
    ] = ("heading",)


class CourseSensor(Turning, ScalarSensor):
    """Observes the direction in which the entity moves: h(state) = atan2(vy, vx).

    Outliers are uniform on the circle.
    """

    kind: Annotated[Literal["course"], Field(description="of the sensor: course")] = "course"
    coordinates: Annotated[
        PlaneCoordinates,
        Field(description="names of the two velocities; the course counts from the first's axis"),
    ] = ("vx", "vy")
