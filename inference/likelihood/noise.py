"""Non-Gaussian noise of a sensor, and its use in a batch of observations.

A reported scalar is ``z = h(x) + noise`` with, for an inlier, the density

    Σ_c w_c N(z − h; b_c, (ρ_c σ(x))²),    σ(x) = σ₀ + s |h(x)|,

and for an outlier any density of the value itself. Linearisation replaces the inlier's noise at a residual ``e`` by the
Gaussian with the same slope there. With responsibilities r_c of the components at ``e`` and ``σ_c = ρ_c σ(x)``,

    1/σ² = Σ_c r_c / σ_c²,    e_eff = σ² Σ_c r_c (e − b_c) / σ_c².

So ``e_eff / σ²`` is the exact derivative of the log density (σ held fixed), and a step with it is one step of
expectation-maximisation. Likelihoods are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def wrap(angle: Tensor) -> Tensor:
    """Wrap an angle to the interval [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


@dataclass(frozen=True)
class Uniform:
    """Uniform density between `low` and `high`. Raises ValueError unless `low` is below `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high or not math.isfinite(self.high - self.low):
            raise ValueError(f"uniform: low must be below high, got {self.low} and {self.high}")

    def density(self, values: Array) -> Array:
        inside = (values >= self.low) & (values <= self.high)
        return np.where(inside, 1 / (self.high - self.low), 0.0)


@dataclass(frozen=True)
class Exponential:
    """Exponential density with that mean. Raises ValueError unless it is positive."""

    mean: float

    def __post_init__(self) -> None:
        if not (self.mean > 0 and math.isfinite(self.mean)):
            raise ValueError(f"exponential: mean must be positive, got {self.mean}")

    def density(self, values: Array) -> Array:
        return np.where(values >= 0, np.exp(-np.maximum(values, 0.0) / self.mean) / self.mean, 0.0)


@dataclass(frozen=True)
class Noise:
    """Noise of a reported scalar, relative to its standard deviation; all in units of the reported value.

    Attributes:
        weights, biases, ratios: of the components; a ratio multiplies the standard deviation.
        slope: the standard deviation grows by this share of the expected value.
        clutter: outliers that do not depend on the state: (probability, density of the reported value).
    """

    weights: tuple[float, ...] = (1.0,)
    biases: tuple[float, ...] = (0.0,)
    ratios: tuple[float, ...] = (1.0,)
    slope: float = 0.0
    clutter: tuple[tuple[float, Uniform | Exponential], ...] = ()

    def __post_init__(self) -> None:
        lengths = (len(self.weights), len(self.biases), len(self.ratios))
        if len(set(lengths)) > 1 or not self.weights:
            raise ValueError(f"noise: weights, biases and ratios must be equally many, got {lengths}")
        if not all(weight > 0 for weight in self.weights) or abs(sum(self.weights) - 1) > 1e-6:
            raise ValueError(f"weights: must be positive and sum to 1, got {list(self.weights)}")
        if not all(math.isfinite(bias) for bias in self.biases):
            raise ValueError(f"biases: must be finite, got {list(self.biases)}")
        if not all(ratio > 0 and math.isfinite(ratio) for ratio in self.ratios):
            raise ValueError(f"ratios: must be positive, got {list(self.ratios)}")
        if not (self.slope >= 0 and math.isfinite(self.slope)):
            raise ValueError(f"slope: must not be negative, got {self.slope}")
        shares = [probability for probability, _ in self.clutter]
        if not all(share > 0 for share in shares) or not sum(shares) < 1:
            raise ValueError(f"clutter: probabilities must be positive and sum to less than 1, got {shares}")

    @property
    def is_mixture(self) -> bool:
        """Whether it differs from one Gaussian with the stated standard deviation."""
        return (self.weights, self.biases, self.ratios) != ((1.0,), (0.0,), (1.0,))

    @property
    def clutter_probability(self) -> float:
        return sum(probability for probability, _ in self.clutter)


class NoiseMixture(NamedTuple):
    """Inlier components of each observation, ``(B, N, C)``; unused places have log weight ``-inf``."""

    log_weights: Tensor
    bias: Tensor  # in the units of the value
    ratio: Tensor  # of the standard deviation

    def map(self, change: Callable[[Tensor], Tensor]) -> NoiseMixture:
        """Apply `change` to every tensor."""
        return NoiseMixture(*(change(tensor) for tensor in self))

    def moments(self, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noise with scale `deviation` ``(B, ..., N)``."""
        shape = (len(self.bias), *([1] * (deviation.dim() - 2)), *self.bias.shape[1:])
        weights, bias = self.log_weights.exp().view(shape), self.bias.view(shape)
        spread = deviation[..., None] * self.ratio.view(shape)
        mean = (weights * bias).sum(-1)
        variance = (weights * (spread.square() + (bias - mean[..., None]).square())).sum(-1)
        return mean, variance.sqrt()
