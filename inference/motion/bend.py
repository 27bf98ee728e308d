"""Loss of a Gaussian approximation under a nonlinear motion, and the direction of the nonlinearity.

Let a component N(m, L Lᵀ) of state and inputs move along ``f``. The outcome is not Gaussian if f is nonlinear over it.
To second order ``f(m + L e) = f(m) + J e + e·H e / 2``. Take J and H in units of the predicted covariance C, which
includes the noise, so that C is the identity. Then the third cumulants of the outcome are

    κ_ijk = J_iᵀ H_j J_k + J_jᵀ H_i J_k + J_iᵀ H_k J_j + tr(H_i H_j H_k)

and the divergence of the Gaussian with the same mean and covariance is about ``Σ κ_ijk² / 12`` nats (P. McCullagh,
"Tensor Methods in Statistics", 1987, section 5.3; P. Comon, "Independent component analysis, a new concept?", Signal
Processing 36, 1994, eq. 3.7). Above one nat this expansion grows too fast, so one plus its logarithm replaces it. J and
H are differences over the whole spread of a component, not derivatives.

A part that is narrower by a factor s along a unit vector e has ``J S``, ``S H S`` with ``S = 1 − (1 − s) e eᵀ`` and the
covariance ``1 − (1 − s²) J e (J e)ᵀ``. So the loss after a split can be computed before the split.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.motion.turning import Turning

REACH = 1.25  # distance of the differences from the mean, in standard deviations
ROUNDING = 1e-12  # smallest predicted standard deviation, relative to the size of the coordinate

TINY = torch.finfo(torch.float64).tiny


class Bend(NamedTuple):
    """Second-order expansion of a motion at ``N`` components, with ``A`` coordinates of state and inputs.

    Attributes:
        slope: J, ``(N, D, A)``.
        curvature: H, ``(N, D, A, A)``.
    """

    slope: Tensor
    curvature: Tensor

    def rows(self, index: Tensor) -> Bend:
        return Bend(self.slope[index], self.curvature[index])

    def loss(self) -> Tensor:
        """Return the loss of the Gaussian with the exact mean and covariance, in nats, ``(N,)``."""
        slope, curvature = self
        onto = torch.einsum("njab,nkb->njka", curvature, slope)  # H_j J_k
        mixed = torch.einsum("nia,njka->nijk", slope, onto)  # J_i H_j J_k
        product = torch.einsum("niab,njbc->nijac", curvature, curvature)
        cumulants = mixed + mixed.transpose(1, 2) + mixed.transpose(2, 3)
        cumulants = cumulants + torch.einsum("nijac,nkca->nijk", product, curvature)
        divergence = cumulants.square().sum((1, 2, 3)) / 12
        return torch.where(divergence > 1, 1 + divergence.clamp_min(1).log(), divergence)

    def narrowed(self, direction: Tensor, factor: Tensor) -> Bend:
        """Return the expansion of parts whose width along unit vectors `direction` ``(N, A)`` is `factor` ``(N,)``."""
        less, along = 1 - factor, la.times(self.slope, direction)
        slope = self.slope - less[:, None, None] * la.outer(along, direction)
        once = torch.einsum("njab,nb->nja", self.curvature, direction)
        curvature = self.curvature - less[:, None, None, None] * once[..., None] * direction[:, None, None]
        once = torch.einsum("njab,na->njb", curvature, direction)
        curvature = curvature - less[:, None, None, None] * direction[:, None, :, None] * once[:, :, None]
        # (1 − c u uᵀ)^(−1/2) = 1 + (1 / √(1 − c |u|²) − 1) u uᵀ / |u|²
        # over a wide component the slope is inaccurate and |u|² can exceed one, so it is clamped
        size = la.squared_norm(along)
        rest = torch.maximum(1 - (1 - factor.square()) * size, factor.square())
        grown = (rest.rsqrt() - 1) / size.clamp_min(1e-300)
        white = torch.eye(along.shape[1], dtype=along.dtype, device=along.device)
        white = white + grown[:, None, None] * la.outer(along, along)
        return Bend(white @ slope, torch.einsum("nij,njab->niab", white, curvature))


def bend(motion: Turning, mean: Tensor, factor: Tensor, interval: Tensor, predicted: Tensor) -> Bend:
    """Expand a motion at each component of state and inputs.

    Args:
        motion: the turning motion.
        mean: means of state and inputs, ``(N, A)``.
        factor: lower Cholesky factors L of the covariances, ``(N, A, A)``.
        interval: in seconds, ``(N,)``.
        predicted: covariances of the predicted state, ``(N, D, D)``.
    """
    size = mean.shape[1]
    columns = REACH * factor.mT  # (N, A, A), each row a column of L
    left, right = torch.triu_indices(size, size, 1, device=mean.device)
    steps = torch.cat([columns, columns[:, left] + columns[:, right]], 1)
    around = mean[:, None] + torch.cat([torch.zeros_like(steps[:, :1]), steps, -steps], 1)
    ends = motion.follow(around, interval)
    centre, ahead, behind = torch.split(ends, [1, steps.shape[1], steps.shape[1]], 1)
    rounding = (ROUNDING * around[..., : predicted.shape[-1]].abs().amax(1)).square()
    white = la.invert_lower(la.cholesky(predicted + torch.diag_embed(rounding), TINY))
    slope = (ahead[:, :size] - behind[:, :size]) / (2 * REACH) @ white.mT  # (N, A, D)
    second = (ahead + behind - 2 * centre) / REACH**2 @ white.mT
    own, pairs = second[:, :size], second[:, size:]
    curvature = second.new_zeros(len(mean), size, size, white.shape[-1])
    curvature[:, left, right] = (pairs - own[:, left] - own[:, right]) / 2
    curvature = curvature + curvature.transpose(1, 2)
    curvature.diagonal(dim1=1, dim2=2)[...] = own.mT
    return Bend(slope.mT, curvature.movedim(-1, 1))
