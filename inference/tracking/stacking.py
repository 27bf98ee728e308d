"""Converts between beliefs of single entities and one batch of mixtures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.tracking.accumulated_error import AccumulatedErrors
from beliefstream.inference.tracking.events import Belief


def stacked(beliefs: Sequence[Belief]) -> GaussianMixture:
    """Stack beliefs with any number of components into one batch, float64."""
    most, size = max(len(b.weights) for b in beliefs), beliefs[0].means.shape[1]
    weights = np.zeros((len(beliefs), most))
    means = np.zeros((len(beliefs), most, size))
    covariances = np.tile(np.eye(size), (len(beliefs), most, 1, 1))
    for row, belief in enumerate(beliefs):
        count = len(belief.weights)
        weights[row, :count], means[row, :count] = belief.weights, belief.means
        covariances[row, :count] = belief.covariances
    parts = (torch.from_numpy(part) for part in (weights, means, covariances))
    return GaussianMixture.from_weights(*parts)


def single_belief(mixture: GaussianMixture, time: float, errors: AccumulatedErrors) -> Belief:
    """Return the belief of a batch of one."""
    present = mixture.present[0]
    weights = mixture.log_weights[0, present].exp().numpy()
    return Belief(
        time,
        weights / weights.sum(),
        mixture.means[0, present].numpy(),
        mixture.covariances[0, present].numpy(),
        error=errors.single()[0],
    )


def with_axes(old: GaussianMixture, new: GaussianMixture, axes: tuple[int, ...]) -> GaussianMixture:
    """Replace the coordinates `axes` of `old` by `new`, independent of the other coordinates."""
    rest = [axis for axis in range(old.dimension) if axis not in axes]
    kept = old.marginal(rest)
    count = (old.components, new.components)
    means = torch.zeros(1, *count, old.dimension, dtype=torch.float64)
    covariances = torch.zeros(1, *count, old.dimension, old.dimension, dtype=torch.float64)
    means[..., rest], means[..., list(axes)] = kept.means[:, :, None], new.means[:, None]
    covariances[..., np.ix_(rest, rest)[0], np.ix_(rest, rest)[1]] = kept.covariances[:, :, None]
    covariances[..., np.ix_(axes, axes)[0], np.ix_(axes, axes)[1]] = new.covariances[:, None]
    log_weights = kept.log_weights[:, :, None] + new.log_weights[:, None]
    return GaussianMixture(log_weights.flatten(1, 2), means.flatten(1, 2), covariances.flatten(1, 2))
