"""Linear motions: random walk, mean reversion, constant or decaying velocity, constant acceleration."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Number
from beliefstream.schemas.motions.base import (
    Each,
    EachNonNegative,
    Inputs,
    MotionBase,
    Names,
    NonNegative,
    each_once,
    in_step,
    sizes,
)


class RandomWalk(MotionBase):
    """Every coordinate diffuses independently; its variance grows by spectral_density times the elapsed time."""

    kind: Annotated[Literal["random_walk"], Field(description="kind of motion: random_walk")] = "random_walk"
    spectral_density: Annotated[
        NonNegative | EachNonNegative,
        Field(
            description="spectral density of the noise, one for all coordinates or one each, in squared units of the "
            "coordinate per second"
        ),
    ]

    @property
    def sizes(self) -> dict[str, int]:
        return sizes(spectral_density=self.spectral_density)


class MeanReverting(MotionBase):
    """Every coordinate reverts to a mean independently: dx = -rate (x - mean) dt + dW (Ornstein-Uhlenbeck)."""

    kind: Annotated[Literal["mean_reverting"], Field(description="kind of motion: mean_reverting")] = (
        "mean_reverting"
    )
    rate: Annotated[
        NonNegative | EachNonNegative,
        Field(description="rate of reversion, one for all coordinates or one each, per second"),
    ]
    mean: Annotated[
        Number | Each, Field(description="mean, one for all coordinates or one each, in their units")
    ] = 0.0
    spectral_density: Annotated[
        NonNegative | EachNonNegative,
        Field(
            description="spectral density of the noise, one for all coordinates or one each, in squared units of the "
            "coordinate per second"
        ),
    ]

    @property
    def sizes(self) -> dict[str, int]:
        return sizes(rate=self.rate, mean=self.mean, spectral_density=self.spectral_density)


class ConstantVelocity(MotionBase):
    """Velocities integrate into positions, driven by white noise acceleration of equal density on each pair."""

    kind: Annotated[Literal["constant_velocity"], Field(description="kind of motion: constant_velocity")] = (
        "constant_velocity"
    )
    positions: Annotated[Names, Field(description="names of the position coordinates")]
    velocities: Annotated[Names, Field(description="names of their velocities, in the same order")]
    spectral_density: Annotated[
        NonNegative,
        Field(
            description="spectral density of the acceleration, in squared units of the position per cubic second"
        ),
    ]
    inputs: Annotated[
        Inputs,
        Field(
            description="names of reported accelerations, one for each position, in its unit per square second; "
            "empty: none"
        ),
    ] = ()

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(velocities, info, "positions", singular="velocity")

    @field_validator("inputs")
    @classmethod
    def _one_each(cls, inputs: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        positions = info.data.get("positions")
        if inputs and positions is not None and len(inputs) != len(positions):
            raise PydanticCustomError("wrong_size", "expected no inputs, or one for each of positions")
        return each_once(inputs)

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return (*self.positions, *self.velocities)

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.inputs


class DecayingVelocity(MotionBase):
    """Velocities integrate into positions and decay to zero: dv = -v / time_constant dt + dW (Ornstein-Uhlenbeck).

    Over times much shorter than the time constant it resembles constant_velocity. Over much longer times the position
    follows a random walk. The variance of the velocity tends to spectral_density * time_constant / 2.
    """

    kind: Annotated[Literal["decaying_velocity"], Field(description="kind of motion: decaying_velocity")] = (
        "decaying_velocity"
    )
    positions: Annotated[Names, Field(description="names of the position coordinates")]
    velocities: Annotated[Names, Field(description="names of their velocities, in the same order")]
    time_constant: Annotated[
        Number, Field(gt=0, description="time in which a velocity decays to 1 / e of its value, in seconds")
    ]
    spectral_density: Annotated[
        NonNegative,
        Field(
            description="spectral density of the acceleration, in squared units of the position per cubic second"
        ),
    ]

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(velocities, info, "positions", singular="velocity")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return (*self.positions, *self.velocities)


class ConstantAcceleration(MotionBase):
    """Accelerations integrate into velocities and these into positions, driven by white noise jerk of equal density."""

    kind: Annotated[
        Literal["constant_acceleration"], Field(description="kind of motion: constant_acceleration")
    ] = "constant_acceleration"
    positions: Annotated[Names, Field(description="names of the position coordinates")]
    velocities: Annotated[Names, Field(description="names of their velocities, in the same order")]
    accelerations: Annotated[Names, Field(description="names of their accelerations, in the same order")]
    spectral_density: Annotated[
        NonNegative,
        Field(
            description="spectral density of the jerk, in squared units of the position per second to the fifth"
        ),
    ]

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(velocities, info, "positions", singular="velocity")

    @field_validator("accelerations")
    @classmethod
    def _in_triples(cls, accelerations: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(accelerations, info, "positions", "velocities", singular="acceleration")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return (*self.positions, *self.velocities, *self.accelerations)
