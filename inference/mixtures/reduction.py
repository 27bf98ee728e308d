"""Mixture reduction: fewer components with little loss.

First, components of negligible weight go. Then pairs that are each other's cheapest to merge are merged, all at once,
and again, while the cost is below a threshold. Last, the cheapest pairs are merged while there are too many components.
The cost is Runnalls' upper bound on the Kullback-Leibler divergence that merging adds (A. R. Runnalls,
"Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Trans. Aerospace and Electronic Systems 43(3), 2007, eq.
16; he merges one pair at a time). Everything runs over the whole batch.

On the CPU, in double precision, `native_reduction` does the same without PyTorch's operators.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form

NEGLIGIBLE_WEIGHT = 1e-5  # relative to the heaviest component
IN_CACHE = 16_384  # pairs at once whose entries stay in the processor's cache


class _Parts(NamedTuple):
    """Components with their entries first, so that arithmetic runs over long rows.

    Weights ``(...)``, log determinants ``(...)``, means ``(D, ...)`` and lower triangles of covariances, row by row,
    ``(D (D + 1) / 2, ...)``.
    """

    weights: Tensor
    log_determinants: Tensor
    means: Tensor
    covariances: Tensor

    @classmethod
    def of(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> _Parts:
        """Parts ``(B, K)`` of components with the usual shapes."""
        row, column = torch.tril_indices(means.shape[-1], means.shape[-1], device=means.device)
        packed = covariances[..., row, column].movedim(-1, 0).contiguous()
        log_determinants = _log_determinant(packed.clone(), means.shape[-1])
        return cls(weights.clone(), log_determinants, means.movedim(-1, 0).contiguous(), packed)

    def at(self, row: Tensor, place: Tensor) -> _Parts:
        """The components at these problems and places, ``(N,)``."""
        index = row * self.weights.shape[1] + place
        # several times faster here than indexing
        weights, log_determinants = (part.view(-1).gather(0, index) for part in self[:2])
        means, covariances = (part.flatten(1).gather(1, index.expand(len(part), -1)) for part in self[2:])
        return _Parts(weights, log_determinants, means, covariances)

    def put(self, row: Tensor, place: Tensor, others: _Parts) -> None:
        """Replace the components at these problems and places."""
        index = row * self.weights.shape[1] + place
        for part, other in zip(self, others, strict=True):
            part.view(*part.shape[:-2], -1)[..., index] = other

    def unpacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights, means and covariances with the usual shapes."""
        size = self.means.shape[0]
        row, column = torch.tril_indices(size, size, device=self.means.device)
        place = torch.empty(size, size, dtype=torch.int64, device=self.means.device)
        place[row, column] = place[column, row] = torch.arange(len(row), device=self.means.device)
        return self.weights, self.means.movedim(0, -1), self.covariances[place].movedim((0, 1), (-2, -1))


def _joined(first: _Parts, second: _Parts) -> tuple[Tensor, Tensor, Tensor]:
    """Total weights, shares of the first, and covariances of pairs ``(N,)`` merged with their joint moments."""
    total = first.weights + second.weights
    share = first.weights / total.clamp_min(1e-300)
    offset = (first.means - second.means) * (share * (1 - share)).sqrt()
    covariances = torch.lerp(second.covariances, first.covariances, share)
    place = 0
    for row in range(len(offset)):
        for column in range(row + 1):
            covariances[place].addcmul_(offset[row], offset[column])
            place += 1
    return total, share, covariances


