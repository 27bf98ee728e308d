"""Unscented Kalman filter, with a chi-square gate.

The belief of an entity is one Gaussian ``N(m, P)``. The sigma points are ``x₀ = m`` and
``x± = m ± √(D / (1 − w₀)) Lᵢ``, where ``L`` is the Cholesky factor of ``P``, with weights ``w₀ = 1/3`` and
``(1 − w₀) / 2D``. With the residuals ``e = z − h(x)`` at them, in units of the noise,

    ē = Σ w e,   S = Σ w (e − ē)(e − ē)ᵀ + I,   C = −Σ w (x − m)(e − ē)ᵀ,   K = C S⁻¹,   m ← m + K ē,   P ← P − K S Kᵀ

S. Julier and J. Uhlmann, "Unscented filtering and nonlinear estimation", Proceedings of the IEEE 92(3), 2004, eqs. 12
and 18. Angles are averaged relative to the residual at the mean, so that wrapping does not affect the average.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.streams.scores.filters.gaussian import GatedFilter
from beliefstream.streams.scores.filters.kalman import measure

_CENTRE = 1 / 3  # weight of the sigma point at the mean; this value is exact to fourth order along each axis


class UnscentedKalmanFilter(GatedFilter):
    """Unscented Kalman filter; see `GatedFilter` for arguments and errors."""

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
            accepted = self._accepted(observations, index, squared)
        updated = la.symmetrise(self.covariance - gain @ spread @ gain.mT)
        self._take(accepted, self.mean + la.times(gain, innovation), updated)
        return accepted

    def _sigma_points(self) -> tuple[Tensor, Tensor]:
        """Return offsets of the sigma points from the mean ``(B, 2D + 1, D)``, and weights ``(2D + 1,)``."""
        size = self.mean.shape[-1]
        columns = math.sqrt(size / (1 - _CENTRE)) * torch.linalg.cholesky(self.covariance).mT
        offsets = torch.cat([torch.zeros_like(columns[:, :1]), columns, -columns], 1)
        weights = self.mean.new_full((2 * size + 1,), (1 - _CENTRE) / (2 * size))
        weights[0] = _CENTRE
        return offsets, weights
