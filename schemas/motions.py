"""Motions: how a state moves between observations; the field `kind` selects the motion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import (
    Matrix,
    Message,
    Name,
    NonNegative,
    Number,
    OneEach,
    Pair,
    Positive,
    Several,
    distinct,
    each_once,
)

_COVARIANCES = "diffusion", "noise"  # of a linear motion
_STEP_TOLERANCE = 5e-4  # in steps; float64 seconds since the epoch are accurate to 2.4e-7 for current times


class MotionBase(Message):
    """Base of every motion.

    Sensors of kind `control` report the inputs of a motion (odometry, accelerations); without reports they are zero.
    """

    @field_validator("speed_density", "turn_rate_density", check_fields=False)
    @classmethod
    def _of_a_coordinate(cls, density: float, info: ValidationInfo) -> float:
        """Check that the density is 0 if it belongs to an input."""
        name = str(info.field_name).removesuffix("_density")
        if density and name in info.data and info.data[name] is None:
            raise PydanticCustomError(
                "invalid_motion",
                "expected 0, because {name} is an input; its noise is stated with the control",
                {"name": name},
            )
        return density

    @property
    def coordinate_names(self) -> tuple[str, ...] | None:
        """Names of the coordinates that it moves, which must be those of the state; None if any are allowed."""
        return None

    @property
    def noises(self) -> tuple[str, ...]:
        """Names of the fields with its noise, spectral densities or the covariance of a step, that are not 0."""
        named = (
            name for name in type(self).model_fields if name.endswith("_density") or name in _COVARIANCES
        )
        return tuple(name for name in named if _multiplied(getattr(self, name), 0.0) != getattr(self, name))

    def with_noise(self, factors: Mapping[str, float]) -> Self:
        """Return the motion with noises, by the names of their fields, multiplied by factors of variances."""
        return self.model_copy(
            update={name: _multiplied(getattr(self, name), factor) for name, factor in factors.items()}
        )

    @property
    def sizes(self) -> dict[str, int]:
        """Number of entries of each field that has one entry per coordinate."""
        return {}

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of its inputs, in order."""
        return ()

    def complaint(self, time: float) -> str | None:
        """Explain why the motion has no state at `time`, in seconds since the epoch; None if it has one."""
        return None


def _multiplied(value: Any, factor: float) -> Any:
    """A number, or all numbers of a vector or matrix, times a factor; None stays."""
    if isinstance(value, tuple):
        return tuple(_multiplied(part, factor) for part in value)
    return None if value is None else factor * value


def sizes(**fields: object) -> dict[str, int]:
    """Return the number of entries of each field that is a tuple."""
    return {name: len(value) for name, value in fields.items() if isinstance(value, tuple)}


def in_step(names: tuple[str, ...], info: ValidationInfo, *others: str, singular: str) -> tuple[str, ...]:
    """Check that there are as many names as in the first of `others`, and that they share none with any of them."""
    given = [info.data.get(other) for other in others]
    if given[0] is not None and len(names) != len(given[0]):
        raise PydanticCustomError(
            "wrong_size", "expected one {singular} for each position", {"singular": singular}
        )
    if None not in given and not distinct(name for group in (*given, names) for name in group or ()):
        raise PydanticCustomError(
            "repeated_name",
            "expected each coordinate once in {fields}",
            {"fields": " and ".join([*others, str(info.field_name)])},
        )
    return names


class RandomWalk(MotionBase):
    """Every coordinate diffuses independently; its variance grows by spectral_density times the elapsed time."""

    kind: Literal["random_walk"] = "random_walk"
    spectral_density: NonNegative | OneEach[NonNegative]
    """spectral density of the noise, one for all coordinates or one each, in squared units of the coordinate per
    second"""

    @property
    def sizes(self) -> dict[str, int]:
        return sizes(spectral_density=self.spectral_density)


class MeanReverting(MotionBase):
    """Every coordinate reverts to a mean independently: dx = -rate (x - mean) dt + dW (Ornstein-Uhlenbeck)."""

    kind: Literal["mean_reverting"] = "mean_reverting"
    rate: NonNegative | OneEach[NonNegative]
    """rate of reversion, one for all coordinates or one each, per second"""
    mean: Number | OneEach[Number] = 0.0
    """mean, one for all coordinates or one each, in their units"""
    spectral_density: NonNegative | OneEach[NonNegative]
    """spectral density of the noise, one for all coordinates or one each, in squared units of the coordinate per
    second"""

    @property
    def sizes(self) -> dict[str, int]:
        return sizes(rate=self.rate, mean=self.mean, spectral_density=self.spectral_density)


