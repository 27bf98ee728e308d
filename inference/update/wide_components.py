"""Wide components beside an answer, so that no part of a belief is lost for good."""

from __future__ import annotations

from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.importance import WIDENING

WIDER = 0.1  # share of an answer's variance that a Gaussian as wide as the prior may add


def share_beside(answer: GaussianMixture, wide: GaussianMixture) -> Tensor:
    """Weight of one Gaussian beside an answer that adds `WIDER` of its variance in all directions, ``(B, 1)``."""
    mean, covariance = answer.moments()
    offset = wide.means[:, 0] - mean
    added = wide.covariances[:, 0] + la.outer(offset, offset)
    return WIDER / la.trace(la.invert(covariance) @ added)[:, None]


def widened(mean: Tensor, covariance: Tensor) -> GaussianMixture:
    """One Gaussian with the moments of a posterior, wider, in coordinates in which the prior has unit spread.

    It is no wider than the prior; otherwise it would grow with every observation.
    """
    factor = (covariance.shape[-1] / la.trace(covariance)).clamp(max=WIDENING)
    return GaussianMixture.gaussian(mean, factor[:, None, None] * covariance)
