"""Linear-Gaussian motion, discretised exactly over any interval: ``x' = F x + n``, ``n ~ N(0, Q)``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Motion(Protocol):
    """How a state moves on its own."""

    @property
    def dimension(self) -> int: ...

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        """``F`` and ``Q``, each ``(B, D, D)`` float64, over `interval` ``(B,)`` seconds, none negative."""
        ...


@dataclass(frozen=True)
class RandomWalk:
    """Brownian motion: each coordinate's variance grows by its spectral density (unit²/s) times the interval."""

    spectral_density: tuple[float, ...]

    @property
    def dimension(self) -> int:
        return len(self.spectral_density)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.dimension, dtype=torch.float64).expand(len(interval), -1, -1)
        density = torch.tensor(self.spectral_density, dtype=torch.float64)
        return identity.clone(), torch.diag_embed(interval.double()[:, None] * density)


@dataclass(frozen=True)
class ConstantVelocity:
    """White-noise acceleration of spectral density q (m²/s³) on each axis.

    Over an interval T, each (position, velocity) pair has ``F = [[1, T], [0, 1]]`` and
    ``Q = q [[T³/3, T²/2], [T²/2, T]]`` (Bar-Shalom, Li and Kirubarajan, "Estimation with Applications to Tracking
    and Navigation", eq. 6.2.2-13). `positions[i]` and `velocities[i]` are the indices of one pair.
    """

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    spectral_density: float

    def __post_init__(self) -> None:
        everything: Sequence[int] = sorted(self.positions + self.velocities)
        if len(self.positions) != len(self.velocities) or list(everything) != list(range(len(everything))):
            raise ValueError(
                f"positions, velocities: {self.positions} and {self.velocities} do not pair up all coordinates"
            )

    @property
    def dimension(self) -> int:
        return 2 * len(self.positions)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        time = interval.double()
        batch, size, q = len(time), self.dimension, self.spectral_density
        transition = torch.eye(size, dtype=torch.float64).repeat(batch, 1, 1)
        noise = torch.zeros(batch, size, size, dtype=torch.float64)
        for position, velocity in zip(self.positions, self.velocities, strict=True):
            transition[:, position, velocity] = time
            noise[:, position, position] = q * time**3 / 3
            noise[:, position, velocity] = noise[:, velocity, position] = q * time**2 / 2
            noise[:, velocity, velocity] = q * time
        return transition, noise
