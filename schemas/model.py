"""How the state of an entity moves and what is known of it at first."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from schemas.base import MAXIMUM_COORDINATES, Message, Name, Number, distinct
from schemas.mixture import Mixture

_NonNegative = Annotated[Number, Field(ge=0)]
_Names = Annotated[
    tuple[Name, ...], Field(fail_fast=True), Field(min_length=1, max_length=MAXIMUM_COORDINATES)
]


class Coordinate(Message):
    """One coordinate of the state."""

    name: Annotated[Name, Field(description="by which sensors and priors refer to it")]
    unit: Annotated[
        str,
        Field(
            strict=True,
            min_length=1,
            max_length=32,
            description="the unit of the coordinate, such as m or m/s",
        ),
    ]


class RandomWalk(Message):
    """Every coordinate diffuses on its own: the variance grows by spectral_density times the elapsed time."""

    kind: Annotated[Literal["random_walk"], Field(description="of the motion: random_walk")] = "random_walk"
    spectral_density: Annotated[
        _NonNegative
        | Annotated[tuple[_NonNegative, ...], Field(fail_fast=True), Field(max_length=MAXIMUM_COORDINATES)],
        Field(
            description="one for all coordinates or one each, in squared units of the coordinate per second"
        ),
    ]


class ConstantVelocity(Message):
    """Velocities integrate into positions; white noise acceleration acts on each pair alike."""

    kind: Annotated[Literal["constant_velocity"], Field(description="of the motion: constant_velocity")] = (
        "constant_velocity"
    )
    positions: Annotated[_Names, Field(description="names of the position coordinates")]
    velocities: Annotated[_Names, Field(description="names of their velocities, in the same order")]
    spectral_density: Annotated[
        _NonNegative,
        Field(description="of the acceleration, in squared units of the position per cubic second"),
    ]

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        positions = info.data.get("positions")
        if positions is not None and len(velocities) != len(positions):
            raise PydanticCustomError("wrong_size", "expected one velocity for each position")
        if positions is not None and not distinct((*positions, *velocities)):
            raise PydanticCustomError(
                "repeated_name", "expected each coordinate once in positions and velocities"
            )
        return velocities


Motion = Annotated[RandomWalk | ConstantVelocity, Field(discriminator="kind")]


class Model(Message):
    """The model of one entity, or with entity `*` of every entity that has none of its own."""

    defines: ClassVar[bool] = True

    entity: Annotated[
        Name | Literal["*"],
        Field(description="whose model it is, `*` for all others; also the key of the record"),
    ]
    name: Annotated[Name, Field(description="of the model, repeated in every posterior")]
    version: Annotated[int, Field(strict=True, ge=1, description="of the model, counted from 1; no unit")] = 1
    coordinates: Annotated[
        tuple[Coordinate, ...],
        Field(fail_fast=True),
        Field(
            min_length=1, max_length=MAXIMUM_COORDINATES, description="the coordinates of the state, in order"
        ),
    ]
    motion: Annotated[Motion, Field(description="how the state moves between observations")]
    prior: Annotated[
        Mixture,
        Field(
            description="what is known before the first observation, over all coordinates and in their units"
        ),
    ]
    components: Annotated[
        int, Field(strict=True, ge=1, le=64, description="of the belief's mixture, 1 to 64; no unit")
    ] = 8
    lateness_window: Annotated[
        Number,
        Field(ge=0, description="how far behind the newest an observation may be to be used, in seconds"),
    ] = 2.0
    live_time: Annotated[
        bool,
        Field(
            strict=True,
            description="whether times are those of the wall clock, so that the future is refused; no unit",
        ),
    ] = False

    @field_validator("coordinates")
    @classmethod
    def _distinct_coordinates(cls, coordinates: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
        if not distinct(coordinate.name for coordinate in coordinates):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return coordinates

    @field_validator("motion")
    @classmethod
    def _moves_the_coordinates(
        cls, motion: RandomWalk | ConstantVelocity, info: ValidationInfo
    ) -> RandomWalk | ConstantVelocity:
        coordinates: tuple[Coordinate, ...] | None = info.data.get("coordinates")
        if coordinates is None:
            return motion
        names = {coordinate.name for coordinate in coordinates}
        if isinstance(motion, ConstantVelocity):
            if names != {*motion.positions, *motion.velocities}:
                raise PydanticCustomError(
                    "wrong_coordinates", "expected positions and velocities to be exactly the coordinates"
                )
        elif isinstance(motion.spectral_density, tuple) and len(motion.spectral_density) != len(names):
            raise PydanticCustomError("wrong_size", "expected one spectral_density for each coordinate")
        return motion

    @field_validator("prior")
    @classmethod
    def _over_the_coordinates(cls, prior: Mixture, info: ValidationInfo) -> Mixture:
        coordinates = info.data.get("coordinates")
        if coordinates is not None and prior.dimension != len(coordinates):
            raise PydanticCustomError(
                "wrong_size",
                "expected a mixture over {expected} coordinates, got {given}",
                {"expected": len(coordinates), "given": prior.dimension},
            )
        return prior

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)
