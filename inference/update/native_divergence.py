"""`inference.update.nearly_linear.divergence` for the processor, without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen, Space, new_space, scalar_residual
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR, RANGE
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.update.nearly_linear import MOST_ANGLE, MOST_BEYOND

Array = NDArray[np.float64]


class Bends(NamedTuple):
    """What says how far observations are from linear, of each component and observation."""

    information: Array  # (B, K, N, D, D)
    curvature: Array  # (B, K, N, D, D)
    slope: Array  # (B, K, N, D)
    signed: Array  # (B, K, N)
    factors: Array  # (B, K, D, D)


@native
def divergence(
    log_weights: Array, means: Array, seen: Seen, bends: Bends, below: float, found: Array
) -> None:
    """Fill the divergence of each entity ``(B,)``."""
    space, point = new_space(seen), np.empty(means.shape[2])
    for b in range(len(means)):
        found[b] = _total(log_weights, means, seen, bends, b, False, space, point)
        if found[b] < below:
            found[b] = _total(log_weights, means, seen, bends, b, True, space, point)
            if _turns_back(log_weights, means, seen, bends, b, space, point):
                found[b] = math.inf


@borrowing
def is_closed(seen: Seen, b: int) -> bool:
    """Whether all observations are linear and none may be an outlier."""
    for n in range(seen.kind.shape[1]):
        certain = seen.kind[b, n] == LINEAR and seen.log_outlier[b, n] == -math.inf
        if seen.mask[b, n] and not certain:
            return False
    return True


@borrowing
def _total(
    log_weights: Array,
    means: Array,
    seen: Seen,
    bends: Bends,
    b: int,
    beyond: bool,
    space: Space,
    point: Array,
) -> float:
    """Sum over observations and components; `beyond` looks at two standard deviations too."""
    total = 0.0
    for k in range(log_weights.shape[1]):
        share, defects = math.exp(log_weights[b, k]), 0.0
        if share == 0:
            continue
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n] and seen.kind[b, n] != LINEAR:
                bent = _bent(bends.curvature[b, k, n])
                if beyond:
                    other = _missed(means[b, k], seen, bends, b, k, n, space, point)
                    if other > bent or other != other:
                        bent = other
                defects += _defect(seen, bends, b, k, n, bent)
        total += share * defects
    return total


@borrowing
def _bent(curvature: Array) -> float:
    total = 0.0
    for i in range(len(curvature)):
        for j in range(len(curvature)):
            total += curvature[i, j] * curvature[i, j]
    return total / 4


@borrowing
def _defect(seen: Seen, bends: Bends, b: int, k: int, n: int, bent: float) -> float:
    """The defect for the residual; infinite where a direction may wrap."""
    signed, deviation = bends.signed[b, k, n], seen.deviation[b, n]
    if seen.kind[b, n] == ANGLE:
        variance = 0.0
        for i in range(bends.slope.shape[3]):
            variance += bends.information[b, k, n, i, i]
        if math.sqrt(variance) * deviation > MOST_ANGLE or abs(signed) * deviation > 2.0:
            return math.inf
    squared = signed * signed
    return bent if squared < 1.0 else bent * squared


@borrowing
def _missed(
    mean: Array, seen: Seen, bends: Bends, b: int, k: int, n: int, space: Space, point: Array
) -> float:
    """As `nearly_linear.missed`, of one component and observation."""
    total, size = 0.0, len(mean)
    for column in range(size):
        for way in (-2.0, 2.0):
            for i in range(size):
                point[i] = mean[i] + way * bends.factors[b, k, i, column]
            expected = bends.signed[b, k, n] - way * bends.slope[b, k, n, column]
            off = scalar_residual(seen, b, n, point, space) - expected
            total += off * off
    return total / (2 * size) / 16


@borrowing
def _turns_back(
    log_weights: Array, means: Array, seen: Seen, bends: Bends, b: int, space: Space, point: Array
) -> bool:
    """As `nearly_linear.turns_back`."""
    for n in range(seen.kind.shape[1]):
        if not seen.mask[b, n] or seen.kind[b, n] != RANGE:
            continue
        odds = seen.log_inlier[b, n] - seen.constant[b, n] - seen.log_outlier[b, n] - seen.outlier[b, n]
        least = -math.inf
        for k in range(log_weights.shape[1]):
            spread, signed = _squared(bends.slope[b, k, n]), bends.signed[b, k, n]
            unlikely = 0.5 * signed * signed / (1 + spread) + 0.5 * math.log1p(spread)
            least = max(least, log_weights[b, k] - min(unlikely, max(odds, 0.0)))
        for k in range(log_weights.shape[1]):
            if log_weights[b, k] > -math.inf:
                foot = _foot(means[b, k], bends.factors[b, k], seen, b, n, space, point)
                spread, signed = _squared(bends.slope[b, k, n]), bends.signed[b, k, n]
                off = math.log(4 * spread * (1 + signed * signed))
                if not log_weights[b, k] - 0.5 * foot * foot + off < least + math.log(MOST_BEYOND):
                    return True
    return False


@borrowing
def _squared(vector: Array) -> float:
    total = 0.0
    for i in range(len(vector)):
        total += vector[i] * vector[i]
    return total


@borrowing
def _foot(mean: Array, factor: Array, seen: Seen, b: int, n: int, space: Space, along: Array) -> float:
    """Deviations to the plane where a distance turns back; `along` is space."""
    rows, size = seen.matrix.shape[2], len(mean)
    for i in range(size):
        along[i] = 0.0
    for r in range(rows):
        space.relative[r] = -seen.origin[b, n, r]
        for i in range(size):
            space.relative[r] += seen.matrix[b, n, r, i] * mean[i]
            space.matrix[r, i] = 0.0
            for j in range(size):
                space.matrix[r, i] += seen.matrix[b, n, r, j] * factor[j, i]
        for i in range(size):
            along[i] += space.matrix[r, i] * space.relative[r]
    first = second = 0.0
    for i in range(size):
        first += along[i] * along[i]
    for i in range(size):
        total = 0.0
        for r in range(rows):
            for j in range(size):
                total += space.matrix[r, i] * space.matrix[r, j] * along[j]
        second += total * total
    return first / math.sqrt(second)
