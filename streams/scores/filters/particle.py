"""Bootstrap particle filter with a kernel density estimate.

The motion model moves the particles, and the exact likelihood, including outliers, weights them. Entities with an
sample efficiency below half are resampled systematically, just before the next prediction, whose noise spreads the
copies. The density uses Gaussian kernels with the full covariance of the particles, scaled by Silverman's rule for the
sample efficiency. After Gordon, Salmond and Smith, "Novel approach to nonlinear/non-Gaussian Bayesian state
estimation", IEE Proceedings F 140(2), 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.motion import Control, Motion

_PAIRS_AT_ONCE = 4_000_000  # number of kernels times points in memory
_VALUES_AT_ONCE = 200_000  # number of predicted values in memory, so that they fit the processor's cache


@dataclass(frozen=True, eq=False)
class KernelDensity:
    """Gaussian kernels around weighted points of ``B`` entities in ``d`` coordinates.

    Attributes:
        points: ``(B, count, d)``.
        log_weights: ``(B, count)``.
        generator: of the draws.
        noise: covariance ``(B, d, d)`` that is added to that of the kernels.
    """

    points: Tensor
    log_weights: Tensor
    generator: torch.Generator
    noise: Tensor | None = None

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean ``(B, d)`` and unbiased covariance ``(B, d, d)`` of the points."""
        weights = self.log_weights.exp()
        mean = (weights[..., None] * self.points).sum(1)
        offset = self.points - mean[:, None]
        covariance = (weights[..., None] * offset).mT @ offset
        correction = (1 - weights.square().sum(-1)).clamp_min(1e-3)
        return mean, la.symmetrise(covariance) / correction[:, None, None]

    def spread(self) -> Tensor:
        """Return a positive definite covariance of the points."""
        # if one point has all weight, the covariance is zero; the floor is 1e-4 of the width of all points
        cloud = self.points.var(1, unbiased=False)
        return self.moments()[1] + torch.diag_embed(1e-8 * cloud + torch.finfo(cloud.dtype).tiny)

    def bandwidth(self) -> Tensor:
        """Return Silverman's bandwidth, relative to the spread of the points, ``(B,)``."""
        size = self.points.shape[-1]
        return (sample_efficiency(self.log_weights) * (size + 2) / 4) ** (-1 / (size + 4))

    def sample(self, count: int, _: torch.Generator | None = None) -> Tensor:
        """Draw independent points by the filter's own generator, ``(B, count, d)``."""
        index = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=self.generator)
        centres = self.points.gather(1, index[..., None].expand(-1, -1, self.points.shape[-1]))
        draw = torch.randn(
            centres.shape, generator=self.generator, dtype=centres.dtype, device=centres.device
        )
        return centres + draw @ self._factor().mT

    def log_density(self, points: Tensor) -> Tensor:
        """Return the log density ``(B, P)`` at `points` ``(B, P, d)``."""
        factor, middle = self._factor(), self.moments()[0][:, None]
        whitened = torch.linalg.solve_triangular(factor, (self.points - middle).mT, upper=False)
        constant = la.log_diagonal(factor) + 0.5 * factor.shape[-1] * LOG_TWO_PI
        bias = self.log_weights - 0.5 * whitened.square().sum(1) - constant[:, None]
        targets = torch.linalg.solve_triangular(factor, (points.to(factor.dtype) - middle).mT, upper=False).mT
        chunk = max(1, _PAIRS_AT_ONCE // bias.numel())
        parts = [
            torch.logsumexp(torch.baddbmm(bias[:, None], part, whitened), -1) - 0.5 * part.square().sum(-1)
            for part in torch.split(targets, chunk, 1)
        ]
        return torch.cat(parts, 1)

    def _factor(self) -> Tensor:
        """Return the lower factor of the kernels' covariance, ``(B, d, d)``."""
        kernel = self.bandwidth().square()[:, None, None] * self.spread()
        factor: Tensor = torch.linalg.cholesky(kernel if self.noise is None else kernel + self.noise)
        return factor


def systematic(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Resample systematically by `weights` ``(..., P)``, and return indices ``(..., P)``."""
    count = weights.shape[-1]
    start = torch.rand(
        (*weights.shape[:-1], 1), generator=generator, dtype=weights.dtype, device=weights.device
    )
    comb = (torch.arange(count, dtype=weights.dtype, device=weights.device) + start) / count
    total = weights.cumsum(-1)
    return torch.searchsorted(total / total[..., -1:], comb).clamp_max(count - 1)


def sample_efficiency(log_weights: Tensor) -> Tensor:
    """Return ``1 / Σ w²``, ``(B,)``, between 1 and the number of points."""
    return (-torch.logsumexp(2 * log_weights, -1)).exp()


class ParticleFilter:
    """Weighted particles of ``B`` entities in ``D`` coordinates, float64.

    Args:
        prior: distribution of the initial particles, ``(B, K)``.
        particles: number per entity, at least 2.
        generator: random number generator on the prior's device.
    """

    def __init__(self, prior: GaussianMixture, particles: int, generator: torch.Generator) -> None:
        if particles < 2:
            raise ValueError(f"particles: expected at least 2, got {particles}")
        self.generator = generator
        self.particles = prior.to(dtype=torch.float64).sample(particles, generator)
        self.log_weights = self.particles.new_full(self.particles.shape[:2], -math.log(particles))

    def move(self, motion: Motion, interval: Tensor, control: Control | None = None) -> None:
        """Resample where needed, then draw the state of each particle after `interval` ``(B,)``, seconds."""
        self.resample()
        self.particles = motion.sample(self.particles, interval, control, self.generator)

    def update(self, observations: Observations) -> None:
        """Multiply the weights by the likelihood of all observations of an entity."""
        self.log_weights = torch.log_softmax(self.log_weights + self._log_likelihood(observations), -1)

    def _log_likelihood(self, observations: Observations) -> Tensor:
        """Return the log likelihood of all observations of an entity at each particle, ``(B, count)``."""
        observations = observations.to(dtype=self.particles.dtype)
        # one row for each observation, so that padding is not evaluated
        entity = observations.mask.nonzero()[:, 0]
        mask = observations.mask
        single = observations.map(lambda tensor: tensor[mask][:, None])
        total = torch.zeros_like(self.log_weights)
        at_once = max(1, _VALUES_AT_ONCE // (total.shape[1] * observations.value.shape[-1]))
        for chosen in torch.split(torch.arange(len(entity), device=entity.device), at_once):
            owner = entity[chosen]
            total.index_add_(0, owner, single.rows_of(chosen).log_likelihood(self.particles[owner]))
        return total

    def resample(self) -> None:
        """Resample the entities with a sample efficiency below half, systematically."""
        poor = sample_efficiency(self.log_weights) < 0.5 * self.particles.shape[1]
        if bool(poor.any()):
            self._redraw(poor)

    def _redraw(self, poor: Tensor) -> None:
        """Resample the entities `poor` ``(B,)`` bool systematically; their weights become equal."""
        index = systematic(self.log_weights[poor].exp(), self.generator)
        chosen = self.particles[poor].gather(1, index[..., None].expand(-1, -1, self.particles.shape[-1]))
        self.particles, self.log_weights = self.particles.clone(), self.log_weights.clone()
        self.particles[poor] = chosen
        self.log_weights[poor] = -math.log(self.particles.shape[1])

    def density(self, axes: Sequence[int] | None = None, noise: Tensor | None = None) -> KernelDensity:
        """Return the kernel density of the coordinates `axes`, or of all, plus noise of covariance ``(B, d, d)``."""
        points = self.particles if axes is None else self.particles[..., list(axes)]
        return KernelDensity(points, self.log_weights, self.generator, noise)
