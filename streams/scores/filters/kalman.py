"""Extended Kalman filter, with a chi-square gate.

The belief of an entity is one Gaussian ``N(m, P)``. An observation ``z = h(x) + noise``, whitened to unit noise, is
linearised at a state x, here ``x = m``. With the residual ``e = z − h(x)`` and the Jacobian ``J``,

    innovation  r = e − J (m − x),   S = J P Jᵀ + I,   gain  K = P Jᵀ S⁻¹,   m ← m + K r,
    P ← (I − K J) P (I − K J)ᵀ + K Kᵀ   (Joseph's form: positive definite despite rounding).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, Observations, wrap
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.streams.scores.filters.gaussian import GatedFilter

_TINY = 1e-12  # squared distance to a sensor below which the direction is undefined


class Measured(NamedTuple):
    """One observation per entity, whitened, and linearised at one state for each of ``K`` components."""

    residual: Tensor  # (B, K, R); zero in rows that the sensor lacks
    jacobian: Tensor  # (B, K, R, D)
    growth: Tensor | float = 0.0  # log ratio of the noise's deviation at the state to the stated one, (B, K)


class Innovation(NamedTuple):
    """Innovation of an observation under each of ``K`` Gaussians, in units of the noise."""

    squared: Tensor  # (B, K) squared Mahalanobis length under the predicted covariance
    log_density: Tensor  # (B, K) of the value under the prediction, up to the normaliser of the stated noise
    gain: Tensor  # (B, K, D, R)
    step: Tensor  # (B, K, D) from the prior mean


def measure(observations: Observations, index: int, states: Tensor) -> Measured:
    """Return residual and Jacobian of the observation `index` of each entity at `states` ``(B, K, D)``.

    Non-Gaussian noise is replaced by the Gaussian with equal moments at each state.
    """
    kind = observations.kind[:, index, None]
    matrix = observations.matrix[:, index, None]
    value, deviation = observations.value[:, index, None], observations.standard_deviation[:, index, None]
    relative = la.times(matrix, states) - observations.origin[:, index, None]
    squared = relative.square().sum(-1).clamp_min(_TINY)
    distance = squared.sqrt()
    scalar = value[..., 0] - distance
    slope = la.transpose_times(matrix, relative) / distance[..., None]
    if relative.shape[-1] > 1:  # an angle needs a plane
        heading = observations.heading[:, index, None]
        angle = torch.atan2(relative[..., 1], relative[..., 0]) - (heading * states).sum(-1)
        across = relative[..., :1] * matrix[..., 1, :] - relative[..., 1:2] * matrix[..., 0, :]
        is_angle = kind == ANGLE
        scalar = torch.where(is_angle, wrap(value[..., 0] - angle), scalar)
        slope = torch.where(is_angle[..., None], across / squared[..., None] - heading, slope)
    growth: Tensor | float = 0.0
    if observations.functions is not None or not observations.has_plain_noise:
        single = observations.map(lambda tensor: tensor[:, index : index + 1])
        scalar, slope = _function(single, states, scalar, slope)
        scalar, spread = _moments(single, scalar)
        growth, deviation = (spread / deviation).log() * (kind != LINEAR), spread
    first = torch.zeros_like(relative)
    first[..., 0] = 1.0
    linear = (kind == LINEAR)[..., None]
    residual = torch.where(linear, value - relative, (scalar / deviation)[..., None] * first)
    jacobian = first[..., None] * (slope / deviation[..., None])[..., None, :]
    return Measured(residual, torch.where(linear[..., None], matrix, jacobian), growth)


def _function(single: Observations, states: Tensor, scalar: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return residual ``(B, K)`` and gradient ``(B, K, D)``, replaced for sensors with a measurement function."""
    if single.functions is None:
        return scalar, slope
    linear = single.linearise(states, torch.eye(states.shape[-1]).to(states).expand(*states.shape, -1))
    gradient = linear.slope * linear.residuals.deviation[..., None]  # the slope is in units of the noise
    present = single.functions.present
    residual = torch.where(present, single.difference(states)[..., 0], scalar)
    return residual, torch.where(present[..., None], gradient[..., 0, :], slope)


def _moments(single: Observations, scalar: Tensor) -> tuple[Tensor, Tensor]:
    """Return the residual minus the mean of the noise, and the standard deviation of the noise, each ``(B, K)``."""
    deviation = single.deviation(single.magnitude(scalar[..., None])).expand(*scalar.shape, 1)
    if single.mixture is None:
        return scalar, deviation[..., 0]
    mean, spread = single.mixture.moments(deviation)
    centred = scalar - mean[..., 0]
    return torch.where(single.wraps, wrap(centred), centred), spread[..., 0]


def innovate(measured: Measured, offset: Tensor, covariances: Tensor) -> Innovation:
    """Return the innovation; `offset` ``(B, K, D)`` is the prior mean minus the state of linearisation."""
    residual = measured.residual - la.times(measured.jacobian, offset)
    spread = measured.jacobian @ covariances
    identity = torch.eye(residual.shape[-1], dtype=residual.dtype, device=residual.device)
    factor = torch.linalg.cholesky(spread @ measured.jacobian.mT + identity)
    squared = torch.cholesky_solve(residual[..., None], factor)[..., 0].mul(residual).sum(-1)
    gain = torch.cholesky_solve(spread, factor).mT
    log_density = -0.5 * squared - la.log_diagonal(factor) - measured.growth
    return Innovation(squared, log_density, gain, la.times(gain, residual))


def joseph(covariances: Tensor, gain: Tensor, jacobian: Tensor) -> Tensor:
    """Return the covariance after an update with unit noise, by Joseph's form, ``(..., D, D)``.

    Args:
        covariances: ``(..., D, D)``.
        gain: ``(..., D, R)``.
        jacobian: ``(..., R, D)``.
    """
    identity = torch.eye(covariances.shape[-1], dtype=covariances.dtype, device=covariances.device)
    rest = identity - gain @ jacobian
    return la.symmetrise(rest @ covariances @ rest.mT + gain @ gain.mT)


class ExtendedKalmanFilter(GatedFilter):
    """Extended Kalman filter; see `GatedFilter` for arguments and errors."""

    def _update_one(self, observations: Observations, index: int) -> Tensor:
        measured = measure(observations, index, self.mean[:, None])
        innovation = innovate(measured, torch.zeros_like(self.mean)[:, None], self.covariance[:, None])
        accepted = observations.mask[:, index]
        if self.gate is not None:
            accepted = self._accepted(observations, index, innovation.squared[:, 0])
        updated = joseph(self.covariance, innovation.gain[:, 0], measured.jacobian[:, 0])
        self._take(accepted, self.mean + innovation.step[:, 0], updated)
        return accepted
