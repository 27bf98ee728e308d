"""Linear motions with a closed form: chains of integrated white noise, and mean reversion.

Source of the chains: Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking and Navigation",
section 6.2. Each pair, triple or single coordinate is one chain; the chains are independent of each other.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial, inf, isfinite

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.motion.linear import LinearMotion

Array = NDArray[np.float64]


def non_negative(name: str, value: float) -> None:
    """Raise ValueError unless `value` is a finite number of at least 0."""
    if not 0 <= value < inf:
        raise ValueError(f"{name}: expected a finite number of at least 0, got {value}")


@functools.lru_cache(256)
def _powers(size: int, levels: tuple[tuple[int, ...], ...], q: float, position: float) -> tuple[Array, Array]:
    """Coefficients of ``F`` and ``Q`` of `_chain` as polynomials in the interval, ``(2 n, D, D)``."""
    order = len(levels)
    matrix, noise = np.zeros((2 * order, size, size)), np.zeros((2 * order, size, size))
    matrix[0] = np.eye(size)
    for i, rows in enumerate(levels):
        for j, columns in enumerate(levels):
            above, beside = order - 1 - i, order - 1 - j
            power = above + beside + 1
            noise[power, rows, columns] = q / (factorial(above) * factorial(beside) * power)
            if j > i:
                matrix[j - i, rows, columns] = 1 / factorial(j - i)
    noise[1, levels[0], levels[0]] += position
    return matrix, noise


def _chain(
    size: int, interval: Tensor, levels: Sequence[Sequence[int]], q: float, position: float
) -> tuple[Tensor, Tensor]:
    """Return ``F`` and ``Q`` of chains in which coordinate ``levels[i + 1][j]`` is the rate of ``levels[i][j]``.

    White noise of spectral density `q` drives the last level, and each earlier level integrates it once more. With
    ``m_i = n - 1 - i`` levels after level i, ``Q_ij = q T^(m_i + m_j + 1) / (m_i! m_j! (m_i + m_j + 1))``.
    White noise of density `position` on the first level adds ``position T`` to its variance.
    """
    powers = _powers(size, tuple(map(tuple, levels)), q, position)
    # without the cost of PyTorch's operators, which is larger than that of the arithmetic
    time = interval.double().cpu().numpy()
    return _polynomial(time, powers[0]).to(interval.device), _polynomial(time, powers[1]).to(interval.device)


def _polynomial(time: Array, coefficients: Array) -> Tensor:
    """Return a matrix of polynomials at each time, ``(B, D, D)``; from the highest power on, as Horner."""
    matrix = np.multiply.outer(time, coefficients[-1])
    for part in coefficients[-2:0:-1]:
        matrix += part
        matrix *= time[:, None, None]
    matrix += coefficients[0]
    return torch.from_numpy(matrix)


def check_levels(size: int, **levels: tuple[int, ...]) -> None:
    """Raise ValueError unless all `levels` have equally many indices, and together name each of `size` coordinates."""
    everything = sorted(axis for level in levels.values() for axis in level)
    if len({len(level) for level in levels.values()}) != 1 or everything != list(range(size)):
        given = " and ".join(str(level) for level in levels.values())
        raise ValueError(f"{', '.join(levels)}: expected each coordinate once and equal lengths, got {given}")


@dataclass(frozen=True)
class RandomWalk(LinearMotion):
    """Brownian motion: the variance of each coordinate grows by its spectral density (unit²/s) times the interval.

    Raises:
        ValueError: a density is negative or not finite.
    """

    spectral_density: tuple[float, ...]

    def __post_init__(self) -> None:
        for density in self.spectral_density:
            non_negative("spectral_density", density)

    @property
    def dimension(self) -> int:
        return len(self.spectral_density)

    @property
    def is_static(self) -> bool:
        return not any(self.spectral_density)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        time = interval.double()
        identity = torch.eye(self.dimension, dtype=torch.float64, device=time.device)
        density = torch.tensor(self.spectral_density, dtype=torch.float64, device=time.device)
        return identity.repeat(len(time), 1, 1), torch.diag_embed(time[:, None] * density)


class Chain(LinearMotion):
    """Independent chains of integrated white noise, one for each axis, and white noise of each position.

    `spectral_density` is that of the last level's noise, `position_density` that of each position (m²/s).
    """

    spectral_density: float
    position_density: float

    @property
    @abstractmethod
    def _levels(self) -> dict[str, tuple[int, ...]]:
        """Indices of positions and of each of their rates, by the names of the fields."""

    def __post_init__(self) -> None:
        check_levels(self.dimension, **self._levels)
        non_negative("spectral_density", self.spectral_density)
        non_negative("position_density", self.position_density)

    @property
    def dimension(self) -> int:
        levels = list(self._levels.values())
        return len(levels) * len(levels[0])

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        levels, densities = tuple(self._levels.values()), (self.spectral_density, self.position_density)
        return _chain(self.dimension, interval, levels, *densities)


@dataclass(frozen=True)
class ConstantVelocity(Chain):
    """White-noise acceleration of spectral density q (m²/s³) on each axis, and white noise of each position.

    Over an interval T, each (position, velocity) pair has ``F = [[1, T], [0, 1]]`` and
    ``Q = q [[T³/3, T²/2], [T²/2, T]]`` (Bar-Shalom et al., eq. 6.2.2-13), and the position's variance grows by
    `position_density` (m²/s) times T. `positions[i]` and `velocities[i]` are the indices of one pair. If `controlled`,
    the inputs are the accelerations (m/s²) along the same axes. An inertial measurement unit reports them after
    rotation into these axes and without gravity.

    Raises:
        ValueError: the indices do not name every coordinate once, or a density is negative or not finite.
    """

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    spectral_density: float
    controlled: bool = False
    position_density: float = 0.0

    @property
    def _levels(self) -> dict[str, tuple[int, ...]]:
        return {"positions": self.positions, "velocities": self.velocities}

    @property
    def inputs(self) -> int:
        return len(self.positions) if self.controlled else 0

    def gain(self, interval: Tensor) -> Tensor:
        time, gain = interval.double(), super().gain(interval)
        each = list(range(self.inputs))
        if each:
            gain[:, list(self.positions), each] = (time**2 / 2)[:, None]
            gain[:, list(self.velocities), each] = time[:, None]
        return gain


@dataclass(frozen=True)
class ConstantAcceleration(Chain):
    """White-noise jerk of spectral density q (m²/s⁵) on each axis (Bar-Shalom et al., section 6.2.3).

    `positions[i]`, `velocities[i]` and `accelerations[i]` are the indices of one axis. `position_density` is that of
    each position's white noise, m²/s.

    Raises:
        ValueError: the indices do not name every coordinate once, or a density is negative or not finite.
    """

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    accelerations: tuple[int, ...]
    spectral_density: float
    position_density: float = 0.0

    @property
    def _levels(self) -> dict[str, tuple[int, ...]]:
        return {
            "positions": self.positions,
            "velocities": self.velocities,
            "accelerations": self.accelerations,
        }


@dataclass(frozen=True)
class MeanReverting(LinearMotion):
    """Ornstein-Uhlenbeck: ``dx = -rate (x - mean) dt + dW``, independently for each coordinate.

    Over an interval T, ``F = exp(-rate T)`` and ``Q = q (1 - exp(-2 rate T)) / (2 rate)`` (Gillespie, "Exact numerical
    simulation of the Ornstein-Uhlenbeck process and its integral", Physical Review E 54, 1996, eq. 3.1). The variance
    tends to ``q / (2 rate)``. `rate` is in 1/s, `spectral_density` q in unit²/s; a rate of zero gives a random walk.

    Raises:
        ValueError: the lengths differ, or a number is outside its range.
    """

    rate: tuple[float, ...]
    mean: tuple[float, ...]
    spectral_density: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.rate) == len(self.mean) == len(self.spectral_density):
            sizes = (len(self.rate), len(self.mean), len(self.spectral_density))
            raise ValueError(f"rate, mean, spectral_density: expected equal lengths, got {sizes}")
        for value in self.rate:
            non_negative("rate", value)
        for value in self.spectral_density:
            non_negative("spectral_density", value)
        if not all(isfinite(value) for value in self.mean):
            raise ValueError(f"mean: expected finite numbers, got {self.mean}")

    @property
    def dimension(self) -> int:
        return len(self.rate)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        decay = interval.double()[:, None] * self._row(self.rate, interval)
        twice = 2 * decay
        # (1 - exp(-y)) / y, whose limit at y = 0 is 1
        share = torch.where(twice > 0, -torch.expm1(-twice) / twice.clamp_min(1e-300), torch.ones_like(twice))
        variance = self._row(self.spectral_density, interval) * interval.double()[:, None] * share
        return torch.diag_embed(torch.exp(-decay)), torch.diag_embed(variance)

    def shift(self, interval: Tensor) -> Tensor:
        decay = interval.double()[:, None] * self._row(self.rate, interval)
        return -torch.expm1(-decay) * self._row(self.mean, interval)

    @staticmethod
    def _row(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=like.device)
