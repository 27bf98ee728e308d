"""Linear motion given by matrices."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import Matrix, Number
from beliefstream.schemas.motions.base import Inputs, MotionBase, each_once, sizes

_STEP_TOLERANCE = 5e-4  # in steps; float64 seconds since the epoch are accurate to 2.4e-7 for current times


class LinearMotion(MotionBase):
    """Any linear motion, in continuous time or in steps of fixed length.

    In continuous time dx = (drift x + input_matrix u) dt + dW, with `drift` and `diffusion`; in steps x' = transition x
    + input_matrix u + n, n ~ N(0, noise), with `transition`, `noise` and `step`. Rows and columns are in the order of
    the model's coordinates.
    """

    kind: Annotated[Literal["linear"], Field(description="kind of motion: linear")] = "linear"
    drift: Annotated[
        Matrix | None,
        Field(
            description="drift matrix, in the row coordinate's unit per the column coordinate's unit, per second"
        ),
    ] = None
    diffusion: Annotated[
        Matrix | None,
        Field(description="spectral density of the noise, in squared units of the coordinates per second"),
    ] = None
    transition: Annotated[
        Matrix | None,
        Field(
            description="transition over one step, in the row coordinate's unit per the column coordinate's unit"
        ),
    ] = None
    noise: Annotated[
        Matrix | None, Field(description="covariance of one step, in squared units of the coordinates")
    ] = None
    step: Annotated[
        Annotated[Number, Field(ge=0.001)] | None,
        Field(description="length of a step, in seconds, at least 0.001", validate_default=True),
    ] = None
    start: Annotated[
        Number,
        Field(
            description="time at which a step ends, seconds since the epoch; all times are whole steps from it"
        ),
    ] = 0.0
    inputs: Annotated[
        Inputs, Field(description="names of the inputs, which sensors of kind control report")
    ] = ()
    input_matrix: Annotated[
        Matrix | None,
        Field(
            description="change of each coordinate (row) by a unit of each input (column), per second or in one step",
            validate_default=True,
        ),
    ] = None

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
                    "invalid_motion",
                    "expected either drift and diffusion, or transition, noise and step",
                )
        return step

    @field_validator("inputs")
    @classmethod
    def _distinct_inputs(cls, inputs: tuple[str, ...]) -> tuple[str, ...]:
        return each_once(inputs)

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
