"""Base of all kinds of sensors.

A sensor reports `scale * h(state) + bias + noise`. The standard deviation is that of the reported number. So
`(value - bias) / scale` observes h(state) with the standard deviation `standard_deviation / |scale|`. Angles are in
radians, counter-clockwise from the first axis towards the second. For degrees use a scale of 180/pi. For a compass
(degrees clockwise from the second axis) use a scale of -180/pi and a bias of 90.

**Non-Gaussian noise.** An inlier has the density `Σ weight · N(value; scale·h(state) + bias + component bias, (ratio ·
σ)²)` with `σ = standard_deviation + slope · |scale·h(state)|`. Clutter has a density of the reported value that does
not depend on the state. All are in units of the reported value. The range sensor `.7·N(r, (.1(r+1))²) + .2·Exp(1) +
.1·U(0, 20)` of Whittle et al. (arXiv 2502.02463, section 4.3.1) is a `standard_deviation` of .1 and

    {"slope": 0.1, "clutter": [{"kind": "exponential", "probability": 0.2, "mean": 1},
                               {"kind": "uniform", "probability": 0.1, "low": 0, "high": 20}]}
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas import covariance as covariance_checks
from beliefstream.schemas.base import (
    Matrix,
    Message,
    Name,
    NonNegative,
    Number,
    Positive,
    Several,
    Vector,
    distinct,
)

MOST_PARTS = 8  # components of a noise, or densities of its clutter
_WEIGHTS_TOLERANCE = 1e-6

_Probability = Annotated[
    Number, Field(gt=0, lt=1, description="probability of this clutter, above 0 and below 1; no unit")
]


class NoiseComponent(Message):
    """One Gaussian of the inliers' noise. Reflected radio signals, for example, have a bias and more spread."""

    weight: Annotated[Number, Field(gt=0, le=1)]
    """share of the inliers; the sum of all weights is 1; no unit"""
    bias: Number = 0.0
    """mean of this component, in the reported unit"""
    ratio: Positive = 1.0
    """its standard deviation divided by that of the sensor; no unit"""


