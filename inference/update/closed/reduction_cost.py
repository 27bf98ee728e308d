"""Reduction of a mixture to fewer components, with its cost.

The cost KL(p ‖ q) of q in place of p is bounded by what A. R. Runnalls ("Kullback-Leibler approach to Gaussian mixture
reduction", IEEE Transactions on Aerospace and Electronic Systems 43(3), 2007) sums over merged pairs: the difference of
``½ Σ w log det P`` between q and p. Where the bound is too large, the cost is estimated on quasi-random points of p.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import BLOCK, fill, sum_components, whiten
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.mixtures.reduction import NEGLIGIBLE_WEIGHT, reduce
from beliefstream.inference.update.check.importance import Seed, normal_points
from beliefstream.inference.update.check.unobserved import Densities, new_densities
from beliefstream.inference.update.settings import UpdateSettings

CHEAP = UpdateSettings.quadrature_below  # nats; a smaller bound is not worth measuring
POINTS = 512  # of the estimate of a divergence: its error is a few hundredths of a nat

Array = NDArray[np.float64]
Counts = NDArray[np.int64]
Mixture = tuple[Array, Array, Array]  # log weights (K,), means (K, D) and covariances (K, D, D)


def condense(
    mixture: GaussianMixture, components: int, threshold: float, power: float = 1.0
) -> tuple[GaussianMixture, Tensor]:
    """Reduce to at most `components`, as `reduce` does, and estimate KL(mixture ‖ result) in nats ``(B,)``.

    If only pairs that cost less than `threshold` were merged, an upper bound below `CHEAP` is returned instead.
    """
    reduced = reduce(mixture, components, threshold, power)
    count, loss = counts_and_bounds(mixture, reduced)
    at = torch.nonzero((count > components) | (loss > CHEAP))[:, 0]
    if len(at):
        loss[at] = divergence(mixture.rows(at).normalised(), reduced.rows(at))
    return reduced, loss


def divergence(whole: GaussianMixture, few: GaussianMixture) -> Tensor:
    """KL(whole ‖ few) in nats ``(B,)``, estimated on quasi-random points of `whole`."""
    costs = np.empty(whole.batch)
    _measure_all(whole.numbers, few.numbers, points_of(whole.dimension), costs)
    return torch.from_numpy(costs)


def counts_and_bounds(mixture: GaussianMixture, reduced: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Numbers of components that are not negligible, and Runnalls' bounds in nats, each ``(B,)``."""
    counts, bounds = np.empty(mixture.batch, np.int64), np.empty(mixture.batch)
    given = (
        array(mixture.log_weights),
        array(mixture.covariances),
        array(reduced.log_weights),
        array(reduced.covariances),
    )
    bound_all(given, counts, bounds)
    return torch.from_numpy(counts), torch.from_numpy(bounds)


@functools.cache
def points_of(size: int) -> Array:
    """The points ``(P, size)`` of a standard normal on which a cost is measured."""
    return array(normal_points(POINTS, size, Seed.REDUCTION))


@native
def _measure_all(whole: Numbers, few: Numbers, points: Array, costs: Array) -> None:
    for b in range(len(costs)):
        one = (whole.log_weights[b], whole.means[b], whole.covariances[b])
        other = (few.log_weights[b], few.means[b], few.covariances[b])
        costs[b] = measured_cost(one, other, points)


@inner
def measured_cost(whole: Mixture, few: Mixture, points: Array) -> float:
    """As `divergence`, of one mixture `whole`; `points` are `points_of` its coordinates."""
    weights = np.empty(len(whole[0]))
    one, other = _densities_of(whole, weights), _densities_of(few, np.empty(len(few[0])))
    logs, place, below, total = np.empty((2, BLOCK)), 0, weights[0], 0.0
    for start in range(0, len(points), BLOCK):
        some = min(BLOCK, len(points) - start)
        for p in range(some):
            # each component has as many points as its weight says
            while below < (start + p + 0.5) / len(points) and place + 1 < len(weights):
                place += 1
                below += weights[place]
            for i in range(points.shape[1]):
                number = whole[1][place, i]
                for j in range(i + 1):
                    number += one.factors[place, i, j] * points[start + p, j]
                one.block.points[i, p] = other.block.points[i, p] = number
        for densities, values in ((one, logs[0]), (other, logs[1])):
            fill(densities.inverse, densities.shift, densities.peaks, densities.block)
            sum_components(densities.block, values[:some])
        for p in range(some):
            total += logs[0, p] - logs[1, p]
    return 0.0 if total < 0 else total / len(points)


@inner
def _densities_of(mixture: Mixture, weights: Array) -> Densities:
    """What the densities of a mixture take; fills its `weights`, which sum to one."""
    log_weights, means, covariances = mixture
    densities, highest, total = new_densities(len(means), means.shape[1]), -math.inf, 0.0
    for value in log_weights:
        highest = max(highest, value)
    for k in range(len(means)):
        factorise(covariances[k], TINY, ROUNDING, densities.factors[k])
        weights[k] = math.exp(log_weights[k] - highest)
        total += weights[k]
    own = log_weights - (highest + math.log(total))
    whiten(own, means, densities.factors, densities.inverse, densities.shift, densities.peaks)
    for k in range(len(means)):
        weights[k] /= total
    return densities


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
            bounds[row] = math.inf if math.isnan(cost) else max(cost, 0.0)


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
