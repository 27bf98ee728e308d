"""Model of an entity: its coordinates, its motion and its prior."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Message, Name, NonNegative, Number, Several, Unit, distinct
from beliefstream.schemas.beliefs.mixture import Mixture
from beliefstream.schemas.motions import AnyMotion, Motion


class Coordinate(Message):
    """One coordinate of the state."""

    name: Name
    """name that sensors and priors use for it"""
    unit: Unit
    """unit of the coordinate, such as m or m/s"""


def over_the_coordinates(mixture: Mixture, info: ValidationInfo) -> Mixture:
    """Check that a mixture is over as many coordinates as the field `coordinates` has."""
    coordinates = info.data.get("coordinates")
    if coordinates is not None and mixture.dimension != len(coordinates):
        raise PydanticCustomError(
            "wrong_size",
            "expected a mixture over {expected} coordinates, got {given}",
            {"expected": len(coordinates), "given": mixture.dimension},
        )
    return mixture


MixtureOverCoordinates = Annotated[Mixture, AfterValidator(over_the_coordinates)]


class Model(Message):
    """The model of one entity; the model of entity `*` applies to all entities without their own."""

    defines: ClassVar[bool] = True

    entity: Name | Literal["*"]
    """entity of the model, `*` for all entities without their own; also the key of the record"""
    name: Name
    """name of the model, repeated in every posterior"""
    version: Annotated[int, Field(strict=True, ge=1)] = 1
    """version of the model, counted from 1; no unit"""
    coordinates: Several[Coordinate]
    """coordinates of the state, in order"""
    motion: Motion
    """how the state moves between observations"""
    prior: MixtureOverCoordinates
    """belief before the first observation, over all coordinates and in their units"""
    components: Annotated[int, Field(strict=True, ge=1, le=64)] = 8
    """largest number of components of a belief, 1 to 64; no unit"""
    lateness_window: NonNegative = 2.0
    """longest time by which an observation may lie before the newest one, in seconds"""
    expires_after: Annotated[Number | None, Field(gt=0)] = None
    """time after the last observation after which the entity is forgotten, in event time, in seconds; the next
    observation then starts from the prior; absent: never"""
    live_time: Annotated[bool, Field(strict=True)] = True
    """whether times are wall-clock times, so that a time in the future is rejected; false for simulated clocks and for
    logs with times ahead of the clock; no unit"""
    include_errors: Annotated[bool, Field(strict=True)] = False
    """whether posteriors have the errors of sensors that last; no unit"""

    @field_validator("coordinates")
    @classmethod
    def _distinct_coordinates(cls, coordinates: tuple[Coordinate, ...]) -> tuple[Coordinate, ...]:
        if not distinct(coordinate.name for coordinate in coordinates):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return coordinates

    @field_validator("motion")
    @classmethod
    def _moves_the_coordinates(cls, motion: AnyMotion, info: ValidationInfo) -> AnyMotion:
        coordinates: tuple[Coordinate, ...] | None = info.data.get("coordinates")
        if coordinates is None:
            return motion
        names, moved = {coordinate.name for coordinate in coordinates}, motion.coordinate_names
        if moved is not None and set(moved) != names:
            raise PydanticCustomError(
                "wrong_coordinates",
                "expected a motion of exactly the model's coordinates, got a motion of {moved}",
                {"moved": ", ".join(moved)},
            )
        for field, size in motion.sizes.items():
            if size != len(names):
                raise PydanticCustomError(
                    "wrong_size",
                    "expected one {field} for each coordinate, got {size}",
                    {"field": field, "size": size},
                )
        return motion

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)
