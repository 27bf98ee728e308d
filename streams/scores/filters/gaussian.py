"""Base of the classical filters that keep one Gaussian per entity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.motion import Control, LinearMotion, Motion

_STEP = 1e-3  # of central differences, in standard deviations
_LEAST_STEP = 1e-6  # in the coordinate's unit


class GaussianFilter(ABC):
    """Filter of ``B`` entities in ``D`` coordinates, float64.

    Args:
        mean: ``(B, D)``.
        covariance: ``(B, D, D)``, positive definite.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean.to(torch.float64), covariance.to(torch.float64)

    def move(self, motion: Motion, interval: Tensor, control: Control | None = None) -> None:
        """Predict by `motion`, linearised at the mean, over `interval` ``(B,)``, seconds, with a constant control."""
        self.mean, self.covariance = _linearised(motion, self.mean, self.covariance, interval, control)

    @abstractmethod
    def update(self, observations: Observations) -> Tensor:
        """Update with all observations, and return which were used, ``(B, N)`` bool."""

    def mixture(self) -> GaussianMixture:
        """Return the belief, with one component per entity."""
        return GaussianMixture.gaussian(self.mean, self.covariance)

    def density(self, axes: Sequence[int], noise: Tensor | None = None) -> GaussianMixture:
        """Return the distribution of the coordinates `axes`, plus Gaussian noise of covariance ``(B, d, d)``."""
        return with_noise(self.mixture().marginal(axes), noise)


class GatedFilter(GaussianFilter):
    """Filter that uses one observation after the other, and skips those that fail a chi-square gate.

    With linear sensors and without a gate it is the Kalman filter. It ignores outlier probabilities, because the gate
    rejects outliers. It cannot recover from a wrong belief, because the gate rejects the observations that would
    correct it.

    Args:
        mean: ``(B, D)``.
        covariance: ``(B, D, D)``, positive definite.
        gate: probability that the chi-square gate passes an inlier; None for no gate.

    Raises:
        ValueError: `gate` is not inside (0, 1).
    """

    def __init__(self, mean: Tensor, covariance: Tensor, gate: float | None = 0.9973) -> None:
        if gate is not None and not 0 < gate < 1:
            raise ValueError(f"gate: expected a probability inside (0, 1), got {gate}")
        super().__init__(mean, covariance)
        self.gate = gate

    def update(self, observations: Observations) -> Tensor:
        """Update with all observations, one after the other, and return which were used, ``(B, N)`` bool."""
        observations = observations.to(dtype=self.mean.dtype)
        used = [self._update_one(observations, index) for index in range(observations.kind.shape[1])]
        return torch.stack(used, -1) if used else observations.mask

    @abstractmethod
    def _update_one(self, observations: Observations, index: int) -> Tensor:
        """Update with one observation of each entity, and return whether it was used, ``(B,)`` bool."""

    def _accepted(self, observations: Observations, index: int, squared: Tensor) -> Tensor:
        """Return which observations exist and pass the gate; `squared` is the squared Mahalanobis length, ``(B,)``."""
        assert self.gate is not None
        # the chi-square distribution function with r degrees of freedom is P(r/2, q/2)
        tail: Tensor = torch.special.gammainc(0.5 * observations.rows[:, index], 0.5 * squared)
        return observations.mask[:, index] & (tail <= self.gate)

    def _take(self, accepted: Tensor, mean: Tensor, covariance: Tensor) -> None:
        """Set mean and covariance where the observation is accepted."""
        self.mean = torch.where(accepted[:, None], mean, self.mean)
        self.covariance = torch.where(accepted[:, None, None], covariance, self.covariance)


def with_noise(mixture: GaussianMixture, noise: Tensor | None) -> GaussianMixture:
    """Return the distribution of the mixture plus Gaussian noise of covariance ``(B, d, d)``, if there is any."""
    if noise is None:
        return mixture
    return GaussianMixture(mixture.log_weights, mixture.means, mixture.covariances + noise[:, None])


def _linearised(
    motion: Motion, mean: Tensor, covariance: Tensor, interval: Tensor, control: Control | None
) -> tuple[Tensor, Tensor]:
    """Return mean and covariance after `interval` ``(B,)``, seconds.

    A linear motion is exact. Of others only the prediction of a point x is used: its mean f(x) and covariance Q(x),
    with the error of the control, which `Motion.predict` gives for a component without spread. Then

        m ← f(m),   P ← F P Fᵀ + Q(m),   F the Jacobian of f at m, by central differences.
    """
    if isinstance(motion, LinearMotion):
        exact = motion.predict(GaussianMixture.gaussian(mean, covariance), interval, control)
        return exact.means[:, 0], exact.covariances[:, 0]
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
