"""Batched Gaussian mixtures.

A mixture over a state of ``D`` coordinates has up to ``K`` components, for ``B`` entities at once. An entity with fewer
than ``K`` components has log weight ``-inf`` in its unused places. Their means and covariances are finite and never
matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import LOG_TWO_PI as LOG_TWO_PI, log_densities
from beliefstream.inference.mixtures.native_linear_algebra import affine_all


def component_log_density(points: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """Log density of each of ``K`` Gaussians at each of ``P`` points, by PyTorch's operators: with gradients.

    `points` ``(B, P, D)``, `means` ``(B, K, D)``, lower Cholesky `factors` ``(B, K, D, D)``; returns ``(B, K, P)``.
    With points last, sums over components add long rows, which the processor vectorises.
    """
    inverse = la.invert_lower(factors)
    # whitened offset without the (B, K, P, D, D) intermediate: L⁻¹x − L⁻¹m, the product as one batched matmul
    batch, components, size = means.shape
    flat = inverse.reshape(batch, components * size, size)
    shift = la.times(inverse, means).reshape(batch, components * size, 1)
    whitened = torch.baddbmm(-shift, flat, points.mT).view(batch, components, size, -1)
    constant = la.log_diagonal(factors) + 0.5 * size * LOG_TWO_PI
    return torch.add(-constant[..., None], la.squared_norm(whitened.transpose(2, 3)), alpha=-0.5)


@dataclass(frozen=True)
class GaussianMixture:
    """``Σ_k exp(log_weights_k) N(x; means_k, covariances_k)`` for a batch of entities.

    log_weights ``(B, K)``, means ``(B, K, D)``, covariances ``(B, K, D, D)``, of one dtype on one device.
    """

    log_weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        batch, components = self.log_weights.shape
        size = self.means.shape[-1]
        if self.means.shape != (batch, components, size):
            raise ValueError(f"means: expected ({batch}, {components}, D), got {tuple(self.means.shape)}")
        if self.covariances.shape != (batch, components, size, size):
            expected = (batch, components, size, size)
            raise ValueError(f"covariances: expected {expected}, got {tuple(self.covariances.shape)}")

    @classmethod
    def gaussian(cls, mean: Tensor, covariance: Tensor) -> GaussianMixture:
        """One Gaussian per entity, from mean ``(B, D)`` and covariance ``(B, D, D)``."""
        zero = torch.zeros(mean.shape[0], 1, dtype=mean.dtype, device=mean.device)
        return cls(zero, mean[:, None], covariance[:, None])

    @classmethod
    def from_weights(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> GaussianMixture:
        """A mixture from weights that sum to one, in place of log weights."""
        return cls(weights.log(), means, covariances)

    @property
    def batch(self) -> int:
        return self.log_weights.shape[0]

    @property
    def components(self) -> int:
        return self.log_weights.shape[1]

    @property
    def dimension(self) -> int:
        return self.means.shape[-1]

    @property
    def present(self) -> Tensor:
        """Which components are used, ``(B, K)`` bool."""
        return self.log_weights > -math.inf

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and covariances."""
        return self.log_weights, self.means, self.covariances

    @property
    def numbers(self) -> Numbers:
        """The numbers on the processor, float64."""
        return Numbers(*map(array, self.parts))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> GaussianMixture:
        return GaussianMixture(*(part.to(dtype=dtype, device=device) for part in self.parts))

    def rows(self, index: Tensor | slice) -> GaussianMixture:
        """The mixtures of the entities at `index`."""
        return GaussianMixture(*(part[index] for part in self.parts))

    def ordered(self) -> GaussianMixture:
        """Sort components by falling weight, equal ones by the first coordinate of their means."""
        order = torch.argsort(self.means[..., 0], dim=1, stable=True)
        heavier = torch.argsort(self.log_weights.gather(1, order), dim=1, descending=True, stable=True)
        return self.places(order.gather(1, heavier))

    def padded(self, count: int) -> GaussianMixture:
        """With `count` places: the first ones, or more without weight.

        A place without weight has the mean and covariance of the first, whatever stood there.
        """
        places = torch.arange(count, device=self.means.device)
        mixture = self.places(places.clamp(max=self.components - 1).expand(self.batch, -1))
        log_weights = mixture.log_weights.masked_fill(places >= self.components, -math.inf)
        present = log_weights > -math.inf
        return GaussianMixture(
            log_weights,
            torch.where(present[..., None], mixture.means, mixture.means[:, :1]),
            torch.where(present[..., None, None], mixture.covariances, mixture.covariances[:, :1]),
        )

    def places(self, index: Tensor) -> GaussianMixture:
        """The components at `index` ``(B, J)``."""
        row = torch.arange(self.batch, device=index.device)[:, None]
        return GaussianMixture(*(part[row, index] for part in self.parts))

    def normalised(self) -> GaussianMixture:
        """Normalise the weights, so that they sum to one."""
        return GaussianMixture(torch.log_softmax(self.log_weights, -1), self.means, self.covariances)

    def factors(self) -> Tensor:
        """Lower Cholesky factors of the covariances, ``(B, K, D, D)``."""
        return la.cholesky(self.covariances, torch.finfo(self.covariances.dtype).tiny)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(B, D)`` and covariance ``(B, D, D)`` of the whole mixture."""
        weights = self.log_weights.exp()
        mean = (weights[..., None] * self.means).sum(1)
        offset = self.means - mean[:, None]
        covariance = (weights[..., None, None] * (self.covariances + la.outer(offset, offset))).sum(1)
        return mean, la.symmetrise(covariance)

    def log_density(self, points: Tensor) -> Tensor:
        """Log density at `points` ``(B, P, D)``; returns ``(B, P)``."""
        return log_density(self, self.factors(), points)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `count` independent points per entity, ``(B, count, D)``."""
        source = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        shape = (self.batch, count, self.dimension)
        noise = torch.randn(shape, generator=generator, dtype=self.means.dtype, device=self.means.device)
        row = torch.arange(self.batch, device=self.means.device)[:, None]
        return self.means[row, source] + la.times(self.factors()[row, source], noise)

    def marginal(self, axes: Sequence[int]) -> GaussianMixture:
        """Marginal over the coordinates `axes`, in the order given."""
        index = torch.tensor(list(axes), device=self.means.device)
        covariances = self.covariances[..., index, :][..., index]
        return GaussianMixture(self.log_weights, self.means[..., index], covariances)

    def in_coordinates(self, shift: Tensor, scale: Tensor) -> GaussianMixture:
        """The mixture of y, where the state is ``x = shift + scale · y``; `shift` ``(B, D)``, `scale` ``(B,)``."""
        means = (self.means - shift[:, None]) / scale[:, None, None]
        return GaussianMixture(
            self.log_weights, means, self.covariances / scale[:, None, None, None].square()
        )

    def where(self, chosen: Tensor, other: GaussianMixture) -> GaussianMixture:
        """These components where `chosen` ``(B, 1 or K)``, elsewhere the components of `other` in the same places."""
        return GaussianMixture(
            torch.where(chosen, self.log_weights, other.log_weights),
            torch.where(chosen[..., None], self.means, other.means),
            torch.where(chosen[..., None, None], self.covariances, other.covariances),
        )

    def scaled_by(self, log_share: Tensor | float) -> GaussianMixture:
        """Multiply the weights by a share, given as its log: ``(B, 1)`` or one number."""
        return GaussianMixture(self.log_weights + log_share, self.means, self.covariances)

    def affine(
        self, matrix: Tensor, covariance: Tensor | None = None, shift: Tensor | None = None
    ) -> GaussianMixture:
        """The mixture of ``matrix x + shift`` plus Gaussian noise; None for zero.

        `matrix` ``(B, E, D)``, `covariance` ``(B, E, E)``, `shift` ``(B, E)``.
        """
        moved = torch.zeros_like(matrix[..., 0]) if shift is None else shift
        covariance = torch.zeros_like(matrix @ matrix.mT) if covariance is None else covariance
        shape = (*self.log_weights.shape, matrix.shape[1])
        means, covariances = np.empty(shape), np.empty((*shape, matrix.shape[1]))
        given = (array(self.means), array(self.covariances))
        affine_all(given, (array(matrix), array(moved), array(covariance)), means, covariances)
        parts = (torch.from_numpy(part).to(self.means) for part in (means, covariances))
        return GaussianMixture(self.log_weights, *parts)

    def product(self, other: GaussianMixture, axes: Sequence[int] | None = None) -> GaussianMixture:
        """Normalised product of the two densities, as of `product_with_evidence`."""
        return self.product_with_evidence(other, axes)[0]

    def product_with_evidence(
        self, other: GaussianMixture, axes: Sequence[int] | None = None
    ) -> tuple[GaussianMixture, Tensor]:
        """Normalised product of the two densities, and the log of its integral ``(B,)``, without powers of 2π.

        `other` may be over the coordinates `axes` only. Every pair of components gives one Gaussian, weighted by the
        evidence of one under the other: ``K_self × K_other`` components in all.
        """
        chosen = list(range(self.dimension)) if axes is None else list(axes)
        seen = self.marginal(chosen)
        innovation = other.means[:, None] - seen.means[:, :, None]
        total = seen.covariances[:, :, None] + other.covariances[:, None]
        factor = la.cholesky(total, torch.finfo(total.dtype).tiny)
        inverse = la.invert_from_factor(factor)
        log_evidence = -0.5 * la.quadratic(inverse, innovation, innovation) - la.log_diagonal(factor)
        gain = self.covariances[..., :, chosen][:, :, None] @ inverse
        means = self.means[:, :, None] + la.times(gain, innovation)
        rows = self.covariances[..., chosen, :][:, :, None]
        covariances = la.symmetrise(self.covariances[:, :, None] - gain @ rows)
        log_weights = self.log_weights[:, :, None] + other.log_weights[:, None] + log_evidence
        joint = GaussianMixture(log_weights.flatten(1, 2), means.flatten(1, 2), covariances.flatten(1, 2))
        return joint.normalised(), joint.log_weights.logsumexp(1)


def log_density(mixture: GaussianMixture, factors: Tensor, points: Tensor) -> Tensor:
    """As `GaussianMixture.log_density`, where the factors of the covariances are known."""
    return log_densities(mixture.log_weights, mixture.means, factors, points, False)[1]


def component_log_densities(mixture: GaussianMixture, factors: Tensor, points: Tensor) -> Tensor:
    """Log of weight × density of each component ``(B, K, P)`` at `points` ``(B, P, D)``, as `log_density`."""
    return log_densities(mixture.log_weights, mixture.means, factors, points, True)[0]


def concatenate(mixtures: Sequence[GaussianMixture]) -> GaussianMixture:
    """Concatenate mixtures along the batch, padded to the largest number of components."""
    components = max(mixture.components for mixture in mixtures)
    parts = zip(*(mixture.padded(components).parts for mixture in mixtures), strict=True)
    return GaussianMixture(*map(torch.cat, parts))


def beside(mixtures: Sequence[GaussianMixture]) -> GaussianMixture:
    """For each entity the components of all mixtures; weights are not normalised."""
    parts = zip(*(mixture.parts for mixture in mixtures), strict=True)
    return GaussianMixture(*(torch.cat(part, 1) for part in parts))
