"""Exact posteriors on an adaptive grid, in one and two dimensions.

Cells are split until they are finer than the posterior, and dropped if their mass is negligible by an upper bound of
prior and likelihood inside the cell. So narrow modes are not missed. The midpoint rule on a smooth density is exact to
better than 1e-6 if a cell is at most as wide as the standard deviation of the posterior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from beliefstream.inference.likelihood.noise import NoiseMixture, wrap
from beliefstream.inference.likelihood.observations import LINEAR, WIDE_OUTLIER, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture

NEGLIGIBLE = 18.0  # nats below the best point; dropped cells have less than 1e-6 of the mass
_HEAVY = 10.0  # nats below the best point; cells in between may be coarse
_FINE = 0.8  # widest cell, in standard deviations of the posterior
# largest error of the mass by wider cells, by the bound of the rule; the error is a tenth of it
_DOUBTFUL = 3e-3
_SUPPORT = 7.0  # standard deviations of a prior component that the grid covers
_FIRST_CELLS = 64  # number of cells along the longest side
_FAR = 1e30  # farther than any value
_CHUNK = 65536


class GridPosterior(NamedTuple):
    """Posterior of one problem as point masses.

    Attributes:
        points: centres of the cells, ``(P, d)``.
        log_mass: log mass of each cell, with sum 1 of the masses, ``(P,)``.
        log_density: log of the normalised density at the centres, nats, ``(P,)``.
        log_evidence: nats.
        cell: side of a cell.
        resolved: False if the limit of cells was reached before they were finer than the posterior.
    """

    points: Tensor
    log_mass: Tensor
    log_density: Tensor
    log_evidence: float
    cell: float
    resolved: bool

    def divergence(self, answer: GaussianMixture) -> float:
        """Return KL(exact ‖ answer) in nats; `answer` is a batch of one."""
        parts = [answer.log_density(chunk[None])[0] for chunk in torch.split(self.points, _CHUNK)]
        return float((self.log_mass.exp() * (self.log_density - torch.cat(parts))).sum())

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean ``(d,)`` and covariance ``(d, d)``."""
        weight = self.log_mass.exp()
        mean = (weight[:, None] * self.points).sum(0)
        offset = self.points - mean
        return mean, (weight[:, None] * offset).mT @ offset

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw points ``(count, d)``, uniform inside their cells, and return them with the indices of their cells."""
        index = torch.multinomial(self.log_mass.exp(), count, replacement=True, generator=generator)
        jitter = (
            torch.rand((count, self.points.shape[-1]), generator=generator, dtype=self.points.dtype) - 0.5
        )
        return self.points[index] + jitter * self.cell, index

    def representatives(self, count: int) -> Tensor:
        """Return the indices of `count` cells of equal mass, by systematic sampling in the order of the grid.

        In that order neighbours follow each other. So the mean of a smooth function over the cells is much closer to
        its expectation than over random points.
        """
        cumulative = self.log_mass.exp().cumsum(0)
        comb = (torch.arange(count, dtype=cumulative.dtype) + 0.5) / count * cumulative[-1]
        return torch.searchsorted(cumulative, comb).clamp_max(len(cumulative) - 1)


def grid_posterior(
    prior: GaussianMixture, observations: Observations, most_cells: int = 1_500_000
) -> GridPosterior:
    """Compute the exact posterior of one problem (batches of one), in float64.

    Raises:
        ValueError: there are more than two coordinates.
    """
    size = prior.dimension
    if size > 2:
        raise ValueError(f"dimension: expected 1 or 2 coordinates, got {size}")
    prior, observations = _only_used(prior, observations)
    points, cell = _first_cells(prior)
    quarters = torch.cartesian_prod(*[torch.tensor([-0.25, 0.25], dtype=torch.float64)] * size).reshape(
        -1, size
    )
    best = -math.inf
    while True:
        joint = _log_joint(prior, observations, points)
        best = max(best, float(joint.max()))
        resolved = _fine_enough(prior, observations, points, joint, cell)
        if resolved:
            break
        keep = _upper_bound(prior, observations, points, cell) > best - NEGLIGIBLE
        if int(keep.sum()) * len(quarters) > most_cells:
            break
        points = (points[keep][:, None] + cell * quarters).reshape(-1, size)
        cell /= 2
    total = torch.logsumexp(joint, 0)
    evidence = float(total) + size * math.log(cell)
    return GridPosterior(points, joint - total, joint - evidence, evidence, cell, resolved)


def _only_used(prior: GaussianMixture, observations: Observations) -> tuple[GaussianMixture, Observations]:
    """Convert to float64 and remove unused prior components."""
    used = prior.present[0]
    kept = GaussianMixture(prior.log_weights[:, used], prior.means[:, used], prior.covariances[:, used])
    return kept.to(dtype=torch.float64).normalised(), observations.to(dtype=torch.float64)


def _first_cells(prior: GaussianMixture) -> tuple[Tensor, float]:
    """Return the centres ``(P, d)`` of square cells that cover the prior, and their side."""
    reach = _SUPPORT * prior.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    low, high = (prior.means - reach).amin((0, 1)), (prior.means + reach).amax((0, 1))
    cell = float((high - low).max()) / _FIRST_CELLS
    counts = [max(1, math.ceil(float(extent) / cell)) for extent in high - low]
    axes = [low[i] + cell * (torch.arange(n, dtype=low.dtype) + 0.5) for i, n in enumerate(counts)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(counts)), cell


def _log_joint(prior: GaussianMixture, observations: Observations, points: Tensor) -> Tensor:
    parts = [
        prior.log_density(chunk[None])[0] + observations.log_likelihood(chunk[None])[0]
        for chunk in torch.split(points, _CHUNK)
    ]
    return torch.cat(parts)


def _upper_bound(prior: GaussianMixture, observations: Observations, points: Tensor, cell: float) -> Tensor:
    """Return an upper bound of the log joint density inside the cell around each point, ``(P,)``."""
    radius = 0.5 * cell * math.sqrt(points.shape[-1])
    widened = _widened(prior, radius)
    parts = [
        widened.log_density(chunk[None])[0] + _best_log_likelihood(observations, chunk[None], radius)[0]
        for chunk in torch.split(points, _CHUNK // 8)
    ]
    return torch.cat(parts)


def _widened(prior: GaussianMixture, radius: float) -> GaussianMixture:
    """Return an unnormalised mixture whose density at any point is at least that of the prior within `radius` of it.

    By Cauchy's inequality ``uᵀ(Σ + r²)⁻¹u ≤ vᵀΣ⁻¹v + 1`` wherever ``|u − v| ≤ r``.
    """
    eye = torch.eye(prior.dimension, dtype=prior.means.dtype)
    widened = GaussianMixture(prior.log_weights, prior.means, prior.covariances + radius**2 * eye)
    height = la.log_diagonal(widened.factors()) - la.log_diagonal(prior.factors()) + 0.5
    return GaussianMixture(prior.log_weights + height, prior.means, widened.covariances)


def _best_log_likelihood(observations: Observations, points: Tensor, radius: float) -> Tensor:
    """Return an upper bound ``(1, P)`` of the log likelihood within `radius` of `points` ``(1, P, d)``."""
    batch, count, size = points.shape
    identity = torch.eye(size, dtype=points.dtype).expand(batch, count, size, size)
    linearised = observations.linearise(points, identity)
    residuals = linearised.residuals
    # largest change of h, in units of the noise; not bounded where its slope may change sign inside the cell
    slope = radius * la.trace(linearised.information).clamp_min(0).sqrt()
    bend = radius**2 * linearised.curvature.square().sum((-1, -2)).sqrt()
    reach = torch.where(bend > slope, math.inf, slope + 0.5 * bend)
    nearest = (residuals.squared.sqrt() - reach).clamp_min(0).square()
    gain = 0.5 * (residuals.squared - nearest)
    linear = (observations.kind == LINEAR)[:, None]
    inlier = residuals.log_likelihood + functional.logsigmoid(residuals.log_odds) + gain
    if not observations.has_plain_noise:
        scalar = _best_scalar(observations, points, (reach * residuals.deviation).clamp_max(_FAR))
        inlier = torch.where(linear, inlier, scalar)
    outlier = residuals.log_likelihood + functional.logsigmoid(-residuals.log_odds)
    outlier = outlier + torch.where(linear, gain / WIDE_OUTLIER**2, 0.0)
    return (torch.logaddexp(inlier, outlier) * observations.mask[:, None]).sum(-1)


def _best_scalar(observations: Observations, points: Tensor, reach: Tensor) -> Tensor:
    """Return an upper bound of the log density of an inlier if ``h`` changes by up to `reach` ``(1, P, N)``."""
    difference = observations.difference(points)
    magnitude = observations.magnitude(difference)
    base = observations.standard_deviation[:, None]
    low = observations.deviation((magnitude - reach).clamp_min(0)).expand_as(reach)
    high = observations.deviation(magnitude + reach).expand_as(reach)
    best = best_log_density(difference, reach, base, (low, high), observations.mixture, observations.wraps)
    inlier = torch.log1p(-observations.outlier_probability) - observations.log_normaliser
    return best + inlier[:, None]


def best_log_density(
    residual: Tensor,
    reach: Tensor,
    base: Tensor,
    deviation: tuple[Tensor, Tensor],
    mixture: NoiseMixture | None,
    angle: Tensor,
) -> Tensor:
    """Return an upper bound of the log density of the noise, over ``N(0; 0, σ₀²)``, near a residual ``(B, P, N)``.

    Args:
        residual: already wrapped.
        reach: by which the residual may differ, ``(B, P, N)``.
        base: standard deviation σ₀, ``(B, 1, N)``.
        deviation: the smallest and the largest σ(x) there, each ``(B, P, N)``.
        mixture: components of the noise; None for one Gaussian.
        angle: which residuals wrap, ``(B, N)``.
    """
    low, high = deviation
    if mixture is None:
        zero = torch.zeros_like(base[:, 0, :, None])
        mixture = NoiseMixture(zero, zero, zero + 1)
    offset = residual[..., None] - mixture.bias[:, None]
    offset = torch.where(angle[:, None, :, None], wrap(offset), offset)
    nearest = (offset.abs() - reach[..., None]).clamp_min(0)
    scaled = nearest / (high[..., None] * mixture.ratio[:, None])
    logs = (mixture.log_weights - mixture.ratio.log())[:, None] - 0.5 * scaled.square()
    return torch.logsumexp(logs, -1) - (low / base).log()


def _fine_enough(
    prior: GaussianMixture, observations: Observations, points: Tensor, joint: Tensor, cell: float
) -> bool:
    """Whether cells are narrower than the posterior where its mass is.

    A bearing has an infinite slope at its sensor, so cells there may remain coarse if they have little mass.
    """
    heavy = joint > joint.max() - _HEAVY
    mass = joint[heavy].softmax(0)
    eye = torch.eye(points.shape[-1], dtype=points.dtype)
    sharpest = la.trace(la.invert(prior.covariances)).max()
    parts = []
    for chunk in torch.split(points[heavy], _CHUNK // 8):
        linearised = observations.linearise(chunk[None], eye.expand(1, len(chunk), *eye.shape))
        information = la.trace(linearised.information) * observations.mask[:, None]
        parts.append(information.sum(-1)[0] + sharpest)
    squared_width = cell**2 * torch.cat(parts)
    # error of the midpoint rule in one cell; errors of fine neighbours of equal size cancel
    error = (squared_width / 24).clamp_max(1.0) * (squared_width > _FINE**2)
    return len(mass) >= 30 and float((mass * error).sum()) < _DOUBTFUL
