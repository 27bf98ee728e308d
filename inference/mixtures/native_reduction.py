"""`inference.mixtures.reduction` for the processor: the same merges, one mixture at a time, without a tensor operator.

Functions here have the names of their counterparts there, which say what they compute. A covariance is its lower
triangle, row by row.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import put_matrix, put_vector
from beliefstream.inference.mixtures.native_pair_costs import (
    Parts,
    Room,
    Row,
    between,
    joined,
    log_determinant,
    new_room,
    row_costs,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]

NEGLIGIBLE_WEIGHT = 1e-5  # as in `reduction`


def prepare() -> None:
    """Compile the reduction, or load it from Numba's cache."""
    ones = torch.ones(1, 2, 1, dtype=torch.float64)
    reduce(GaussianMixture(ones[..., 0], ones, ones[..., None]), 1, 0.0)


def reduce(mixture: GaussianMixture, components: int, threshold: float) -> GaussianMixture:
    """As `reduction.reduce`, of tensors in double precision on the CPU."""
    log_weights, means, covariances = numbers_of(mixture)
    found = np.empty_like(log_weights), np.empty_like(means), np.empty_like(covariances)
    most = reduce_all((log_weights, means, covariances), components, threshold, found)
    return GaussianMixture(*(torch.from_numpy(array[:, :most]).contiguous() for array in found))


@native
def reduce_all(
    given: tuple[Array, Array, Array], components: int, threshold: float, found: tuple[Array, Array, Array]
) -> int:
    """Reduce mixtures, `given` and `found` as log weights, means and covariances; the most components one has left."""
    batch, places, size = given[1].shape
    room, most, left = new_room(places, size), 0, np.empty(batch, np.int64)
    for row in range(batch):
        one = (given[0][row], given[1][row], given[2][row])
        left[row] = reduce_one(
            one, components, threshold, room, (found[0][row], found[1][row], found[2][row])
        )
        most = max(most, left[row])
    most = max(1, most)
    for row in range(batch):
        leave_absent(left[row], most, found[0][row], found[1][row], found[2][row])
        # weights sum to one, so these are no numbers
        if left[row] == 0:
            for part in range(most):
                found[0][row, part] = math.nan
                put_vector(found[1][row, part], given[1][row, part])
                put_matrix(found[2][row, part], given[2][row, part])
    return most


@borrowing
def reduce_one(
    given: tuple[Array, Array, Array],
    components: int,
    threshold: float,
    room: Room,
    found: tuple[Array, Array, Array],
) -> int:
    """Reduce one mixture, into the first places of `found`; how many components it has left."""
    _shares(given[0], room.weights[: len(given[0])])
    count = _sort(room.weights, len(given[0]), room.order)
    _pack(room.weights, given[1], given[2], room.order[:count], room.parts)
    _merge(room.parts, room.pairs, count, components, threshold, room.cost, room.partner, room.chosen)
    left = _sort(room.parts.weights, count, room.order)
    _unpack(room.parts, room.order[:left], found[0], found[1], found[2])
    return left


@borrowing
def _shares(log_weights: Array, weights: Array) -> None:
    """Weights that sum to one, without negligible ones."""
    highest, total, heaviest, kept = log_weights[0], 0.0, 0.0, 0.0
    for value in log_weights:
        highest = max(highest, value)
    for place, value in enumerate(log_weights):
        weights[place] = math.exp(value - highest)
        total += weights[place]
        heaviest = max(heaviest, weights[place])
    for place in range(len(weights)):
        if weights[place] < NEGLIGIBLE_WEIGHT * heaviest:
            weights[place] = 0.0
        weights[place] /= total
        kept += weights[place]
    for place in range(len(weights)):
        weights[place] /= kept


@borrowing
def _sort(weights: Array, places: int, order: Places) -> int:
    """Put the places with weight in falling order of it, equal ones in their order; how many there are."""
    count = 0
    for place in range(places):
        # negated, so that what is not a number is left out
        if not weights[place] > 0:
            continue
        at = count
        while at > 0 and weights[order[at - 1]] < weights[place]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place
        count += 1
    return count


@borrowing
def _pack(weights: Array, means: Array, covariances: Array, order: Places, parts: Parts) -> None:
    """Take these components in this order."""
    for place in range(len(order)):
        source, entry = order[place], 0
        parts.weights[place] = weights[source]
        for row in range(means.shape[1]):
            parts.means[row, place] = means[source, row]
            for column in range(row + 1):
                parts.covariances[entry, place] = covariances[source, row, column]
                entry += 1


@borrowing
def _unpack(parts: Parts, order: Places, log_weights: Array, means: Array, covariances: Array) -> None:
    """Give these components in this order."""
    for place in range(len(order)):
        source, entry = order[place], 0
        log_weights[place] = math.log(parts.weights[source])
        for row in range(means.shape[1]):
            means[place, row] = parts.means[row, source]
            for column in range(row + 1):
                value = parts.covariances[entry, source]
                covariances[place, row, column] = covariances[place, column, row] = value
                entry += 1


