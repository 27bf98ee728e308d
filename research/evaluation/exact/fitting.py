"""Gaussian mixtures fitted to samples, and proposals for samplers, batched over problems.

`fit` and `improve` are expectation-maximisation (Dempster, Laird and Rubin, "Maximum likelihood from incomplete data
via the EM algorithm", JRSS B 39(1), 1977) with a floor on the weights. A component without points restarts at a random
point, so that the mixture can follow a moving target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside, component_log_density

_LEAST_SHARE = 0.1  # weight below which a component restarts, relative to equal weights
_WIDENING = 1.2  # factor on the covariances of a fitted mixture
_RIDGE = 1e-6  # share of the samples' covariance that is added to that of every component


def covariance_of(points: Tensor) -> Tensor:
    """Return the covariance ``(B, d, d)`` of equally weighted `points` ``(B, P, d)``."""
    offset = points - points.mean(1, keepdim=True)
    return offset.mT @ offset / points.shape[1]


def fit(points: Tensor, components: int, rounds: int, generator: torch.Generator) -> GaussianMixture:
    """Fit a mixture of `components` to `points` ``(B, P, d)`` in `rounds` of EM, starting at random points; float64."""
    batch, count, size = points.shape
    index = torch.randint(0, count, (batch, components), generator=generator)
    means = points.gather(1, index[..., None].expand(-1, -1, size))
    spread = covariance_of(points) * components ** (-2 / size)
    log_weights = points.new_full((batch, components), -math.log(components))
    start = GaussianMixture(log_weights, means, spread[:, None].repeat(1, components, 1, 1))
    return improve(start, points, rounds, generator)


def improve(
    mixture: GaussianMixture, points: Tensor, rounds: int, generator: torch.Generator
) -> GaussianMixture:
    """Run `rounds` of expectation-maximisation on equally weighted `points` ``(B, P, d)``."""
    for _ in range(rounds):
        mixture = _restarted(_step(mixture, points), points, generator)
    return mixture


def _step(mixture: GaussianMixture, points: Tensor) -> GaussianMixture:
    batch, components, size = mixture.means.shape
    logs = mixture.log_weights[..., None] + component_log_density(points, mixture.means, mixture.factors())
    share = torch.softmax(logs, 1)
    mass = share.sum(2) + 1e-9
    products = la.outer(points, points).flatten(2)
    means = share @ points / mass[..., None]
    second = (share @ products).view(batch, components, size, size) / mass[..., None, None]
    ridge = _RIDGE * covariance_of(points) + 1e-12 * torch.eye(size, dtype=points.dtype)
    covariances = la.symmetrise(second - la.outer(means, means)) + ridge[:, None]
    return GaussianMixture((mass / mass.sum(1, keepdim=True)).log(), means, covariances)


def _restarted(mixture: GaussianMixture, points: Tensor, generator: torch.Generator) -> GaussianMixture:
    components, size = mixture.components, mixture.dimension
    least = math.log(_LEAST_SHARE / components)
    poor = mixture.log_weights < least
    if not bool(poor.any()):
        return mixture
    index = torch.randint(0, points.shape[1], poor.shape, generator=generator)
    fresh = points.gather(1, index[..., None].expand(-1, -1, size))
    spread = covariance_of(points)[:, None] * components ** (-2 / size)
    return GaussianMixture(
        torch.where(poor, least, mixture.log_weights),
        torch.where(poor[..., None], fresh, mixture.means),
        torch.where(poor[..., None, None], spread, mixture.covariances),
    ).normalised()


class Proposal:
    """A fitted mixture with heavier tails, and a share of the prior, so that it covers the prior's support.

    Args:
        fitted: fitted mixture, ``(B, J)``.
        prior: prior, ``(B, K)``.
        defence: probability of drawing from the prior.
    """

    def __init__(self, fitted: GaussianMixture, prior: GaussianMixture, defence: float = 0.05) -> None:
        wide = GaussianMixture(fitted.log_weights, fitted.means, _WIDENING * fitted.covariances)
        parts = [wide.scaled_by(math.log1p(-defence)), prior.scaled_by(math.log(defence))]
        self.mixture = beside(parts).normalised()
        self.factors = self.mixture.factors()
        self.fitted = fitted

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw `count` points, ``(B, count, d)``."""
        source = self._sources(self.mixture.log_weights, count, generator)
        row = torch.arange(self.mixture.batch)[:, None]
        return self.mixture.means[row, source] + self._noise(source, generator)

    def steps(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw `count` offsets with the covariance of a random component, symmetric about 0, ``(B, count, d)``."""
        return self._noise(self._sources(self.fitted.log_weights, count, generator), generator)

    def log_density(self, points: Tensor) -> Tensor:
        """Return the log density at `points` ``(B, P, d)``, ``(B, P)``."""
        logs = component_log_density(points, self.mixture.means, self.factors)
        return torch.logsumexp(self.mixture.log_weights[..., None] + logs, 1)

    def _sources(self, log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
        return torch.multinomial(log_weights.exp(), count, replacement=True, generator=generator)

    def _noise(self, source: Tensor, generator: torch.Generator) -> Tensor:
        row = torch.arange(self.mixture.batch)[:, None]
        normal = torch.randn(
            (*source.shape, self.mixture.dimension), generator=generator, dtype=torch.float64
        )
        return la.times(self.factors[row, source], normal)