def _log_determinant(packed: Tensor, size: int) -> Tensor:
    """Log determinants of covariances ``(D (D + 1) / 2, ...)``, by elimination in place.

    Pivots have the same lower bounds as in `linear_algebra.cholesky`.
    """
    start = [row * (row + 1) // 2 for row in range(size)]
    rounding, total = torch.finfo(packed.dtype).eps, torch.zeros_like(packed[0])
    entire = packed[[start[row] + row for row in range(size)]]
    for column in range(size):
        pivot = packed[start[column] + column]
        pivot = torch.maximum(pivot, rounding * entire[column]).clamp_min(1e-300)
        total = total + pivot.log()
        for row in range(size - 1, column, -1):
            part = packed[start[row] + column] / pivot
            for other in range(column + 1, row + 1):
                packed[start[row] + other].addcmul_(part, packed[start[other] + column], value=-1)
    return total


def _pair_costs(parts: _Parts, row: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Runnalls' cost of merging the components at `left` and `right` of the problems at `row`, ``(N,)``."""
    chunks = zip(*(torch.split(index, IN_CACHE) for index in (row, left, right)), strict=True)
    return torch.cat([_pair_cost(parts.at(some, i), parts.at(some, j)) for some, i, j in chunks])


def _pair_cost(first: _Parts, second: _Parts) -> Tensor:
    total, _, merged = _joined(first, second)
    cost = total * _log_determinant(merged, len(first.means)) - first.weights * first.log_determinants
    return 0.5 * (cost - second.weights * second.log_determinants)


def reduce(mixture: GaussianMixture, components: int, threshold: float = 0.01) -> GaussianMixture:
    """Reduce to at most `components`, and until no pair merges for less than `threshold` nats.

    The result has as many places as its largest mixture needs, its components in falling order of weight.
    """
    tensors = (mixture.log_weights, mixture.means, mixture.covariances)
    native = native_form("mixtures.native_reduction", *tensors)
    if native is None:
        return reduce_by_operators(mixture, components, threshold)
    reduced: GaussianMixture = native.reduce(mixture, components, threshold)
    return reduced


def reduce_by_operators(mixture: GaussianMixture, components: int, threshold: float) -> GaussianMixture:
    """As `reduce`, by PyTorch's operators on any device."""
    weights = torch.softmax(mixture.log_weights, -1)
    weights = torch.where(weights < NEGLIGIBLE_WEIGHT * weights.amax(1, keepdim=True), 0.0, weights)
    weights = weights / weights.sum(1, keepdim=True)
    weights, order = weights.sort(dim=1, descending=True, stable=True)
    places = max(1, int((weights > 0).sum(1).max()))
    weights, order = weights[:, :places].clone(), order[:, :places]
    row = torch.arange(mixture.batch, device=weights.device)[:, None]
    means, covariances = mixture.means[row, order], mixture.covariances[row, order]
    if places > 1:
        weights, means, covariances = _merge(weights, means, covariances, components, threshold)
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


def _merge(
    weights: Tensor, means: Tensor, covariances: Tensor, components: int, threshold: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Merge; a merged-away component keeps weight zero."""
    parts = _Parts.of(weights, means, covariances)
    cost, rows = _costs(parts), torch.arange(len(weights), device=weights.device)
    while True:
        place, first, second = _pairs(cost, (parts.weights[rows] > 0).sum(1) - components, threshold)
        if len(place) == 0:
            return parts.unpacked()
        # drop rows with nothing left to merge
        busy, place = torch.unique(place, return_inverse=True)
        if len(busy) < len(rows):
            rows, cost = rows[busy], cost[busy]
        row = rows[place]
        one, other = parts.at(row, first), parts.at(row, second)
        total, share, merged = _joined(one, other)
        mean = torch.lerp(other.means, one.means, share)
        fresh = _Parts(total, _log_determinant(merged.clone(), len(mean)), mean, merged)
        parts.put(row, first, fresh)
        parts.weights[row, second] = 0.0
        cost[place, second] = cost[place, :, second] = math.inf
        # the cost between two merged components is computed once: rounding could differ
        new = torch.zeros(cost.shape[:2], dtype=torch.bool, device=cost.device)
        new[place, first] = True
        third = torch.arange(cost.shape[1], device=cost.device)
        due = (parts.weights[row] > 0) & ~(new[place] & (third <= first[:, None]))
        pair, third = torch.nonzero(due, as_tuple=True)
        left, place = first[pair], place[pair]
        again = _pair_costs(parts, row[pair], left, third)
        cost[place, left, third] = cost[place, third, left] = again


def _costs(parts: _Parts) -> Tensor:
    """Cost of merging each pair, ``(B, K, K)``, symmetric; infinite on the diagonal and for absent components."""
    batch, places = parts.weights.shape
    device = parts.weights.device
    cost = torch.full((batch, places, places), math.inf, dtype=parts.weights.dtype, device=device)
    left, right = torch.triu_indices(places, places, 1, device=device)
    present = parts.weights > 0
    row, pair = torch.nonzero(present[:, left] & present[:, right], as_tuple=True)
    left, right = left[pair], right[pair]
    cost[row, left, right] = cost[row, right, left] = _pair_costs(parts, row, left, right)
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
    rank = torch.where(mutual, least, math.inf).argsort(dim=1, stable=True).argsort(dim=1)
    chosen = torch.where(cheap.any(1, keepdim=True), cheap, mutual & (rank < excess[:, None]))
    row, first = torch.nonzero(chosen, as_tuple=True)
    return row, first, partner[row, first]
