"""Sensors of the user's own: a registered function, or a problem with its likelihood."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import (
    MAXIMUM_VALUES,
    Matrix,
    Name,
    Number,
    Positive,
    Several,
    Vector,
    distinct,
    each_once,
)
from beliefstream.schemas.sensors.base import Scalable, ScalarSensor, SensorBase

MOST_PARAMETERS = 32
MOST_NAMES = 32  # of the parameters, the reported numbers and the context

ParameterName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class OwnSensor(ScalarSensor, Scalable):
    """Observes a function that the worker has loaded: h(state) = f(coordinates - position, **parameters)."""

    kind: Literal["own"] = "own"
    measurement: Name
    """name under which the function is registered"""
    coordinates: Several[Name]
    """names of the state coordinates that are the function's argument, in order"""
    position: Vector | None = None
    """position subtracted from the coordinates, in their units; absent: nothing is subtracted"""
    parameters: Annotated[
        dict[ParameterName, Number | Vector | Matrix], Field(max_length=MOST_PARAMETERS)
    ] = {}  # noqa: RUF012  (pydantic copies it)
    """numbers, lists or matrices by the name of the function's parameter, in its units"""
    outputs: Annotated[int | None, Field(strict=True, ge=1, le=MAXIMUM_VALUES)] = None
    """number of values that the function returns and an observation has; absent: one, not in a list"""
    outlier_span: Positive | None = None
    """width of the uniform density of outliers, in the unit of h; required with an outlier_probability unless the
    function returns an angle"""

    @field_validator("parameters")
    @classmethod
    def _rectangular(
        cls, parameters: dict[str, float | tuple[float, ...] | Matrix]
    ) -> dict[str, float | tuple[float, ...] | Matrix]:
        for name, value in parameters.items():
            if isinstance(value, tuple) and len({len(row) for row in value if isinstance(row, tuple)}) > 1:
                raise PydanticCustomError(
                    "wrong_size", "expected rows of one length in {name}", {"name": name}
                )
        return parameters

    @property
    def value_length(self) -> int:
        """Number of outputs of the function."""
        return self.outputs or 1


ProblemName = Annotated[
    str,
    Field(
        strict=True,
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$",
    ),
]


class LearnedSensor(SensorBase):
    """Reports numbers with the likelihood of a problem that the worker has loaded: counts, detections and others."""

    kind: Literal["learned"] = "learned"
    problem: ProblemName
    """the problem's class, as module:Name; the worker's setting names the module"""
    parameters: Annotated[dict[ParameterName, Name], Field(min_length=1, max_length=MOST_NAMES)]
    """state coordinate of each of the problem's parameters, by the parameter's name; for a positive parameter it is the
    logarithm, for one between 0 and 1 the log odds"""
    value: Annotated[
        tuple[ParameterName, ...],
        Field(fail_fast=True),
        Field(min_length=1, max_length=MOST_NAMES),
        AfterValidator(each_once),
    ]
    """names of the numbers in an observation's value, in order: all the problem's data, and context that changes; where
    reports have several rows, the data come last and repeat with each row"""
    context: Annotated[dict[ParameterName, Number], Field(max_length=MOST_NAMES)] = {}  # noqa: RUF012  (pydantic copies it)
    """the rest of the problem's context, by name, in its units"""
    weights: Annotated[
        str | None, Field(strict=True, max_length=256, pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*\\.safetensors$")
    ] = None
    """file of a likelihood learned from the problem's simulator, beside the problem's module; absent: the problem's own
    log_likelihood, or the file of its name if it has none"""
    sha256: Annotated[str | None, Field(strict=True, pattern="^[0-9a-f]{64}$")] = None
    """digest that the file of the weights must have, in hexadecimal digits; absent: any; no unit"""

    @field_validator("parameters")
    @classmethod
    def _each_coordinate_once(cls, parameters: dict[str, str]) -> dict[str, str]:
        if not distinct(parameters.values()):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return parameters

    @field_validator("context")
    @classmethod
    def _not_reported(cls, context: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        for name in info.data.get("value", ()):
            if name in context:
                raise PydanticCustomError(
                    "repeated_name", "expected {name} here or in value, not in both", {"name": name}
                )
        return context

    @model_validator(mode="after")
    def _digest_of_a_file(self) -> Self:
        if self.sha256 is not None and self.weights is None:
            raise PydanticCustomError(
                "missing_weights", "sha256: expected weights, the file that has this digest"
            )
        return self

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        return tuple(self.parameters.values())

    @property
    def value_length(self) -> int:
        return len(self.value)
