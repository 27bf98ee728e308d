"""Native costs of merging pairs of components: Runnalls' bound, as in `inference.mixtures.reduction`.

A covariance is its lower triangle, row by row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import inner
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING

Array = NDArray[np.float64]


class Parts(NamedTuple):
    """Components of one mixture, and space for the arithmetic of one pair."""

    weights: Array  # (K,)
    log_determinants: Array  # (K,)
    means: Array  # (D, K)
    covariances: Array  # (D (D + 1) / 2, K)
    offset: Array  # (D,)
    merged: Array  # (D (D + 1) / 2,)
    reduced: Array  # (D (D + 1) / 2,)


class Row(NamedTuple):
    """Space for the pairs of one component with every other, so that the compiler vectorises loops over them."""

    share: Array  # (K,) of the one component, as the next three
    root: Array
    part: Array
    cost: Array  # of each pair
    offsets: Array  # (D, K)
    variances: Array  # (D, K)
    merged: Array  # (D (D + 1) / 2, K)


@inner
def joined(parts: Parts, one: int, other: int) -> float:
    """Merge the covariances of two components into `parts.merged`; the share of the first."""
    weight = parts.weights[one]
    share: float = weight / max(weight + parts.weights[other], 1e-300)
    root = math.sqrt(share * (1 - share))
    entry = 0
    for row in range(len(parts.offset)):
        parts.offset[row] = (parts.means[row, one] - parts.means[row, other]) * root
        for column in range(row + 1):
            average = between(parts.covariances[entry, other], parts.covariances[entry, one], share)
            parts.merged[entry] = average + parts.offset[row] * parts.offset[column]
            entry += 1
    return share


@inner
def between(start: float, end: float, share: float) -> float:
    """``start + share (end − start)``, as `torch.lerp` rounds it."""
    step = end - start
    return start + share * step if share < 0.5 else end - step * (1 - share)


@inner
def log_determinant(packed: Array, reduced: Array, size: int) -> float:
    """Log determinant of a covariance; `reduced` is space to work in."""
    for entry in range(len(packed)):
        reduced[entry] = packed[entry]
    total, product = 0.0, 1.0
    for column in range(size):
        start = column * (column + 1) // 2
        pivot = reduced[start + column]
        pivot = max(pivot, ROUNDING * packed[start + column], 1e-300)
        product *= pivot
        # one logarithm for several pivots, where their product is far from overflow
        if not 1e-8 < product < 1e8:
            total, product = total + math.log(product), 1.0
        for row in range(size - 1, column, -1):
            base = row * (row + 1) // 2
            part = reduced[base + column] / pivot
            for other in range(column + 1, row + 1):
                reduced[base + other] -= part * reduced[other * (other + 1) // 2 + column]
    return total + math.log(product)


@inner
def row_costs(parts: Parts, one: int, start: int, count: int, row: Row) -> None:
    """Fill the costs of merging one component with each from `start` to `count`, itself among them."""
    size, known, cost = len(parts.offset), parts.log_determinants[start:count], row.cost
    weight, weights = parts.weights[one], parts.weights[start:count]
    own = weight * parts.log_determinants[one]
    _join_row(parts, one, start, count, row)
    _eliminate(row, count - start, size)
    for other in range(count - start):
        total, product = 0.0, 1.0
        for column in range(size):
            product *= row.variances[column, other]
            # one logarithm for several pivots, where their product is far from overflow
            if not 1e-8 < product < 1e8:
                total, product = total + math.log(product), 1.0
        value = (weight + weights[other]) * (total + math.log(product))
        cost[other] = 0.5 * (value - (own + weights[other] * known[other]))


@inner
def _join_row(parts: Parts, one: int, start: int, count: int, row: Row) -> None:
    """As `joined`, for all pairs of one component."""
    share, root, weight, weights = row.share, row.root, parts.weights[one], parts.weights[start:count]
    # loops from zero to a length are those that the compiler vectorises
    for other in range(count - start):
        share[other] = weight / max(weight + weights[other], 1e-300)
        root[other] = math.sqrt(share[other] * (1 - share[other]))
    entry = 0
    for i in range(len(parts.offset)):
        mean, means, offset = parts.means[i, one], parts.means[i, start:count], row.offsets[i]
        for other in range(count - start):
            offset[other] = (mean - means[other]) * root[other]
        for j in range(i + 1):
            own, covariances = parts.covariances[entry, one], parts.covariances[entry, start:count]
            merged, beside = row.merged[entry], row.offsets[j]
            for other in range(count - start):
                average = between(covariances[other], own, share[other])
                merged[other] = average + offset[other] * beside[other]
            entry += 1


@inner
def _eliminate(row: Row, count: int, size: int) -> None:
    """Leave the pivots of the merged covariances in `variances`, as `log_determinant` finds them."""
    for column in range(size):
        diagonal, variance = row.merged[column * (column + 3) // 2], row.variances[column]
        for other in range(count):
            variance[other] = diagonal[other]
    part = row.part
    for column in range(size):
        diagonal, variance = row.merged[column * (column + 3) // 2], row.variances[column]
        for other in range(count):
            least = ROUNDING * variance[other]
            pivot = diagonal[other]
            pivot = least if pivot < least else pivot
            variance[other] = 1e-300 if pivot < 1e-300 else pivot
        for below in range(size - 1, column, -1):
            base = below * (below + 1) // 2
            lead = row.merged[base + column]
            for other in range(count):
                part[other] = lead[other] / variance[other]
            for beside in range(column + 1, below + 1):
                entries = row.merged[base + beside]
                factor = row.merged[beside * (beside + 1) // 2 + column]
                for other in range(count):
                    entries[other] -= part[other] * factor[other]
