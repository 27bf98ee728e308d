"""Fewer components with as little loss as possible.

Components of negligible weight go; then the pair whose merging costs least is merged, again and again, while the cost
is below a threshold or there are too many. The cost is Runnalls' upper bound on the Kullback-Leibler divergence that
merging adds (A. R. Runnalls, "Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Trans. Aerospace and
Electronic Systems 43(3), 2007, eq. 16). Everything runs over the whole batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.mixture import GaussianMixture

NEGLIGIBLE_WEIGHT = 1e-5  # of the heaviest component's


def _merged(
    weights: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor], covariances: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, mean and covariance of the Gaussian that has the moments of two; broadcasts."""
    total = weights[0] + weights[1]
    share = (weights[0] / total.clamp_min(1e-300))[..., None]
    mean = share * means[0] + (1 - share) * means[1]
    offset = means[0] - means[1]
    share_ = share[..., None]
    covariance = share_ * covariances[0] + (1 - share_) * covariances[1]
    covariance = covariance + share_ * (1 - share_) * la.outer(offset, offset)
    return total, mean, covariance


def _log_determinant(covariance: Tensor) -> Tensor:
    return 2 * la.log_diagonal(la.cholesky(covariance, 1e-300))


def _pair_cost(
    weights: Tensor, means: Tensor, covariances: Tensor, log_determinants: Tensor, one: tuple[Tensor, ...]
) -> Tensor:
    """Runnalls' cost of merging component `one` (each ``(B, ...)``) with each of ``(B, K, ...)``: ``(B, K)``."""
    weight, mean, covariance, log_determinant = (part.unsqueeze(1) for part in one)
    total, _, merged = _merged((weight, weights), (mean, means), (covariance, covariances))
    cost = total * _log_determinant(merged) - weight * log_determinant - weights * log_determinants
    cost = 0.5 * cost
    return torch.where((weights > 0) & (weight > 0), cost, torch.full_like(cost, math.inf))


def reduce(mixture: GaussianMixture, components: int, threshold: float = 0.01) -> GaussianMixture:
    """At most `components`, and no pair left that merges for less than `threshold` nats.

    The result has as many places as its largest mixture needs, its components in falling order of weight.
    """
    weights = torch.softmax(mixture.log_weights, -1)
    weights = torch.where(weights < NEGLIGIBLE_WEIGHT * weights.amax(1, keepdim=True), 0.0, weights)
    weights = weights / weights.sum(1, keepdim=True)
    weights, order = weights.sort(dim=1, descending=True, stable=True)
    places = max(1, int((weights > 0).sum(1).max()))
    weights, order = weights[:, :places].clone(), order[:, :places]
    row = torch.arange(mixture.batch, device=weights.device)[:, None]
    means, covariances = mixture.means[row, order], mixture.covariances[row, order]
    if places > 1:
        _merge(weights, means, covariances, components, threshold)
        weights, order = weights.sort(dim=1, descending=True, stable=True)
        places = max(1, int((weights > 0).sum(1).max()))
        weights, order = weights[:, :places], order[:, :places]
        means, covariances = means[row, order], covariances[row, order]
    absent = weights <= 0
    eye = torch.eye(mixture.dimension, dtype=means.dtype, device=means.device)
    return GaussianMixture(
        weights.log(),
        torch.where(absent[..., None], 0.0, means),
        torch.where(absent[..., None, None], eye, la.symmetrise(covariances)),
    )


def _merge(weights: Tensor, means: Tensor, covariances: Tensor, components: int, threshold: float) -> None:
    """Merge in place, cheapest pair first; a merged-away component keeps weight zero."""
    places = weights.shape[1]
    log_determinants = _log_determinant(covariances)
    columns = [
        _pair_cost(
            weights,
            means,
            covariances,
            log_determinants,
            (weights[:, k], means[:, k], covariances[:, k], log_determinants[:, k]),
        )
        for k in range(places)
    ]
    cost = torch.stack(columns, 1)
    cost.diagonal(dim1=1, dim2=2).fill_(math.inf)
    while True:
        best, where = cost.flatten(1).min(1)
        crowded = (weights > 0).sum(1) > components
        active = torch.nonzero(((best < threshold) | crowded) & best.isfinite())[:, 0]
        if len(active) == 0:
            return
        first = torch.minimum(where[active] // places, where[active] % places)
        second = torch.maximum(where[active] // places, where[active] % places)
        pairs = [(t[active, first], t[active, second]) for t in (weights, means, covariances)]
        total, mean, covariance = _merged(*pairs)
        log_determinant = _log_determinant(covariance)
        weights[active, first], means[active, first], covariances[active, first] = total, mean, covariance
        weights[active, second] = 0.0
        log_determinants[active, first] = log_determinant
        fresh = _pair_cost(
            weights[active],
            means[active],
            covariances[active],
            log_determinants[active],
            (total, mean, covariance, log_determinant),
        )
        fresh[torch.arange(len(active)), first] = math.inf
        cost[active, first], cost[active, :, first] = fresh, fresh
        cost[active, second], cost[active, :, second] = math.inf, math.inf
