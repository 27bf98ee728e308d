"""A mixture of many components as one of a few, and what that costs."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.importance import systematic
from inference.mixture import GaussianMixture
from inference.reduction import NEGLIGIBLE_WEIGHT, reduce

POINTS, SEED = 512, 701


def condense(mixture: GaussianMixture, components: int, threshold: float) -> tuple[GaussianMixture, Tensor]:
    """At most `components`, as `reduce`, and an estimate of KL(mixture ‖ result) in nats ``(B,)``.

    The estimate is zero where nothing had to be merged but pairs that cost less than `threshold`.
    """
    reduced = reduce(mixture, components, threshold)
    loss = torch.zeros(mixture.batch, dtype=mixture.means.dtype)
    weights = torch.softmax(mixture.log_weights, 1)
    several = (weights > NEGLIGIBLE_WEIGHT * weights.amax(1, keepdim=True)).sum(1) > components
    at = torch.nonzero(several)[:, 0]
    if len(at):
        loss[at] = divergence(mixture.rows(at).normalised(), reduced.rows(at))
    return reduced, loss


def divergence(whole: GaussianMixture, few: GaussianMixture) -> Tensor:
    """KL(whole ‖ few) in nats, as quasi-random points of `whole` estimate it ``(B,)``."""
    points = systematic(whole, whole.factors(), POINTS, SEED)
    return (whole.log_density(points) - few.log_density(points)).mean(1).clamp_min(0)
