"""Turning motions in the plane: unicycle and coordinated turn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Name
from beliefstream.schemas.motions.base import MotionBase, NonNegative, Pair, each_once, in_step

_Positions = Annotated[Pair, Field(description="names of the two position coordinates, in metres")]
_TurnRateDensity = Annotated[
    NonNegative,
    Field(
        description="density of the turn rate's white noise, in squared radians per cubic second; 0 if it is an input"
    ),
]


class Unicycle(MotionBase):
    """Motion along the heading: dx = v cos h dt, dy = v sin h dt, dh = w dt, each with white noise.

    Speed v and turn rate w are coordinates of the state if they are named here; they then follow a random walk.
    Otherwise they are the inputs `speed` (m/s) and `turn_rate` (rad/s), in this order, as odometry reports them.
    """

    kind: Annotated[Literal["unicycle"], Field(description="kind of motion: unicycle")] = "unicycle"
    positions: _Positions = ("x", "y")
    heading: Annotated[
        Name,
        Field(description="name of the heading, in radians from the first position's axis to the second's"),
    ] = "heading"
    speed: Annotated[
        Name | None, Field(description="name of the speed coordinate, in m/s; absent: an input")
    ] = None
    turn_rate: Annotated[
        Name | None,
        Field(
            description="name of the turn rate coordinate, in rad/s; absent: an input",
            validate_default=True,
        ),
    ] = None
    position_density: Annotated[
        NonNegative, Field(description="density of each position's white noise, in square metres per second")
    ] = 0.0
    heading_density: Annotated[
        NonNegative, Field(description="density of the heading's white noise, in squared radians per second")
    ] = 0.0
    speed_density: Annotated[
        NonNegative,
        Field(
            description="density of the speed's white noise, in square metres per cubic second; 0 if it is an input"
        ),
    ] = 0.0
    turn_rate_density: _TurnRateDensity = 0.0

    @field_validator("turn_rate")
    @classmethod
    def _each_once(cls, turn_rate: str | None, info: ValidationInfo) -> str | None:
        single = (info.data.get("heading"), info.data.get("speed"), turn_rate)
        each_once((*info.data.get("positions", ()), *(name for name in single if name is not None)))
        return turn_rate

    @field_validator("speed_density", "turn_rate_density")
    @classmethod
    def _of_a_coordinate(cls, density: float, info: ValidationInfo) -> float:
        return _of_a_coordinate(density, info)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        rest = (name for name in (self.speed, self.turn_rate) if name is not None)
        return (*self.positions, self.heading, *rest)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name for name in ("speed", "turn_rate") if getattr(self, name) is None)


class CoordinatedTurn(MotionBase):
    """Motion at constant speed along an arc, with white noise acceleration and a turn rate that follows a random walk.

    If `turn_rate` names no coordinate, it is the input `turn_rate` (rad/s), as a gyroscope reports it.
    """

    kind: Annotated[Literal["coordinated_turn"], Field(description="kind of motion: coordinated_turn")] = (
        "coordinated_turn"
    )
    positions: _Positions = ("x", "y")
    velocities: Annotated[
        Pair, Field(description="names of their velocities, in the same order", validate_default=True)
    ] = ("vx", "vy")
    turn_rate: Annotated[
        Name | None,
        Field(
            description="name of the turn rate coordinate, in rad/s from the first position's axis to the second's; "
            "absent: an input",
        ),
    ] = None
    acceleration_density: Annotated[
        NonNegative,
        Field(description="density of each velocity's white noise, in square metres per cubic second"),
    ] = 0.0
    turn_rate_density: _TurnRateDensity = 0.0

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(velocities, info, "positions", singular="velocity")

    @field_validator("turn_rate")
    @classmethod
    def _each_once(cls, turn_rate: str | None, info: ValidationInfo) -> str | None:
        if turn_rate is not None:
            each_once((*info.data.get("positions", ()), *info.data.get("velocities", ()), turn_rate))
        return turn_rate

    @field_validator("turn_rate_density")
    @classmethod
    def _of_a_coordinate(cls, density: float, info: ValidationInfo) -> float:
        return _of_a_coordinate(density, info)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        rest = () if self.turn_rate is None else (self.turn_rate,)
        return (*self.positions, *self.velocities, *rest)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("turn_rate",) if self.turn_rate is None else ()


def _of_a_coordinate(density: float, info: ValidationInfo) -> float:
    """Check that the density is 0 if it belongs to an input."""
    name = str(info.field_name).removesuffix("_density")
    if density and name in info.data and info.data[name] is None:
        raise PydanticCustomError(
            "invalid_motion",
            "expected 0, because {name} is an input; its noise is stated with the control",
            {"name": name},
        )
    return density
