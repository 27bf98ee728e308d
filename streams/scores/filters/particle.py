"""Bootstrap particle filter with a kernel density estimate.

The motion model moves the particles, and the exact likelihood, including outliers, weights them. Entities with an
effective sample size below half are resampled systematically, just before the next prediction, whose noise spreads the
copies. The density uses Gaussian kernels with the full covariance of the particles, scaled by Silverman's rule for the
effective sample size. After Gordon, Salmond and Smith, "Novel
approach to nonlinear/non-Gaussian Bayesian state estimation", IEE Proceedings F 140(2), 1993.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.motion import Control, Motion

_PAIRS_AT_ONCE = 4_000_000  # number of kernels times points in memory
_VALUES_AT_ONCE = 200_000  # number of predicted values in memory, so that they fit the processor's cache


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

    @property
    def effective_sample_size(self) -> Tensor:
        """``1 / Σ w²``, ``(B,)``, between 1 and the number of particles."""
        return (-torch.logsumexp(2 * self.log_weights, -1)).exp()

    def predict(self, transition: Tensor, noise: Tensor) -> None:
        """Resample where needed, then ``x ← transition x + N(0, noise)``.

        Both ``(B, D, D)``; the noise may be singular.
        """
        self.resample()
        values, vectors = torch.linalg.eigh(noise.to(self.particles.dtype))
        root = vectors * values.clamp_min(0).sqrt()[:, None, :]
        draw = torch.randn(
            self.particles.shape,
            generator=self.generator,
            dtype=self.particles.dtype,
            device=self.particles.device,
        )
        self.particles = self.particles @ transition.to(self.particles.dtype).mT + draw @ root.mT

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
        """Resample the entities with an effective sample size below half, systematically."""
        poor = self.effective_sample_size < 0.5 * self.particles.shape[1]
        if bool(poor.any()):
            self._redraw(poor)

    def _redraw(self, poor: Tensor) -> None:
        """Resample the entities `poor` ``(B,)`` bool systematically; their weights become equal."""
        count, weights = self.particles.shape[1], self.log_weights[poor].exp()
        start = torch.rand(
            len(weights), 1, generator=self.generator, dtype=weights.dtype, device=weights.device
        )
        comb = (torch.arange(count, dtype=weights.dtype, device=weights.device) + start) / count
        total = weights.cumsum(-1)
        index = torch.searchsorted(total / total[:, -1:], comb).clamp_max(count - 1)
        chosen = self.particles[poor].gather(1, index[..., None].expand(-1, -1, self.particles.shape[-1]))
        self.particles, self.log_weights = self.particles.clone(), self.log_weights.clone()
        self.particles[poor] = chosen
        self.log_weights[poor] = -math.log(count)

    def moments(self, axes: Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """Return mean ``(B, d)`` and unbiased covariance ``(B, d, d)`` over the coordinates `axes`; None for all."""
        points, weights = self._over(axes), self.log_weights.exp()
        mean = (weights[..., None] * points).sum(1)
        offset = points - mean[:, None]
        covariance = (weights[..., None] * offset).mT @ offset
        correction = (1 - weights.square().sum(-1)).clamp_min(1e-3)
        return mean, la.symmetrise(covariance) / correction[:, None, None]

    def mean(self, axes: Sequence[int] | None = None) -> Tensor:
        """Return the mean ``(B, d)`` over the coordinates `axes`; None for all."""
        return (self.log_weights.exp()[..., None] * self._over(axes)).sum(1)

    def sample(self, count: int, axes: Sequence[int] | None = None, noise: Tensor | None = None) -> Tensor:
        """Draw independent points of the kernel density, ``(B, count, d)``, with `noise` as in `log_density`."""
        points = self._over(axes)
        index = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=self.generator)
        centres = points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))
        draw = torch.randn(
            centres.shape, generator=self.generator, dtype=centres.dtype, device=centres.device
        )
        return centres + draw @ self._kernel_factor(axes, noise).mT

    def log_density(
        self, points: Tensor, axes: Sequence[int] | None = None, noise: Tensor | None = None
    ) -> Tensor:
        """Return the log kernel density over the coordinates `axes` at `points` ``(B, P, d)``, ``(B, P)``.

        With a covariance `noise` ``(B, d, d)`` it is the density of those coordinates plus Gaussian noise.
        """
        centres, factor = self._over(axes), self._kernel_factor(axes, noise)
        middle = self.mean(axes)[:, None]
        whitened = torch.linalg.solve_triangular(factor, (centres - middle).mT, upper=False)  # (B, d, count)
        constant = la.log_diagonal(factor) + 0.5 * factor.shape[-1] * LOG_TWO_PI
        bias = self.log_weights - 0.5 * whitened.square().sum(1) - constant[:, None]
        targets = torch.linalg.solve_triangular(factor, (points.to(factor.dtype) - middle).mT, upper=False).mT
        chunk = max(1, _PAIRS_AT_ONCE // bias.numel())
        parts = [
            torch.logsumexp(torch.baddbmm(bias[:, None], part, whitened), -1) - 0.5 * part.square().sum(-1)
            for part in torch.split(targets, chunk, 1)
        ]
        return torch.cat(parts, 1)

    def _over(self, axes: Sequence[int] | None) -> Tensor:
        return self.particles if axes is None else self.particles[..., list(axes)]

    def _kernel_factor(self, axes: Sequence[int] | None, noise: Tensor | None = None) -> Tensor:
        """Return the lower factor of the kernels' covariance by Silverman's rule, ``(B, d, d)``."""
        covariance = self._spread(axes)
        kernel = self._silverman(covariance.shape[-1]).square()[:, None, None] * covariance
        factor: Tensor = torch.linalg.cholesky(kernel if noise is None else kernel + noise)
        return factor

    def _spread(self, axes: Sequence[int] | None) -> Tensor:
        """Return a positive definite covariance of the particles, ``(B, d, d)``."""
        # if one particle has all weight, the covariance is zero; the floor is 1e-4 of the width of all particles
        cloud = self._over(axes).var(1, unbiased=False)
        return self.moments(axes)[1] + torch.diag_embed(1e-8 * cloud + torch.finfo(cloud.dtype).tiny)

    def _silverman(self, size: int) -> Tensor:
        """Return Silverman's bandwidth in `size` coordinates, relative to the spread of the particles, ``(B,)``."""
        return (self.effective_sample_size * (size + 2) / 4) ** (-1 / (size + 4))
