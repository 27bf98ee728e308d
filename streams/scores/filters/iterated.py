"""Iterated extended Kalman filter without a gate: Gauss-Newton steps to the mode of the posterior.

The belief of an entity is one Gaussian ``N(m, P)``. All observations of an instant, whitened, are used together. With
the stacked residuals ``e(x)`` and their Jacobian ``J(x)``, the update minimises

    V(y) = ½ |y|² + ½ |e(x)|²,   x = m + L y,   L Lᵀ = P

by steps ``(I + Lᵀ Jᵀ J L) Δ = Lᵀ Jᵀ e − y``, ``J = −∂e/∂x``, each halved until ``V`` does not rise. The posterior is
``N(x, L (I + Lᵀ Jᵀ J L)⁻¹ Lᵀ)`` at the last point. Residuals of directions are wrapped.

B. Bell and F. Cathey, "The iterated Kalman filter update as a Gauss-Newton method", IEEE TAC 38(2), 1993; the step
control after M. Skoglund, G. Hendeby and D. Axehill, "Extended Kalman filter modifications based on an optimization
view point", FUSION 2015.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.streams.scores.filters.gaussian import GaussianFilter
from beliefstream.streams.scores.filters.kalman import measure

_SETTLED = 1e-6  # step below which the search ends, in standard deviations of the prior
_MOST_STEPS = 20  # of Gauss-Newton
_HALVINGS = 10


class _Point(NamedTuple):
    """A point of the search, with the residuals of the observations."""

    y: Tensor  # (B, D) from the prior mean, in its standard deviations
    cost: Tensor  # (B,)
    residual: Tensor  # (B, M)
    jacobian: Tensor  # (B, M, D), with respect to y


class IteratedKalmanFilter(GaussianFilter):
    """Iterated extended Kalman filter without a gate; see `GaussianFilter` for arguments.

    With linear sensors it is the Kalman filter. It ignores outlier probabilities.
    """

    def update(self, observations: Observations) -> Tensor:
        """Update with all observations together, and return which were used: all of them, ``(B, N)`` bool."""
        observations = observations.to(dtype=self.mean.dtype)
        factor = _root(self.covariance)
        here = self._see(observations, factor, torch.zeros_like(self.mean))
        for _ in range(_MOST_STEPS):
            there = self._search(observations, factor, here)
            moved = (there.y - here.y).square().sum(-1).amax().sqrt()
            here = there
            if float(moved) < _SETTLED:
                break
        # W Wᵀ = L H⁻¹ Lᵀ with H = C Cᵀ and W = L C⁻ᵀ, which is positive definite despite rounding
        root = torch.linalg.solve_triangular(_hessian(here), factor.mT, upper=False)
        self.mean = self.mean + la.times(factor, here.y)
        self.covariance = la.symmetrise(root.mT @ root)
        return observations.mask

    def _search(self, observations: Observations, factor: Tensor, here: _Point) -> _Point:
        """Return the point after a Gauss-Newton step, halved until the cost of each entity falls; otherwise `here`."""
        slope = la.transpose_times(here.jacobian, here.residual) - here.y
        step = torch.cholesky_solve(slope[..., None], _hessian(here))[..., 0]
        best, open_ = here, torch.ones_like(here.cost, dtype=torch.bool)
        for halving in range(_HALVINGS + 1):
            tried = self._see(observations, factor, here.y + step / 2**halving)
            taken = open_ & (tried.cost <= here.cost)
            best = _Point(*(_where(taken, new, old) for new, old in zip(tried, best, strict=True)))
            open_ = open_ & ~taken
            if not bool(open_.any()):
                break
        return best

    def _see(self, observations: Observations, factor: Tensor, y: Tensor) -> _Point:
        """Evaluate all observations at ``m + L y``, except absent and undefined ones."""
        batch, count = observations.mask.shape
        single = observations.map(lambda tensor: tensor.flatten(0, 1)[:, None])
        states = (self.mean + la.times(factor, y)).repeat_interleave(count, 0)
        measured = measure(single, 0, states[:, None])
        residual, jacobian = measured.residual[:, 0], measured.jacobian[:, 0]
        finite = residual.isfinite().all(-1) & jacobian.isfinite().all(-1).all(-1)
        used = (observations.mask.flatten() & finite)[:, None]
        residual = torch.where(used, residual, 0.0).view(batch, -1)
        jacobian = torch.where(used[..., None], jacobian, 0.0).view(batch, -1, y.shape[-1])
        cost = 0.5 * (y.square().sum(-1) + residual.square().sum(-1))
        if isinstance(measured.growth, Tensor):  # a wider noise has a lower density
            growth = torch.where(used, measured.growth, 0.0)
            cost = cost + growth.view(batch, -1).sum(-1)
        return _Point(y, cost, residual, jacobian @ factor)


def _root(covariance: Tensor) -> Tensor:
    """Return a factor ``L`` ``(B, D, D)`` of a covariance ``L Lᵀ`` that may be singular."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(covariance)
    if not bool(failed.any()):
        return factor
    values, vectors = torch.linalg.eigh(covariance)
    return torch.where((failed > 0)[:, None, None], vectors * values.clamp_min(0).sqrt()[:, None], factor)


def _hessian(point: _Point) -> Tensor:
    """Return the lower factor of ``I + Lᵀ Jᵀ J L``, ``(B, D, D)``."""
    identity = torch.eye(point.y.shape[-1], dtype=point.y.dtype, device=point.y.device)
    factor: Tensor = torch.linalg.cholesky(identity + point.jacobian.mT @ point.jacobian)
    return factor


def _where(condition: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(condition.view(-1, *[1] * (new.dim() - 1)), new, old)
