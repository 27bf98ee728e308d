"""Reduction of a mixture to fewer components, with its cost."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import native_reduction_cost
from beliefstream.inference.update.importance import systematic
from beliefstream.inference.update.native_reduction_cost import POINTS, SEED

CHEAP = 0.005  # nats; a smaller bound is not worth measuring


def condense(mixture: GaussianMixture, components: int, threshold: float) -> tuple[GaussianMixture, Tensor]:
    """Reduce to at most `components`, as `reduce` does, and estimate KL(mixture ‖ result) in nats ``(B,)``.

    If only pairs that cost less than `threshold` were merged, an upper bound below `CHEAP` is returned instead.
    """
    reduced = reduce(mixture, components, threshold)
    count, loss = native_reduction_cost.counts_and_bounds(mixture, reduced)
    at = torch.nonzero((count > components) | (loss > CHEAP))[:, 0]
    if len(at):
        loss[at] = divergence(mixture.rows(at).normalised(), reduced.rows(at))
    return reduced, loss


def divergence(whole: GaussianMixture, few: GaussianMixture) -> Tensor:
    """KL(whole ‖ few) in nats ``(B,)``, estimated on quasi-random points of `whole`."""
    points = systematic(whole, whole.factors(), POINTS, SEED)
    return (whole.log_density(points) - few.log_density(points)).mean(1).clamp_min(0)