class Kinematic(MotionBase):
    """Base of motions whose velocities integrate into positions."""

    kind: str
    positions: Several[Name]
    """names of the position coordinates"""
    velocities: Several[Name]
    """names of their velocities, in the same order"""
    position_density: NonNegative = 0.0
    """density of each position's white noise, in squared units of the position per second"""

    @field_validator("velocities")
    @classmethod
    def _in_pairs(cls, velocities: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(velocities, info, "positions", singular="velocity")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return (*self.positions, *self.velocities)


class ConstantVelocity(Kinematic):
    """Velocities integrate into positions, driven by white noise acceleration of equal density on each pair."""

    kind: Literal["constant_velocity"] = "constant_velocity"
    spectral_density: NonNegative
    """spectral density of the acceleration, in squared units of the position per cubic second"""
    inputs: OneEach[Name] = ()
    """names of reported accelerations, one for each position, in its unit per square second; empty: none"""

    @field_validator("inputs")
    @classmethod
    def _one_each(cls, inputs: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        positions = info.data.get("positions")
        if inputs and positions is not None and len(inputs) != len(positions):
            raise PydanticCustomError("wrong_size", "expected no inputs, or one for each of positions")
        return each_once(inputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.inputs


class DecayingVelocity(Kinematic):
    """Velocities integrate into positions and decay to zero: dv = -v / time_constant dt + dW (Ornstein-Uhlenbeck).

    Over times much shorter than the time constant it resembles constant_velocity. Over much longer times the position
    follows a random walk. The variance of the velocity tends to spectral_density * time_constant / 2.
    """

    kind: Literal["decaying_velocity"] = "decaying_velocity"
    time_constant: Positive
    """time in which a velocity decays to 1 / e of its value, in seconds"""
    spectral_density: NonNegative
    """spectral density of the acceleration, in squared units of the position per cubic second"""


class ConstantAcceleration(Kinematic):
    """Accelerations integrate into velocities and these into positions, driven by white noise jerk of equal density."""

    kind: Literal["constant_acceleration"] = "constant_acceleration"
    accelerations: Several[Name]
    """names of their accelerations, in the same order"""
    spectral_density: NonNegative
    """spectral density of the jerk, in squared units of the position per second to the fifth"""

    @field_validator("accelerations")
    @classmethod
    def _in_triples(cls, accelerations: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        return in_step(accelerations, info, "positions", "velocities", singular="acceleration")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return (*super().coordinate_names, *self.accelerations)


class LinearMotion(MotionBase):
    """Any linear motion, in continuous time or in steps of fixed length.

    In continuous time dx = (drift x + input_matrix u) dt + dW, with `drift` and `diffusion`; in steps x' = transition x
    + input_matrix u + n, n ~ N(0, noise), with `transition`, `noise` and `step`. Rows and columns are in the order of
    the model's coordinates.
    """

    kind: Literal["linear"] = "linear"
    drift: Matrix | None = None
    """drift matrix, in the row coordinate's unit per the column coordinate's unit, per second"""
    diffusion: Matrix | None = None
    """spectral density of the noise, in squared units of the coordinates per second"""
    transition: Matrix | None = None
    """transition over one step, in the row coordinate's unit per the column coordinate's unit"""
    noise: Matrix | None = None
    """covariance of one step, in squared units of the coordinates"""
    step: Annotated[Annotated[Number, Field(ge=0.001)] | None, Field(validate_default=True)] = None
    """length of a step, in seconds, at least 0.001"""
    start: Number = 0.0
    """time at which a step ends, seconds since the epoch; all times are whole steps from it"""
    inputs: Annotated[OneEach[Name], AfterValidator(each_once)] = ()
    """names of the inputs, which sensors of kind control report"""
    input_matrix: Annotated[Matrix | None, Field(validate_default=True)] = None
    """change of each coordinate (row) by a unit of each input (column), per second or in one step"""

    @field_validator("diffusion", "noise")
    @classmethod
    def _covariance(cls, matrix: Matrix | None, info: ValidationInfo) -> Matrix | None:
        partner = info.data.get("drift" if info.field_name == "diffusion" else "transition")
        return matrix and covariance_checks.semidefinite(matrix, len(partner) if partner else None)

    @field_validator("drift", "transition")
    @classmethod
    def _square(cls, matrix: Matrix | None) -> Matrix | None:
        if matrix is not None and (not matrix or any(len(row) != len(matrix) for row in matrix)):
            raise PydanticCustomError("wrong_size", "expected a square matrix")
        return matrix

    @field_validator("step")
    @classmethod
    def _one_way(cls, step: float | None, info: ValidationInfo) -> float | None:
        names = ("drift", "diffusion", "transition", "noise")
        if all(name in info.data for name in names):
            given = (*(info.data[name] is not None for name in names), step is not None)
            if given not in ((True, True, False, False, False), (False, False, True, True, True)):
                raise PydanticCustomError(
                    "invalid_motion", "expected either drift and diffusion, or transition, noise and step"
                )
        return step

    @field_validator("input_matrix")
    @classmethod
    def _fits(cls, matrix: Matrix | None, info: ValidationInfo) -> Matrix | None:
        inputs, system = info.data.get("inputs"), info.data.get("drift") or info.data.get("transition")
        if inputs is None or system is None:
            return matrix
        rows = [len(row) for row in matrix or ()]
        if rows != ([len(inputs)] * len(system) if inputs else []):
            raise PydanticCustomError(
                "wrong_size", "expected one row for each coordinate and one column for each input"
            )
        return matrix or None

    @property
    def sizes(self) -> dict[str, int]:
        return sizes(drift=self.drift, transition=self.transition)

    @property
    def input_names(self) -> tuple[str, ...]:
        return self.inputs

    def complaint(self, time: float) -> str | None:
        if self.step is None:
            return None
        steps = (time - self.start) / self.step
        if abs(steps - round(steps)) <= _STEP_TOLERANCE:
            return None
        return f"{time} is not a whole number of steps of {self.step} s from {self.start}"


_Positions = Annotated[Pair[Name], Field(description="names of the two position coordinates, in metres")]
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

    kind: Literal["unicycle"] = "unicycle"
    positions: _Positions = ("x", "y")
    heading: Name = "heading"
    """name of the heading, in radians from the first position's axis to the second's"""
    speed: Name | None = None
    """name of the speed coordinate, in m/s; absent: an input"""
    turn_rate: Annotated[Name | None, Field(validate_default=True)] = None
    """name of the turn rate coordinate, in rad/s; absent: an input"""
    position_density: NonNegative = 0.0
    """density of each position's white noise, in square metres per second"""
    heading_density: NonNegative = 0.0
    """density of the heading's white noise, in squared radians per second"""
    speed_density: NonNegative = 0.0
    """density of the speed's white noise, in square metres per cubic second; 0 if it is an input"""
    turn_rate_density: _TurnRateDensity = 0.0

    @field_validator("turn_rate")
    @classmethod
    def _each_once(cls, turn_rate: str | None, info: ValidationInfo) -> str | None:
        single = (info.data.get("heading"), info.data.get("speed"), turn_rate)
        each_once((*info.data.get("positions", ()), *(name for name in single if name is not None)))
        return turn_rate

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        rest = (name for name in (self.speed, self.turn_rate) if name is not None)
        return (*self.positions, self.heading, *rest)

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(name for name in ("speed", "turn_rate") if getattr(self, name) is None)


class CoordinatedTurn(Kinematic):
    """Motion at constant speed along an arc, with white noise acceleration and a turn rate that follows a random walk.

    If `turn_rate` names no coordinate, it is the input `turn_rate` (rad/s), as a gyroscope reports it.
    """

    kind: Literal["coordinated_turn"] = "coordinated_turn"
    positions: _Positions = ("x", "y")
    velocities: Annotated[Pair[Name], Field(validate_default=True)] = ("vx", "vy")
    """names of their velocities, in the same order"""
    turn_rate: Name | None = None
    """name of the turn rate coordinate, in rad/s from the first position's axis to the second's; absent: an input"""
    acceleration_density: NonNegative = 0.0
    """density of each velocity's white noise, in square metres per cubic second"""
    turn_rate_density: _TurnRateDensity = 0.0

    @field_validator("turn_rate")
    @classmethod
    def _each_once(cls, turn_rate: str | None, info: ValidationInfo) -> str | None:
        if turn_rate is not None:
            each_once((*info.data.get("positions", ()), *info.data.get("velocities", ()), turn_rate))
        return turn_rate

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        rest = () if self.turn_rate is None else (self.turn_rate,)
        return (*super().coordinate_names, *rest)

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("turn_rate",) if self.turn_rate is None else ()
