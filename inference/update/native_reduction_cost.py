"""The bound in `inference.update.reduction_cost` for the processor, without a tensor operator."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT
from beliefstream.inference.update.reduction_cost import LEAST_COST

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


def prepare() -> None:
    """Compile the bound, or load it from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0].log(), one, one[..., None])
    counts_and_bounds(mixture, mixture)


def counts_and_bounds(mixture: GaussianMixture, reduced: GaussianMixture) -> tuple[Tensor, Tensor]:
    """As `reduction_cost.counts_and_bounds_by_operators`."""
    counts, bounds = np.empty(mixture.batch, np.int64), np.empty(mixture.batch)
    given = (
        array(mixture.log_weights),
        array(mixture.covariances),
        array(reduced.log_weights),
        array(reduced.covariances),
    )
    bound_all(given, counts, bounds)
    return torch.from_numpy(counts), torch.from_numpy(bounds)


@native
def bound_all(given: tuple[Array, Array, Array, Array], counts: Counts, bounds: Array) -> None:
    log_weights, covariances, fewer, merged = given
    weights, factor = np.empty(log_weights.shape[1]), np.empty(covariances.shape[2:])
    few = np.empty(fewer.shape[1])
    for row in range(len(log_weights)):
        counts[row] = _kept(log_weights[row], weights)
        left = 0
        for place in range(len(few)):
            few[place] = math.exp(fewer[row, place])
            left += few[place] > 0
        bounds[row] = 0.0
        if counts[row] > left:
            cost = _entropy(few, merged[row], factor) - _entropy(weights, covariances[row], factor)
            # what is not a number is no bound: the cost is then measured
            bounds[row] = math.inf if math.isnan(cost) else cost if cost > LEAST_COST else 0.0


@borrowing
def _kept(log_weights: Array, weights: Array) -> int:
    """Weights that sum to one, without negligible ones; how many there are."""
    highest, total, count = log_weights[0], 0.0, 0
    for value in log_weights:
        highest = max(highest, value)
    for place in range(len(weights)):
        weights[place] = math.exp(log_weights[place] - highest)
        if weights[place] > NEGLIGIBLE_WEIGHT:
            count += 1
            total += weights[place]
        else:
            weights[place] = 0.0
    for place in range(len(weights)):
        weights[place] /= total
    return count


@borrowing
def _entropy(weights: Array, covariances: Array, factor: Array) -> float:
    """``½ Σ w log det P``."""
    total = 0.0
    for place in range(len(weights)):
        if weights[place] > 0:
            factorise(covariances[place], TINY, ROUNDING, factor)
            volume = 0.0
            for i in range(len(factor)):
                volume += math.log(factor[i, i])
            total += weights[place] * volume
    return total
