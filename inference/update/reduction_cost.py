"""Reduction of a mixture to fewer components, with its cost."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce
from beliefstream.inference.update.importance import systematic

POINTS, SEED = 512, 701
_TINY = torch.finfo(torch.float64).tiny
LEAST_COST = 1e-9  # nats; a smaller bound is rounding
CHEAP = 0.005  # nats; a smaller bound is not worth measuring


def condense(mixture: GaussianMixture, components: int, threshold: float) -> tuple[GaussianMixture, Tensor]:
    """Reduce to at most `components`, as `reduce` does, and estimate KL(mixture ‖ result) in nats ``(B,)``.

    If only pairs that cost less than `threshold` were merged, an upper bound below `CHEAP` is returned instead.
    """
    reduced = reduce(mixture, components, threshold)
    tensors = (mixture.log_weights, mixture.covariances)
    native = native_form("update.native_reduction_cost", *tensors)
    by = counts_and_bounds_by_operators if native is None else native.counts_and_bounds
    count, loss = by(mixture, reduced)
    at = torch.nonzero((count > components) | (loss > CHEAP))[:, 0]
    if len(at):
        loss[at] = divergence(mixture.rows(at).normalised(), reduced.rows(at))
    return reduced, loss


def counts_and_bounds_by_operators(
    mixture: GaussianMixture, reduced: GaussianMixture
) -> tuple[Tensor, Tensor]:
    """How many components count, and `bound` where some of these were merged, each ``(B,)``."""
    weights = torch.softmax(mixture.log_weights, 1)
    count = (weights > NEGLIGIBLE_WEIGHT * weights.amax(1, keepdim=True)).sum(1)
    loss = torch.zeros(mixture.batch, dtype=mixture.means.dtype)
    merged = torch.nonzero(count > reduced.present.sum(1))[:, 0]
    if len(merged):
        loss[merged] = bound(weights[merged], mixture.covariances[merged], reduced.rows(merged))
    return count, loss


def bound(weights: Tensor, covariances: Tensor, reduced: GaussianMixture) -> Tensor:
    """Runnalls' upper bound on the cost of merging components to `reduced`, ``(B,)``.

    The costs of all merges sum to ``½ Σ w log det P`` of the result minus that of the merged components, of `weights`
    ``(B, K)`` and `covariances` ``(B, K, D, D)``. It is zero where nothing was merged.
    """
    kept = torch.where(weights > NEGLIGIBLE_WEIGHT * weights.amax(1, keepdim=True), weights, 0.0)
    kept = kept / kept.sum(1, keepdim=True)
    before = (kept * la.log_diagonal(la.cholesky(covariances, _TINY))).sum(1)
    after = (reduced.log_weights.exp() * la.log_diagonal(la.cholesky(reduced.covariances, _TINY))).sum(1)
    # NaN is no bound: the cost is then measured
    cost = torch.nan_to_num(after - before, nan=torch.inf)
    return torch.where(cost > LEAST_COST, cost, 0.0)


def divergence(whole: GaussianMixture, few: GaussianMixture) -> Tensor:
    """KL(whole ‖ few) in nats ``(B,)``, estimated on quasi-random points of `whole`."""
    points = systematic(whole, whole.factors(), POINTS, SEED)
    return (whole.log_density(points) - few.log_density(points)).mean(1).clamp_min(0)
