"""Mixture reduction: fewer components with little loss.

First, components of negligible weight go. Then pairs that are each other's cheapest to merge are merged, all at once,
and again, while the cost is below a threshold. Last, the cheapest pairs are merged while there are too many components.
The cost is Runnalls' upper bound on the Kullback-Leibler divergence that merging adds (A. R. Runnalls,
"Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Trans. Aerospace and Electronic Systems 43(3), 2007, eq.
16; he merges one pair at a time). Everything runs over the whole batch.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture

NEGLIGIBLE_WEIGHT = 1e-5  # relative to the heaviest component


def _merged(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], covariances: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight, mean and covariance of the Gaussian with the joint moments of two (weight, mean); broadcasts."""
    total = first[0] + second[0]
    share = (first[0] / total.clamp_min(1e-300))[..., None]
    mean = share * first[1] + (1 - share) * second[1]
    offset = first[1] - second[1]
    part = share[..., None]
    covariance = part * covariances[0] + (1 - part) * covariances[1]
    return total, mean, covariance + part * (1 - part) * la.outer(offset, offset)


def _log_determinant(covariance: Tensor) -> Tensor:
    return 2 * la.log_diagonal(la.cholesky(covariance, 1e-300))


class _Parts(NamedTuple):
    """Components: weights ``(...)``, means ``(..., D)``, covariances ``(..., D, D)``, log determinants ``(...)``."""

    weights: Tensor
    means: Tensor
    covariances: Tensor
    log_determinants: Tensor

    def at(self, *index: Tensor) -> _Parts:
        return _Parts(*(part[index] for part in self))


def _pair_cost(first: _Parts, second: _Parts) -> Tensor:
    """Runnalls' cost of merging pairs of components."""
    total, _, merged = _merged(first[:2], second[:2], (first.covariances, second.covariances))
    cost = total * _log_determinant(merged) - first.weights * first.log_determinants
    return 0.5 * (cost - second.weights * second.log_determinants)


def reduce(mixture: GaussianMixture, components: int, threshold: float = 0.01) -> GaussianMixture:
    """Reduce to at most `components`, and until no pair merges for less than `threshold` nats.

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
    """Merge in place; a merged-away component keeps weight zero."""
    parts = _Parts(weights, means, covariances, _log_determinant(covariances))
    cost, rows = _costs(parts), torch.arange(len(weights), device=weights.device)
    while True:
        place, first, second = _pairs(cost, (weights[rows] > 0).sum(1) - components, threshold)
        if len(place) == 0:
            return
        # drop rows with nothing left to merge
        busy, place = torch.unique(place, return_inverse=True)
        rows, cost = rows[busy], cost[busy]
        row = rows[place]
        one, other = parts.at(row, first), parts.at(row, second)
        total, mean, covariance = _merged(one[:2], other[:2], (one.covariances, other.covariances))
        fresh = _Parts(total, mean, covariance, _log_determinant(covariance))
        for part, value in zip(parts, fresh, strict=True):
            part[row, first] = value
        weights[row, second] = 0.0
        cost[place, second] = cost[place, :, second] = math.inf
        pair, third = torch.nonzero(weights[row] > 0, as_tuple=True)
        pair, third = pair[third != first[pair]], third[third != first[pair]]
        again = _pair_cost(fresh.at(pair), parts.at(row[pair], third))
        cost[place[pair], first[pair], third] = cost[place[pair], third, first[pair]] = again
        # the cost between two merged components is computed twice, and may differ by rounding
        cost = torch.minimum(cost, cost.mT)


def _costs(parts: _Parts) -> Tensor:
    """Cost of merging each pair, ``(B, K, K)``, symmetric; infinite on the diagonal and for absent components."""
    batch, places = parts.weights.shape
    device = parts.weights.device
    cost = torch.full((batch, places, places), math.inf, dtype=parts.weights.dtype, device=device)
    left, right = torch.triu_indices(places, places, 1, device=device)
    present = parts.weights > 0
    row, pair = torch.nonzero(present[:, left] & present[:, right], as_tuple=True)
    left, right = left[pair], right[pair]
    cost[row, left, right] = cost[row, right, left] = _pair_cost(parts.at(row, left), parts.at(row, right))
    return cost


def _pairs(cost: Tensor, excess: Tensor, threshold: float) -> tuple[Tensor, Tensor, Tensor]:
    """Row, first and second of the pairs to merge now; `cost` ``(B, K, K)``, symmetric, `excess` ``(B,)`` too many.

    If no pair is cheap enough, the cheapest ones, at most as many as there are too many.
    """
    place = torch.arange(cost.shape[1], device=cost.device)
    partner = cost.argmin(2)  # the first of equals, so that some pair is mutual
    least = cost.gather(2, partner[..., None])[..., 0]
    mutual = (partner.gather(1, partner) == place) & (place < partner) & least.isfinite()
    cheap = mutual & (least < threshold)
    rank = torch.where(mutual, least, math.inf).argsort(1).argsort(1)
    chosen = torch.where(cheap.any(1, keepdim=True), cheap, mutual & (rank < excess[:, None]))
    row, first = torch.nonzero(chosen, as_tuple=True)
    return row, first, partner[row, first]
