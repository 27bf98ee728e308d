"""Non-Gaussian noise of a scalar sensor: components, growth with the value, clutter.

An inlier has the density `Σ weight · N(value; scale·h(state) + bias + component bias, (ratio · σ)²)` with
`σ = standard_deviation + slope · |scale·h(state)|`. Clutter has a density of the reported value that does not depend on
the state. All are in units of the reported value. The range sensor `.7·N(r, (.1(r+1))²) + .2·Exp(1) + .1·U(0, 20)` of
Whittle et al. (arXiv 2502.02463, section 4.3.1) is a `standard_deviation` of .1 and

    {"slope": 0.1, "clutter": [{"kind": "exponential", "probability": 0.2, "mean": 1},
                               {"kind": "uniform", "probability": 0.1, "low": 0, "high": 20}]}
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Message, Number

MOST_PARTS = 8  # components of a noise, or densities of its clutter
_WEIGHTS_TOLERANCE = 1e-6

_Probability = Annotated[
    Number, Field(gt=0, lt=1, description="probability of this clutter, above 0 and below 1; no unit")
]


class NoiseComponent(Message):
    """One Gaussian of the inliers' noise. Reflected radio signals, for example, have a bias and more spread."""

    weight: Annotated[
        Number, Field(gt=0, le=1, description="share of the inliers; the sum of all weights is 1; no unit")
    ]
    bias: Annotated[Number, Field(description="mean of this component, in the reported unit")] = 0.0
    ratio: Annotated[
        Number, Field(gt=0, description="its standard deviation divided by that of the sensor; no unit")
    ] = 1.0


class UniformClutter(Message):
    """Clutter that is uniform between two values, independent of the state."""

    kind: Annotated[Literal["uniform"], Field(description="kind of clutter: uniform")] = "uniform"
    probability: _Probability
    low: Annotated[Number, Field(description="lowest value, in the reported unit")]
    high: Annotated[Number, Field(description="highest value, in the reported unit; above low")]

    @field_validator("high")
    @classmethod
    def _above_low(cls, high: float, info: ValidationInfo) -> float:
        low = info.data.get("low")
        if low is not None and high <= low:
            raise PydanticCustomError("invalid_noise", "expected a number above low, {low}", {"low": low})
        return high


class ExponentialClutter(Message):
    """Clutter with an exponential density from zero, independent of the state, such as ranges to obstacles."""

    kind: Annotated[Literal["exponential"], Field(description="kind of clutter: exponential")] = "exponential"
    probability: _Probability
    mean: Annotated[Number, Field(gt=0, description="mean of the value, in the reported unit")]


Clutter = Annotated[UniformClutter | ExponentialClutter, Field(discriminator="kind")]


class Noise(Message):
    """Non-Gaussian noise of a scalar sensor."""

    components: Annotated[
        tuple[NoiseComponent, ...],
        Field(
            max_length=MOST_PARTS,
            description="Gaussians of the inliers' noise, with weights that sum to 1; empty: one without bias",
        ),
    ] = ()
    slope: Annotated[
        Number,
        Field(
            ge=0,
            description="growth of the standard deviation per unit of |scale · h(state)|, the expected report without "
            "bias; no unit",
        ),
    ] = 0.0
    clutter: Annotated[
        tuple[Clutter, ...],
        Field(max_length=MOST_PARTS, description="densities of reports that do not depend on the state"),
    ] = ()

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
