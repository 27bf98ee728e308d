"""Sensor whose measurement is a registered function, given by name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import MAXIMUM_VALUES, Matrix, Name, Number, Vector
from beliefstream.schemas.sensors.base import Coordinates, PositiveNumber, ScalarSensor, as_many

MOST_PARAMETERS = 32

ParameterName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class OwnSensor(ScalarSensor):
    """Observes a function that the worker has loaded: h(state) = f(coordinates - position, **parameters)."""

    kind: Annotated[Literal["own"], Field(description="kind of sensor: own")] = "own"
    measurement: Annotated[Name, Field(description="name under which the function is registered")]
    coordinates: Annotated[
        Coordinates,
        Field(description="names of the state coordinates that are the function's argument, in order"),
    ]
    position: Annotated[
        Vector | None,
        Field(
            description="position subtracted from the coordinates, in their units; absent: nothing is subtracted"
        ),
    ] = None
    parameters: Annotated[
        dict[ParameterName, Number | Vector | Matrix],
        Field(
            max_length=MOST_PARAMETERS,
            description="numbers, lists or matrices by the name of the function's parameter, in its units",
        ),
    ] = {}  # noqa: RUF012  (pydantic copies it)
    outputs: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=MAXIMUM_VALUES,
            description="number of values that the function returns and an observation has; absent: one, not in a list",
        ),
    ] = None
    outlier_span: Annotated[
        PositiveNumber | None,
        Field(
            description="width of the uniform density of outliers, in the unit of h; required with an "
            "outlier_probability unless the function returns an angle",
        ),
    ] = None

    @field_validator("position")
    @classmethod
    def _as_long(cls, position: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        return position if position is None else as_many(position, info, "coordinates")

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
