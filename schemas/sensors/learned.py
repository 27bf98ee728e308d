"""Sensor whose likelihood is a problem of the user's own, known or learned from its simulator."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Name, Number, distinct
from beliefstream.schemas.sensors.base import SensorBase
from beliefstream.schemas.sensors.own import ParameterName

MOST_NAMES = 32  # of the parameters, the reported numbers and the context

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

    kind: Annotated[Literal["learned"], Field(description="kind of sensor: learned")] = "learned"
    problem: Annotated[
        ProblemName,
        Field(description="the problem's class, as module:Name; the worker's setting names the module"),
    ]
    parameters: Annotated[
        dict[ParameterName, Name],
        Field(
            min_length=1,
            max_length=MOST_NAMES,
            description="state coordinate of each of the problem's parameters, by the parameter's name; for a positive "
            "parameter it is the logarithm, for one between 0 and 1 the log odds",
        ),
    ]
    value: Annotated[
        tuple[ParameterName, ...],
        Field(fail_fast=True),
        Field(
            min_length=1,
            max_length=MOST_NAMES,
            description="names of the numbers in an observation's value, in order: all the problem's data, and context "
            "that changes; where reports have several rows, the data come last and repeat with each row",
        ),
    ]
    context: Annotated[
        dict[ParameterName, Number],
        Field(
            max_length=MOST_NAMES,
            description="the rest of the problem's context, by name, in its units",
        ),
    ] = {}  # noqa: RUF012  (pydantic copies it)
    weights: Annotated[
        str | None,
        Field(
            strict=True,
            max_length=256,
            pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\.safetensors$",
            description="file of a likelihood learned from the problem's simulator, beside the problem's module; "
            "absent: the problem's own log_likelihood, or the file of its name if it has none",
        ),
    ] = None
    sha256: Annotated[
        str | None,
        Field(
            strict=True,
            pattern=r"^[0-9a-f]{64}$",
            description="digest that the file of the weights must have, in hexadecimal digits; absent: any; no unit",
        ),
    ] = None

    @field_validator("parameters")
    @classmethod
    def _each_coordinate_once(cls, parameters: dict[str, str]) -> dict[str, str]:
        if not distinct(parameters.values()):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return parameters

    @field_validator("value")
    @classmethod
    def _each_number_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not distinct(value):
            raise PydanticCustomError("repeated_name", "expected each name once")
        return value

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