class UniformClutter(Message):
    """Clutter that is uniform between two values, independent of the state."""

    kind: Literal["uniform"] = "uniform"
    probability: _Probability
    low: Number
    """lowest value, in the reported unit"""
    high: Number
    """highest value, in the reported unit; above low"""

    @field_validator("high")
    @classmethod
    def _above_low(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low")
        if low is not None and high <= low:
            raise PydanticCustomError("invalid_noise", "expected a number above low, {low}", {"low": low})
        return high


class ExponentialClutter(Message):
    """Clutter with an exponential density from zero, independent of the state, such as ranges to obstacles."""

    kind: Literal["exponential"] = "exponential"
    probability: _Probability
    mean: Positive
    """mean of the value, in the reported unit"""


Clutter = Annotated[UniformClutter | ExponentialClutter, Field(discriminator="kind")]


class Noise(Message):
    """Non-Gaussian noise of a scalar sensor."""

    components: Annotated[tuple[NoiseComponent, ...], Field(max_length=MOST_PARTS)] = ()
    """Gaussians of the inliers' noise, with weights that sum to 1; empty: one without bias"""
    slope: NonNegative = 0.0
    """growth of the standard deviation per unit of |scale · h(state)|, the expected report without bias; no unit"""
    clutter: Annotated[tuple[Clutter, ...], Field(max_length=MOST_PARTS)] = ()
    """densities of reports that do not depend on the state"""

    @field_validator("components")
    @classmethod
    def _weights_sum_to_one(cls, components: tuple[NoiseComponent, ...]) -> tuple[NoiseComponent, ...]:
        total = sum(component.weight for component in components)
        if components and abs(total - 1) > _WEIGHTS_TOLERANCE:
            raise PydanticCustomError(
                "invalid_noise", "expected weights that sum to 1, got {total}", {"total": f"{total:g}"}
            )
        return components

    @property
    def clutter_probability(self) -> float:
        """Probability that a report is clutter."""
        return sum(law.probability for law in self.clutter)


OutlierProbability = Annotated[
    Number,
    Field(ge=0, le=0.9, description="probability that an observation is an outlier, 0 to 0.9; no unit"),
]


class SensorBase(Message):
    """Base of every kind of sensor."""

    defines: ClassVar[bool] = True
    most_parts: ClassVar[int] = 20_000  # 64 values with their covariance, or tables of a function

    sensor: Name
    """name of the sensor; also the key of the record"""

    @field_validator("coordinates", "velocities", "inputs", check_fields=False)
    @classmethod
    def _distinct_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not distinct(names):
            raise PydanticCustomError("repeated_name", "expected each coordinate once")
        return names

    @field_validator("position", "first", "second", check_fields=False)
    @classmethod
    def _as_long(cls, place: tuple[float, ...] | None, info: ValidationInfo) -> tuple[float, ...] | None:
        return None if place is None else as_many(place, info, "coordinates")

    @property
    def coordinate_names(self) -> tuple[str, ...]:
        """The state coordinates that the sensor observes."""
        names: tuple[str, ...] = getattr(self, "coordinates", ())
        return names

    @property
    def parts(self) -> dict[str, Channel]:
        """The numbers that it reports, by their fields, if each has a noise and calibration of its own; else empty."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: field for name, field in fields.items() if isinstance(field, Channel)}

    @property
    def value_length(self) -> int:
        """Number of values in an observation of this sensor."""
        return len(self.parts) or 1


class Calibrated(Message):
    """Mixin for sensors with outliers and calibration."""

    outlier_probability: OutlierProbability = 0.0
    scale: Annotated[Number, Field(json_schema_extra={"not": {"const": 0}})] = 1.0
    """calibration: reported units per unit of h(state), not 0"""
    bias: Number = 0.0
    """calibration: added to scale * h(state), in the reported units"""

    @field_validator("scale")
    @classmethod
    def _not_zero(cls, scale: float) -> float:
        if scale == 0:
            raise PydanticCustomError("invalid_scale", "expected a scale other than 0")
        return scale


class Lasting(Message):
    """Mixin for sensors of whose error a part lasts from one report to the next, for each entity.

    The reported number is longer by an Ornstein-Uhlenbeck process of that stationary deviation and correlation time,
    and by a constant; both are learned with the state.
    """

    persistent_deviation: Positive | None = None
    """standard deviation of the part of the error that lasts, in the reported unit; standard_deviation is then that of
    the rest, which is independent; absent: none lasts"""
    correlation_time: Annotated[Positive | None, Field(validate_default=True)] = None
    """time after which the correlation of the part that lasts has fallen to 1/e, in seconds; required with
    persistent_deviation"""
    bias_deviation: Positive | None = None
    """standard deviation of a constant error that is not known, in the reported unit; absent: there is none"""

    @field_validator("correlation_time")
    @classmethod
    def _both_or_none(cls, time: float | None, info: ValidationInfo) -> float | None:
        if "persistent_deviation" in info.data and (info.data["persistent_deviation"] is None) != (
            time is None
        ):
            raise PydanticCustomError(
                "invalid_noise", "expected both persistent_deviation and correlation_time, or neither"
            )
        return time


class Scalable(Message):
    """Mixin for sensors whose scale may be off by a constant that is learned, as those of `Lasting`."""

    scale_deviation: Annotated[Number | None, Field(gt=0, le=0.5)] = None
    """standard deviation of a constant relative error of the scale that is not known: 0.01 for 1 %, at most 0.5; it
    should be small, as its square times the largest report should be below standard_deviation; absent: there is none;
    no unit"""


LastingError = Literal["persistent", "bias", "scale", "exponent"]


class Shared(Message):
    """Mixin for sensors that may share errors that last with other sensors of their device."""

    device: Name | None = None
    """name of the device; sensors of one device share the errors that last of what they report, and state the same
    numbers for them; absent: the sensor is a device of its own"""
    shared_errors: tuple[LastingError, ...] = ("persistent", "bias", "scale", "exponent")
    """which of the errors that last the sensors of a device share, by the names of their deviations; the others are
    each sensor's own: ["bias"] for landmarks that one camera sees, each with a persistent error of its own"""

    @property
    def owner(self) -> str:
        """The device, or else the sensor."""
        return self.device or self._own_name

    def owner_of(self, error: LastingError) -> str:
        """Who has the errors of a kind: the device, or else the sensor."""
        return self.owner if error in self.shared_errors else self._own_name

    @property
    def _own_name(self) -> str:
        return str(getattr(self, "sensor", ""))


def with_gaussian_noise(noise: Noise | None, info: ValidationInfo) -> Noise | None:
    """Check that a sensor of whose error a part lasts has Gaussian noise."""
    names = "persistent_deviation", "bias_deviation", "scale_deviation"
    lasting = [name for name in names if info.data.get(name) is not None]
    if noise is not None and lasting:
        raise PydanticCustomError(
            "invalid_noise",
            "expected no noise with {lasting}: the rest must be Gaussian",
            {"lasting": lasting[0]},
        )
    return noise


class Channel(Calibrated, Lasting):
    """One reported number: its noise, outliers and calibration."""

    standard_deviation: Positive
    """standard deviation of the noise, in the reported unit"""
    noise: Noise | None = None
    """non-Gaussian noise; absent: the noise is Gaussian"""

    @field_validator("noise")
    @classmethod
    def _leaves_inliers(cls, noise: Noise | None, info: ValidationInfo) -> Noise | None:
        outliers = info.data.get("outlier_probability")
        if noise is not None and outliers is not None and outliers + noise.clutter_probability >= 1:
            raise PydanticCustomError(
                "invalid_noise",
                "expected probabilities of clutter and outliers with a sum below 1, got {total}",
                {"total": f"{outliers + noise.clutter_probability:g}"},
            )
        return with_gaussian_noise(noise, info)


class ScalarSensor(Shared, Channel, SensorBase):
    """A sensor that reports one number."""


class Placed(Message):
    """A sensor or landmark at a known place."""

    coordinates: Several[Name] = ("x", "y")
    """names of the state coordinates of the entity's position"""
    position: Vector
    """position of the sensor or landmark, in the units of the coordinates"""

    moves: Annotated[bool, Field(strict=True)] = False
    """whether it moves: every observation must then state its position, and the one here is not used"""


StandardDeviation = Positive | None
"""Of the noise of every number."""
Covariance = Annotated[Matrix | None, Field(validate_default=True)]
"""Of the noise; instead of a standard deviation."""


def one_noise(
    covariance: Matrix | None,
    info: ValidationInfo,
    values: tuple[Any, ...] | None,
    check: Callable[[Matrix, int | None], Matrix] = covariance_checks.checked,
) -> Matrix | None:
    """Check that the noise is given in exactly one way, and that the covariance fits the number of values."""
    if "standard_deviation" in info.data and (info.data["standard_deviation"] is None) == (
        covariance is None
    ):
        raise PydanticCustomError(
            "invalid_noise", "expected exactly one of standard_deviation and covariance"
        )
    return None if covariance is None else check(covariance, len(values) if values else None)


def as_many(numbers: tuple[float, ...], info: ValidationInfo, field: str) -> tuple[float, ...]:
    """Check that there is one number for each name in another field."""
    names = info.data.get(field)
    if names is not None and len(numbers) != len(names):
        raise PydanticCustomError(
            "wrong_size",
            "expected {expected} numbers, one for each of {field}",
            {"expected": len(names), "field": field},
        )
    return numbers
