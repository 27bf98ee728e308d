"""Motion with a decaying velocity: the integrated Ornstein-Uhlenbeck process."""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, inf

import torch
from torch import Tensor

from beliefstream.inference.motion.kinematic import check_levels, non_negative
from beliefstream.inference.motion.linear import LinearMotion

_SHORT = (
    0.3  # time constants; over shorter intervals differences of exponentials lose digits, so a series is used
)
_ORDERS = range(3, 15)
_COEFFICIENTS = torch.tensor(
    [(-1) ** n * (2 - 2 ** (n - 1)) / factorial(n) for n in _ORDERS], dtype=torch.float64
)


@dataclass(frozen=True)
class DecayingVelocity(LinearMotion):
    """``dx = v dt``, ``dv = -v / τ dt + dW`` on each axis: a velocity that decays with the time constant τ (s).

    With ``u = T / τ`` and the noise's spectral density q (m²/s³), over an interval T,

        F = [[1, τ (1 - e⁻ᵘ)], [0, e⁻ᵘ]],
        Q = q [[τ³ (u - 2 (1 - e⁻ᵘ) + (1 - e⁻²ᵘ) / 2), τ² (1 - e⁻ᵘ)² / 2], [·, τ (1 - e⁻²ᵘ) / 2]]

    (Gillespie, "Exact numerical simulation of the Ornstein-Uhlenbeck process and its integral", Physical Review E 54,
    1996, eqs. 2.11 to 2.14). The variance of the velocity tends to ``q τ / 2``. Over intervals much shorter than τ the
    motion is constant velocity. `positions[i]` and `velocities[i]` are the indices of one pair.

    Raises:
        ValueError: the indices do not name every coordinate once, or a number is outside its range.
    """

    positions: tuple[int, ...]
    velocities: tuple[int, ...]
    time_constant: float
    spectral_density: float

    def __post_init__(self) -> None:
        check_levels(self.dimension, positions=self.positions, velocities=self.velocities)
        non_negative("spectral_density", self.spectral_density)
        if not 0 < self.time_constant < inf:
            raise ValueError(f"time_constant: expected a finite number above 0, got {self.time_constant}")

    @property
    def dimension(self) -> int:
        return 2 * len(self.positions)

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        time, tau, q = interval.double(), self.time_constant, self.spectral_density
        share = time / tau
        lost, both = -torch.expm1(-share), -torch.expm1(-2 * share) / 2
        matrix = torch.eye(self.dimension, dtype=torch.float64, device=time.device).repeat(len(time), 1, 1)
        noise = torch.zeros_like(matrix)
        places, speeds = list(self.positions), list(self.velocities)
        matrix[:, places, speeds] = (tau * lost)[:, None]
        matrix[:, speeds, speeds] = torch.exp(-share)[:, None]
        noise[:, places, places] = (q * tau**3 * _spread(share))[:, None]
        noise[:, places, speeds] = noise[:, speeds, places] = (q * tau**2 * lost.square() / 2)[:, None]
        noise[:, speeds, speeds] = (q * tau * both)[:, None]
        return matrix, noise


def _spread(share: Tensor) -> Tensor:
    """Return ``u - 2 (1 - e⁻ᵘ) + (1 - e⁻²ᵘ) / 2``, which is ``u³ / 3`` for small u."""
    direct = share + 2 * torch.expm1(-share) - torch.expm1(-2 * share) / 2
    short = share.clamp_max(_SHORT)[..., None]
    orders = torch.tensor(_ORDERS, dtype=share.dtype, device=share.device)
    series = (_COEFFICIENTS.to(share) * short**orders).sum(-1)
    return torch.where(share < _SHORT, series, direct)
