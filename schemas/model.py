"""Model of an entity: its coordinates, its motion and its prior."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Message, Name, NonNegative, Number, Positive, Several, Unit, distinct
from beliefstream.schemas.beliefs.mixture import Mixture
from beliefstream.schemas.kinds import AnyMotion

MOST_MODES, MOST_COMPONENTS = 8, 64

Motion: TypeAlias = Annotated[AnyMotion, Field(discriminator="kind")]
"""Any kind of motion."""


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
    components: Annotated[int, Field(strict=True, ge=1, le=MOST_COMPONENTS)] = 8
    """largest number of components of a belief, 1 to 64, or of each of its modes; no unit"""
    modes: Annotated[tuple[Positive, ...], Field(fail_fast=True, max_length=MOST_MODES)] = ()
    """factors by which the motion's noise densities (variances, not deviations) are multiplied in each of 2 to 8 modes,
    between which the entity changes; empty: always 1; no unit"""
    mode_time: Annotated[Number | None, Field(gt=0, validate_default=True)] = None
    """mean time that a mode lasts, in seconds; each other mode may follow; absent: no modes"""
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

    @field_validator("modes")
    @classmethod
    def _modes_of_noise(cls, modes: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        motion, components = info.data.get("motion"), info.data.get("components", 1)
        if len(modes) == 1:
            raise PydanticCustomError("invalid_modes", "expected none, or at least 2 modes")
        if modes and motion is not None and not motion.noises:
            raise PydanticCustomError("invalid_modes", "expected a motion with noise, which modes multiply")
        if len(modes) * components > MOST_COMPONENTS:
            raise PydanticCustomError(
                "invalid_modes",
                "expected at most {most} components in all modes, got {modes} modes of {components}",
                {"most": MOST_COMPONENTS, "modes": len(modes), "components": components},
            )
        return modes

    @field_validator("mode_time")
    @classmethod
    def _with_modes(cls, mode_time: float | None, info: ValidationInfo) -> float | None:
        if "modes" in info.data and (mode_time is None) != (not info.data["modes"]):
            raise PydanticCustomError("invalid_modes", "expected modes and mode_time, or neither")
        return mode_time

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The names of the coordinates, in order."""
        return tuple(coordinate.name for coordinate in self.coordinates)
