"""A Gaussian as three narrower ones side by side, with its mean and covariance.

Along one direction a unit Gaussian becomes ``w N(−o, s²) + (1 − 2 w) N(0, s²) + w N(o, s²)`` with ``s² + 2 w o² = 1``;
of all such, with s = .7, the one that is nearest to it (divergence .0009 nats). Compare M. F. Huber, T. Bailey,
H. Durrant-Whyte and U. D. Hanebeck, "On Entropy Approximation for Gaussian Mixture Random Vectors", Proc. IEEE MFI
2008, who do not keep the covariance.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.mixture import GaussianMixture, beside

NARROWER = 0.7  # standard deviation of each along the direction
OUTER_WEIGHT = 0.19
OFFSET = math.sqrt((1 - NARROWER**2) / (2 * OUTER_WEIGHT))
PARTS = 3


def split(
    mixture: GaussianMixture, source: Tensor, which: Tensor, direction: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """Components of `which` ``(B, K)`` in three, the others as they are; the mean and covariance of each stay.

    Args:
        mixture: of ``K`` components.
        source: a label that the parts inherit, ``(B, K)``.
        which: bool; absent components must not be chosen.
        direction: one standard deviation of each component along a line ``(B, K, D)``: a vector a with ``a aᵀ ≤ P``.

    Returns:
        The mixture, heaviest components first, in as many places as the largest needs, and the labels.
    """
    chosen = which[..., None]
    less = mixture.covariances - (1 - NARROWER**2) * la.outer(direction, direction)
    covariances = torch.where(chosen[..., None], less, mixture.covariances)
    parts = []
    for share, place in ((1 - 2 * OUTER_WEIGHT, 0.0), (OUTER_WEIGHT, -OFFSET), (OUTER_WEIGHT, OFFSET)):
        # the middle one stands for a component that is not split too
        other = mixture.log_weights if place == 0 else torch.full_like(mixture.log_weights, -math.inf)
        weights = torch.where(which, mixture.log_weights + math.log(share), other)
        means = mixture.means + torch.where(chosen, place * direction, 0.0)
        parts.append(GaussianMixture(weights, means, covariances))
    joint, labels = beside(parts), source.repeat(1, PARTS)
    order = joint.log_weights.argsort(dim=1, descending=True, stable=True)
    order = order[:, : max(1, int(joint.present.sum(1).max()))]
    return joint.places(order), labels.gather(1, order)
