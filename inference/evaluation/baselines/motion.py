"""Prediction of the classical filters, which moves one Gaussian per entity through any motion.

Linear motions are exact. For others only the prediction of a point is used: its mean ``f(x)`` and covariance ``Q(x)``,
including the error of the control. `Motion.predict` gives both for a component without spread. Then

    extended:   m ← f(m),          P ← F P Fᵀ + Q(m),   F the Jacobian of f at m, by central differences
    unscented:  m ← Σ w f(xᵢ),     P ← Σ w (f(xᵢ) − m)(f(xᵢ) − m)ᵀ + Σ w Q(xᵢ),   the law of total covariance

over sigma points xᵢ of weights w.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Control, LinearMotion, Motion

_STEP = 1e-3  # step of the differences, in standard deviations
_LEAST_STEP = 1e-6  # in the coordinate's unit


def linearised(
    motion: Motion, mean: Tensor, covariance: Tensor, interval: Tensor, control: Control | None
) -> tuple[Tensor, Tensor]:
    """Return mean ``(B, D)`` and covariance ``(B, D, D)`` of the extended filter after `interval` ``(B,)``, seconds."""
    if isinstance(motion, LinearMotion):
        return _exact(motion, mean, covariance, interval, control)
    deviation = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    steps = torch.diag_embed((_STEP * deviation).clamp_min(_LEAST_STEP))
    offsets = torch.cat([torch.zeros_like(steps[:, :1]), steps, -steps], 1)
    moved, noise = _points(motion, mean[:, None] + offsets, interval, control)
    size = mean.shape[-1]
    # row i is the change for the i-th coordinate
    slope = (moved[:, 1 : size + 1] - moved[:, size + 1 :]) / (
        2 * steps.diagonal(dim1=-2, dim2=-1)[..., None]
    )
    return moved[:, 0], la.symmetrise(slope.mT @ covariance @ slope + noise[:, 0])


def unscented(
    motion: Motion,
    belief: tuple[Tensor, Tensor],
    sigma: tuple[Tensor, Tensor],
    interval: Tensor,
    control: Control | None,
) -> tuple[Tensor, Tensor]:
    """Return mean ``(B, D)`` and covariance ``(B, D, D)`` of the unscented filter after `interval` ``(B,)``, seconds.

    Args:
        motion: the motion.
        belief: mean ``(B, D)`` and covariance ``(B, D, D)``.
        sigma: offsets of the sigma points from the mean ``(B, P, D)``, and weights ``(P,)``.
        interval: in seconds, ``(B,)``.
        control: constant control; None for none.
    """
    mean, covariance = belief
    if isinstance(motion, LinearMotion):
        return _exact(motion, mean, covariance, interval, control)
    offsets, weights = sigma
    moved, noise = _points(motion, mean[:, None] + offsets, interval, control)
    middle = (weights[:, None] * moved).sum(1)
    around = moved - middle[:, None]
    spread = (weights[:, None] * around).mT @ around + (weights[:, None, None] * noise).sum(1)
    return middle, la.symmetrise(spread)


def _exact(
    motion: Motion, mean: Tensor, covariance: Tensor, interval: Tensor, control: Control | None
) -> tuple[Tensor, Tensor]:
    moved = motion.predict(GaussianMixture.gaussian(mean, covariance), interval, control)
    return moved.means[:, 0], moved.covariances[:, 0]


def _points(
    motion: Motion, points: Tensor, interval: Tensor, control: Control | None
) -> tuple[Tensor, Tensor]:
    """Predict `points` ``(B, P, D)``, and return means ``(B, P, D)`` and covariances ``(B, P, D, D)``."""
    batch, count, size = points.shape
    sharp = GaussianMixture(
        points.new_zeros(batch, count), points, points.new_zeros(batch, count, size, size)
    )
    moved = motion.predict(sharp, interval, control)
    return moved.means, moved.covariances
