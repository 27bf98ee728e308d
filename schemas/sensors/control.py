"""Sensor of a motion's inputs, such as odometry or an inertial measurement unit."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import Matrix, Name, NonNegative, Number, OneEach, Several
from beliefstream.schemas.sensors.base import SensorBase, one_noise

_Numbers = Number | OneEach[Number]


class ControlSensor(SensorBase):
    """Reports inputs of the model's motion; each report holds from its time until the next.

    The motion names the inputs. A unicycle without them in its state has `speed` (m/s) and `turn_rate` (rad/s), a
    coordinated turn has `turn_rate`. A constant velocity or linear motion lists its inputs.
    """

    kind: Literal["control"] = "control"
    inputs: Several[Name]
    """names of the reported inputs, in the order of an observation's numbers"""
    standard_deviation: NonNegative | OneEach[NonNegative] | None = None
    """standard deviation of the noise, one for all inputs or one each, in reported units; 0: exact"""
    covariance: Annotated[Matrix | None, Field(validate_default=True)] = None
    """covariance of the noise, in the squared reported units; instead of standard_deviation"""
    scale: _Numbers = 1.0
    """calibration: reported units per unit of the input, not 0; one for all or one each"""
    bias: _Numbers = 0.0
    """calibration: added to scale * input, in the reported units; one for all or one each"""

    @field_validator("standard_deviation", "scale", "bias")
    @classmethod
    def _one_each(
        cls, value: float | tuple[float, ...] | None, info: ValidationInfo
    ) -> float | tuple[float, ...] | None:
        inputs = info.data.get("inputs")
        if isinstance(value, tuple) and inputs is not None and len(value) != len(inputs):
            raise PydanticCustomError(
                "wrong_size", "expected one {name} for each of inputs", {"name": str(info.field_name)}
            )
        return value

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, scale: float | tuple[float, ...]) -> float | tuple[float, ...]:
        if 0 in (scale if isinstance(scale, tuple) else (scale,)):
            raise PydanticCustomError("invalid_scale", "expected a scale other than 0")
        return scale

    @field_validator("covariance")
    @classmethod
    def _one_noise(cls, covariance: Matrix | None, info: ValidationInfo) -> Matrix | None:
        return one_noise(covariance, info, info.data.get("inputs"), covariance_checks.semidefinite)

    @property
    def noise_covariance(self) -> Matrix:
        """Covariance of the noise, (C, C), from either field."""
        if self.covariance is not None:
            return self.covariance
        deviations = np.broadcast_to(np.array(self.standard_deviation), len(self.inputs))
        return covariance_checks.to_matrix(np.diag(deviations**2))

    @property
    def value_length(self) -> int:
        """One number per input."""
        return len(self.inputs)
