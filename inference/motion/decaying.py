"""Motion with a decaying velocity: the integrated Ornstein-Uhlenbeck process."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import numpy as np
from torch import Tensor

from beliefstream.inference.motion.kinematic import check_levels, non_negative
from beliefstream.inference.motion.linear import LinearMotion
from beliefstream.inference.motion.system import Linear


@dataclass(frozen=True)
class DecayingVelocity(LinearMotion):
    """``dx = v dt``, ``dv = -v / τ dt + dW`` on each axis: a velocity that decays with the time constant τ (s).

    The noise has the spectral density q (m²/s³), so the variance of the velocity tends to ``q τ / 2`` (Gillespie,
    "Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral", Physical Review E 54, 1996). Over
    intervals much shorter than τ the motion is constant velocity. `position_density` (m²/s) is that of each position's
    white noise. `positions[i]` and `velocities[i]` are the indices of one pair.

    Raises:
        ValueError: the indices do not name every coordinate once, or a number is outside its range.
    """

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    time_constant: float
    spectral_density: float
    position_density: float = 0.0
    _system: Linear = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_levels(self.dimension, positions=self.positions, velocities=self.velocities)
        non_negative("spectral_density", self.spectral_density)
        non_negative("position_density", self.position_density)
        if not 0 < self.time_constant < inf:
            raise ValueError(f"time_constant: expected a finite number above 0, got {self.time_constant}")
        drift, diffusion = np.zeros((2, self.dimension, self.dimension))
        drift[self.positions, self.velocities] = 1.0
        drift[self.velocities, self.velocities] = -1 / self.time_constant
        diffusion[self.positions, self.positions] = self.position_density
        diffusion[self.velocities, self.velocities] = self.spectral_density
        object.__setattr__(self, "_system", Linear(drift.tolist(), diffusion.tolist()))

    @property
    def dimension(self) -> int:
        return 2 * len(self.positions)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        return self._system.transition(interval)
