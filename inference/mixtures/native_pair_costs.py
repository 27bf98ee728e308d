"""Native costs of merging pairs of components: Runnalls' bound, as in `inference.mixtures.reduction`.

A covariance is its lower triangle, row by row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_exponential import logarithm
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Parts(NamedTuple):
    """Components of one mixture, and space for the arithmetic of one pair."""

    weights: Array  # (K,)
    log_determinants: Array  # (K,)
    means: Array  # (D, K)
    covariances: Array  # (D (D + 1) / 2, K)
    offset: Array  # (D,)
    merged: Array  # (D (D + 1) / 2,)
    reduced: Array  # (D (D + 1) / 2,)
    places: NDArray[np.int64]  # (K,) of the components that are left


class Row(NamedTuple):
    """Space for the pairs of one component with every other, so that the compiler vectorises loops over them."""

    share: Array  # (K,) of the one component, as the next three
    root: Array
    part: Array
    cost: Array  # of each pair
    offsets: Array  # (D, K)
    variances: Array  # (D, K)
    merged: Array  # (D (D + 1) / 2, K)


class Room(NamedTuple):
    """Space to reduce one mixture in."""

    parts: Parts
    pairs: Row
    weights: Array  # (K,)
    order: Places  # (K,)
    cost: Array  # (K, K)
    partner: Places  # (K,)
    chosen: NDArray[np.bool_]  # (K,)


@inner
def new_room(places: int, size: int) -> Room:
    """Space to reduce one mixture of up to so many `places`."""
    packed = size * (size + 1) // 2
    parts = Parts(
        np.empty(places),
        np.empty(places),
        np.empty((size, places)),
        np.empty((packed, places)),
        np.empty(size),
        np.empty(packed),
        np.empty(packed),
        np.empty(places, np.int64),
    )
    vectors, matrices = np.empty((4, places)), np.empty((2, size, places))
    pairs = Row(
        vectors[0],
        vectors[1],
        vectors[2],
        vectors[3],
        matrices[0],
        matrices[1],
        np.empty((packed, places)),
    )
    places_of = np.empty((2, places), np.int64)
    return Room(
        parts,
        pairs,
        np.empty(places),
        places_of[0],
        np.empty((places, places)),
        places_of[1],
        np.empty(places, np.bool_),
    )


@borrowing
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


@borrowing
def between(start: float, end: float, share: float) -> float:
    """``start + share (end − start)``, as `torch.lerp` rounds it."""
    step = end - start
    return start + share * step if share < 0.5 else end - step * (1 - share)


@borrowing
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


@borrowing
def row_costs(parts: Parts, one: int, start: int, count: int, row: Row) -> None:
    """Fill the costs of merging one component with each from `start` to `count`, itself among them."""
    size, known, cost, variances = len(parts.offset), parts.log_determinants, row.cost, row.variances
    weight, weights = parts.weights[one], parts.weights
    own = weight * known[one]
    # a place without a sign cannot be negative, which would have to be looked at each time
    first, end = np.uint64(start), np.uint64(count)
    _join_row(parts, one, first, end, row)
    _eliminate(row, first, end, size)
    for other in range(first, end):
        cost[other] = 0.0
    for column in range(size):
        for other in range(first, end):
            cost[other] += logarithm(variances[column, other])
    for other in range(first, end):
        value = (weight + weights[other]) * cost[other]
        cost[other] = 0.5 * (value - (own + weights[other] * known[other]))


@borrowing
def _join_row(parts: Parts, one: int, first: np.uint64, end: np.uint64, row: Row) -> None:
    """As `joined`, for all pairs of one component."""
    share, root, weight, weights = row.share, row.root, parts.weights[one], parts.weights
    means, covariances, offsets, merged = parts.means, parts.covariances, row.offsets, row.merged
    for other in range(first, end):
        share[other] = weight / max(weight + weights[other], 1e-300)
        root[other] = math.sqrt(share[other] * (1 - share[other]))
    entry = 0
    for i in range(len(parts.offset)):
        mean = means[i, one]
        for other in range(first, end):
            offsets[i, other] = (mean - means[i, other]) * root[other]
        for j in range(i + 1):
            own = covariances[entry, one]
            for other in range(first, end):
                average = between(covariances[entry, other], own, share[other])
                merged[entry, other] = average + offsets[i, other] * offsets[j, other]
            entry += 1


@borrowing
def _eliminate(row: Row, first: np.uint64, end: np.uint64, size: int) -> None:
    """Leave the pivots of the merged covariances in `variances`, as `log_determinant` finds them."""
    variances, merged, part = row.variances, row.merged, row.part
    for column in range(size):
        place = column * (column + 3) // 2
        for other in range(first, end):
            variances[column, other] = merged[place, other]
    for column in range(size):
        place = column * (column + 3) // 2
        for other in range(first, end):
            least = ROUNDING * variances[column, other]
            pivot = merged[place, other]
            pivot = least if pivot < least else pivot
            variances[column, other] = 1e-300 if pivot < 1e-300 else pivot
        for below in range(size - 1, column, -1):
            base = below * (below + 1) // 2
            for other in range(first, end):
                part[other] = merged[base + column, other] / variances[column, other]
            for beside in range(column + 1, below + 1):
                lead = beside * (beside + 1) // 2 + column
                for other in range(first, end):
                    merged[base + beside, other] -= part[other] * merged[lead, other]
