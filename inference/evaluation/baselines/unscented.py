"""The unscented Kalman filter, with a chi-square gate.

One Gaussian ``N(m, P)`` an entity, carried through the measurement by sigma points ``x₀ = m``,
``x± = m ± √(D / (1 − w₀)) Lᵢ`` (``L`` the Cholesky factor of ``P``), of weights ``w₀ = 1/3`` and ``(1 − w₀) / 2D``.
With the residuals ``e = z − h(x)`` at them, in units of the noise:

    ē = Σ w e,   S = Σ w (e − ē)(e − ē)ᵀ + I,   C = −Σ w (x − m)(e − ē)ᵀ,   K = C S⁻¹,   m ← m + K ē,   P ← P − K S Kᵀ

S. Julier and J. Uhlmann, "Unscented filtering and nonlinear estimation", Proceedings of the IEEE 92(3), 2004, eqs. 12
and 18. Angles are averaged about the residual at the mean, so that none is cut in two.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.evaluation.baselines.kalman import measure
from inference.evaluation.baselines.motion import unscented
from inference.mixture import GaussianMixture
from inference.motion import Control, Motion
from inference.observations import Observations

_CENTRE = 1 / 3  # weight of the sigma point at the mean; a third is exact to fourth order along each axis


class UnscentedKalmanFilter:
    """Unscented Kalman filter of ``B`` entities in ``D`` coordinates, float64.

    With linear sensors and no gate it is the Kalman filter. Outlier probabilities are not used: the gate is
    what guards the filter.

    Args:
        mean: ``(B, D)``.
        covariance: ``(B, D, D)``, positive definite.
        gate: probability that the chi-square gate lets an inlier through; None for no gate.

    Raises:
        ValueError: if `gate` is not inside (0, 1).
    """

    def __init__(self, mean: Tensor, covariance: Tensor, gate: float | None = 0.9973) -> None:
        if gate is not None and not 0 < gate < 1:
            raise ValueError(f"gate: expected a probability inside (0, 1), got {gate}")
        self.mean, self.covariance = mean.to(torch.float64), covariance.to(torch.float64)
        self.gate = gate

    def predict(self, transition: Tensor, noise: Tensor) -> None:
        """Move by ``x ← transition x + N(0, noise)``; both ``(B, D, D)``. Exact, so that no sigma points are needed."""
        transition, noise = transition.to(self.mean.dtype), noise.to(self.mean.dtype)
        self.mean = la.times(transition, self.mean)
        self.covariance = la.symmetrise(transition @ self.covariance @ transition.mT + noise)

    def move(self, motion: Motion, interval: Tensor, control: Control | None = None) -> None:
        """Move by `motion`, through sigma points, for `interval` ``(B,)`` seconds under a control held."""
        belief, sigma = (self.mean, self.covariance), self._sigma_points()
        self.mean, self.covariance = unscented(motion, belief, sigma, interval, control)

    def update(self, observations: Observations) -> Tensor:
        """Take in all observations, one after the other; returns which were used, ``(B, N)`` bool."""
        observations = observations.to(dtype=self.mean.dtype)
        used = [self._update_one(observations, index) for index in range(observations.kind.shape[1])]
        return torch.stack(used, -1) if used else observations.mask

    def mixture(self) -> GaussianMixture:
        """The belief, one component an entity."""
        return GaussianMixture.gaussian(self.mean, self.covariance)

    def _update_one(self, observations: Observations, index: int) -> Tensor:
        offsets, weights = self._sigma_points()
        residual = measure(observations, index, self.mean[:, None] + offsets).residual
        relative = residual - residual[:, :1]
        is_angle = observations.wraps[:, index, None]
        turn = 2 * math.pi / observations.standard_deviation[:, index, None]
        first = relative[..., 0]
        whole = torch.where(is_angle, turn * torch.round(first / turn), 0.0)
        relative = torch.cat([(first - whole)[..., None], relative[..., 1:]], -1)
        middle = (weights[:, None] * relative).sum(1)
        innovation, around = residual[:, 0] + middle, relative - middle[:, None]
        identity = torch.eye(around.shape[-1], dtype=around.dtype, device=around.device)
        spread = (weights[:, None] * around).mT @ around + identity
        across = -(weights[:, None] * offsets).mT @ around
        gain = torch.cholesky_solve(across.mT, torch.linalg.cholesky(spread)).mT
        accepted = observations.mask[:, index]
        if self.gate is not None:
            squared = (innovation * torch.linalg.solve(spread, innovation[..., None])[..., 0]).sum(-1)
            tail = torch.special.gammainc(0.5 * observations.rows[:, index], 0.5 * squared)
            accepted = accepted & (tail <= self.gate)
        updated = la.symmetrise(self.covariance - gain @ spread @ gain.mT)
        self.mean = torch.where(accepted[:, None], self.mean + la.times(gain, innovation), self.mean)
        self.covariance = torch.where(accepted[:, None, None], updated, self.covariance)
        return accepted

    def _sigma_points(self) -> tuple[Tensor, Tensor]:
        """Offsets from the mean ``(B, 2D + 1, D)`` and weights ``(2D + 1,)``."""
        size = self.mean.shape[-1]
        columns = math.sqrt(size / (1 - _CENTRE)) * torch.linalg.cholesky(self.covariance).mT
        offsets = torch.cat([torch.zeros_like(columns[:, :1]), columns, -columns], 1)
        weights = self.mean.new_full((2 * size + 1,), (1 - _CENTRE) / (2 * size))
        weights[0] = _CENTRE
        return offsets, weights