@borrowing
def leave_absent(start: int, end: int, log_weights: Array, means: Array, covariances: Array) -> None:
    """Mark places as without a component."""
    for place in range(start, end):
        log_weights[place] = -math.inf
        for row in range(means.shape[1]):
            means[place, row] = 0.0
            for column in range(means.shape[1]):
                covariances[place, row, column] = 1.0 if row == column else 0.0


@borrowing
def _merge(
    parts: Parts,
    row: Row,
    count: int,
    components: int,
    threshold: float,
    cost: Array,
    partner: Places,
    chosen: NDArray[np.bool_],
) -> None:
    """Merge the first `count` components; those that are left keep their order, and the others have no weight."""
    size = len(parts.offset)
    for one in range(count):
        for entry in range(len(parts.merged)):
            parts.merged[entry] = parts.covariances[entry, one]
        parts.log_determinants[one] = log_determinant(parts.merged, parts.reduced, size)
    for one in range(count):
        row_costs(parts, one, one, count, row)
        cost[one, one] = math.inf
        for other in range(one + 1, count):
            cost[one, other] = cost[other, one] = row.cost[other]
    left = count
    while True:
        pairs = _pairs(cost, count, left - components, threshold, partner, chosen)
        if pairs == 0:
            return
        left -= pairs
        for one in range(count):
            if chosen[one]:
                _merge_pair(parts, one, partner[one])
        _close_up(parts, count, cost, chosen)
        count = left
        # the cost between two merged components is computed once: rounding could differ
        for one in range(count):
            if chosen[one]:
                row_costs(parts, one, 0, count, row)
                for third in range(count):
                    new = chosen[third] and third <= one
                    if third != one and not new:
                        cost[one, third] = cost[third, one] = row.cost[third]


@borrowing
def _merge_pair(parts: Parts, one: int, other: int) -> None:
    """Put the merged pair in the place of the first."""
    share, size = joined(parts, one, other), len(parts.offset)
    for row in range(size):
        parts.means[row, one] = between(parts.means[row, other], parts.means[row, one], share)
    for entry in range(len(parts.merged)):
        parts.covariances[entry, one] = parts.merged[entry]
    parts.log_determinants[one] = log_determinant(parts.merged, parts.reduced, size)
    parts.weights[one] += parts.weights[other]
    parts.weights[other] = 0.0


@borrowing
def _close_up(parts: Parts, count: int, cost: Array, chosen: NDArray[np.bool_]) -> None:
    """Move components without weight, and their costs, out of the first places."""
    weights, left = parts.weights, 0
    for place in range(count):
        if weights[place] > 0:
            parts.places[left] = place
            left += 1
    for one in range(left):
        source = parts.places[one]
        chosen[one], weights[one] = chosen[source], weights[source]
        parts.log_determinants[one] = parts.log_determinants[source]
        for row in range(len(parts.means)):
            parts.means[row, one] = parts.means[row, source]
        for entry in range(len(parts.covariances)):
            parts.covariances[entry, one] = parts.covariances[entry, source]
        for other in range(left):
            cost[one, other] = cost[source, parts.places[other]]
    for place in range(left, count):
        weights[place] = 0.0


@borrowing
def _nearest(cost: Array, count: int) -> int:
    """The first of the least costs."""
    one = other = third = last = math.inf  # each takes a quarter, and waits for itself only
    for place in range(0, count - 3, 4):
        one = _less(cost[place], one)
        other = _less(cost[place + 1], other)
        third = _less(cost[place + 2], third)
        last = _less(cost[place + 3], last)
    for place in range(count // 4 * 4, count):
        one = _less(cost[place], one)
    least = _less(_less(one, other), _less(third, last))
    for place in range(count):
        if cost[place] == least:
            return place
    return 0


@borrowing
def _less(value: float, other: float) -> float:
    """The smaller one, the second where the first is not a number."""
    return value if value < other else other


@borrowing
def _pairs(
    cost: Array, count: int, excess: int, threshold: float, partner: Places, chosen: NDArray[np.bool_]
) -> int:
    """Choose the pairs to merge now, by their firsts; how many."""
    pairs, cheap = 0, False
    for one in range(count):
        partner[one] = _nearest(cost[one], count)
    for one in range(count):
        other = partner[one]
        least = cost[one, other]
        chosen[one] = partner[other] == one and one < other and math.isfinite(least)
        pairs += chosen[one]
        cheap |= chosen[one] and least < threshold
    limit = math.inf if cheap else max(excess, 0)
    for one in range(count):
        if cheap and chosen[one] and cost[one, partner[one]] >= threshold:
            chosen[one] = False
            pairs -= 1
    while pairs > limit:
        dearest = -1
        for one in range(count):
            if chosen[one] and (dearest < 0 or cost[one, partner[one]] >= cost[dearest, partner[dearest]]):
                dearest = one
        chosen[dearest] = False
        pairs -= 1
    return pairs
