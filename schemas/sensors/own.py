"""Sensor with a registered measurement function, given by its name."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import MAXIMUM_VALUES, Matrix, Name, Number, Vector
from beliefstream.schemas.sensors.base import Coordinates, PositiveNumber, ScalarSensor, as_many

MOST_PARAMETERS = 32

ParameterName = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


class OwnSensor(ScalarSensor):
    """Observes a measurement function loaded by the worker: h(state) = f(coordinates - position, **parameters)."""

    kind: Annotated[Literal["own"], Field(description="of the sensor: own")] = "own"
    measurement: Annotated[Name, Field(description="the name under which the function is registered")]
    coordinates: Annotated[
        Coordinates, Field(description="names of the state coordinates that the function takes, in its order")
    ]
    position: Annotated[
        Vector | None,
        Field(
            description="subtracted from the coordinates, in their units; absent: the function takes them as they are"
        ),
    ] = None
    parameters: Annotated[
        dict[ParameterName, Number | Vector | Matrix],
        Field(
            max_length=MOST_PARAMETERS,
            description="numbers, lists or matrices of them, by the name of the function's argument, in its units",
        ),
    ] = {}  # noqa: RUF012  (pydantic copies it)
    outputs: Annotated[
        int | None,
        Field(
            strict=True,
            ge=1,
            le=MAXIMUM_VALUES,
            description="how many numbers the function returns and an observation has; absent: one, not in a list",
        ),
    ] = None
    outlier_span: Annotated[
        PositiveNumber | None,
        Field(
            description="outliers are uniform on a width of this, in the unit of h; needed with an "
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
