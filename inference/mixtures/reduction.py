"""Mixture reduction: fewer components with little loss, compiled for the processor.

First, components of negligible weight go. Then pairs that are each other's cheapest to merge are merged, all at once,
and again, while the cost is below a threshold. Last, the cheapest pairs are merged while there are too many components.
The cost is Runnalls' upper bound on the Kullback-Leibler divergence that merging adds (A. R. Runnalls,
"Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Trans. Aerospace and Electronic Systems 43(3), 2007, eq.
16; he merges one pair at a time): of weights w, covariances P and the merged pair's covariance P₁₂,

    ½ ((w₁ + w₂) log det P₁₂ − w₁ log det P₁ − w₂ log det P₂).

A covariance is its lower triangle, row by row.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import numbers_of
from beliefstream.inference.mixtures.native_exponential import logarithm
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, put_matrix, put_vector

Array = NDArray[np.float64]
Places = NDArray[np.int64]

NEGLIGIBLE_WEIGHT = 1e-5  # relative to the heaviest component
TOGETHER = 8  # pairs of a component; no loop over them has a rest


def prepare() -> None:
    """Compile the reduction, or load it from Numba's cache."""
    ones = torch.ones(1, 2, 1, dtype=torch.float64)
    reduce(GaussianMixture(ones[..., 0], ones, ones[..., None]), 1, 0.0)


def reduce(mixture: GaussianMixture, components: int, threshold: float = 0.01) -> GaussianMixture:
    """Reduce to at most `components`, and until no pair merges for less than `threshold` nats.

    The result has as many places as its largest mixture needs, its components in falling order of weight.
    """
    log_weights, means, covariances = numbers_of(mixture)
    reduced = np.empty_like(log_weights), np.empty_like(means), np.empty_like(covariances)
    most = reduce_all((log_weights, means, covariances), components, threshold, reduced)
    parts = (torch.from_numpy(array[:, :most]).contiguous().to(mixture.means) for array in reduced)
    return GaussianMixture(*parts)


@native
def reduce_all(
    given: tuple[Array, Array, Array], components: int, threshold: float, reduced: tuple[Array, Array, Array]
) -> int:
    """Reduce mixtures, given as log weights, means and covariances; the most components that one has left."""
    batch, places, size = given[1].shape
    room, most, left = new_room(places, size), 0, np.empty(batch, np.int64)
    for row in range(batch):
        one = (given[0][row], given[1][row], given[2][row])
        left[row] = reduce_one(
            one, components, threshold, room, (reduced[0][row], reduced[1][row], reduced[2][row])
        )
        most = max(most, left[row])
    most = max(1, most)
    for row in range(batch):
        leave_absent(left[row], most, reduced[0][row], reduced[1][row], reduced[2][row])
        # weights sum to one, so these are no numbers
        if left[row] == 0:
            for part in range(most):
                reduced[0][row, part] = math.nan
                put_vector(reduced[1][row, part], given[1][row, part])
                put_matrix(reduced[2][row, part], given[2][row, part])
    return most


@borrowing
def reduce_one(
    given: tuple[Array, Array, Array],
    components: int,
    threshold: float,
    room: Room,
    reduced: tuple[Array, Array, Array],
) -> int:
    """Reduce one mixture, into the first places of `reduced`; how many components it has left."""
    _shares(given[0], room.weights[: len(given[0])])
    count = _sort(room.weights, len(given[0]), room.order)
    _pack(room.weights, given[1], given[2], room.order[:count], room.parts)
    _merge(room.parts, room.pairs, count, components, threshold, room.cost, room.partner, room.chosen)
    left = _sort(room.parts.weights, count, room.order)
    _unpack(room.parts, room.order[:left], reduced[0], reduced[1], reduced[2])
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
    pairs: Pairs,
    count: int,
    components: int,
    threshold: float,
    cost: Array,
    partner: Places,
    chosen: NDArray[np.bool_],
) -> None:
    """Merge the first `count` components; those that are left keep their order, and the others have no weight."""
    first, end = _whole(0, count)
    for entry in range(len(parts.covariances)):
        for one in range(first, end):
            pairs.merged[entry, one] = parts.covariances[entry, one]
    _log_determinants(pairs, first, end, parts.log_determinants)
    for one in range(count):
        _find_costs(parts, one, one, count, pairs)
        cost[one, one] = math.inf
        for other in range(one + 1, count):
            cost[one, other] = cost[other, one] = pairs.cost[other]
    left = count
    while True:
        merging = _choose(cost, count, left - components, threshold, partner, chosen)
        if merging == 0:
            return
        left -= merging
        for one in range(count):
            if chosen[one]:
                _merge_pair(parts, one, partner[one], pairs)
        _close_up(parts, count, cost, chosen)
        count = left
        # the cost between two merged components is computed once: rounding could differ
        for one in range(count):
            if chosen[one]:
                _find_costs(parts, one, 0, count, pairs)
                for third in range(count):
                    new = chosen[third] and third <= one
                    if third != one and not new:
                        cost[one, third] = cost[third, one] = pairs.cost[third]


@borrowing
def _merge_pair(parts: Parts, one: int, other: int, pairs: Pairs) -> None:
    """Put the merged pair in the place of the first."""
    first, end = _whole(other, other + 1)
    _join(parts, one, first, end, pairs)
    for row in range(len(parts.means)):
        parts.means[row, one] = _between(parts.means[row, other], parts.means[row, one], pairs.share[other])
    for entry in range(len(pairs.merged)):
        parts.covariances[entry, one] = pairs.merged[entry, other]
    _log_determinants(pairs, first, end, pairs.cost)
    parts.log_determinants[one] = pairs.cost[other]
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
    place, least = 0, math.inf
    for other in range(count):
        if cost[other] < least:
            place, least = other, cost[other]
    return place


@borrowing
def _choose(
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


class Parts(NamedTuple):
    """Components of one mixture."""

    weights: Array  # (K,)
    log_determinants: Array  # (K,)
    means: Array  # (D, K)
    covariances: Array  # (D (D + 1) / 2, K)
    places: NDArray[np.int64]  # (K,) of the components that are left


class Pairs(NamedTuple):
    """Space for the pairs of one component with every other, so that the compiler vectorises loops over them."""

    share: Array  # (K,) of the one component, as the next three
    root: Array
    part: Array
    cost: Array  # of each pair
    offsets: Array  # (D, K)
    pivots: Array  # (D, K)
    merged: Array  # (D (D + 1) / 2, K)


class Room(NamedTuple):
    """Space to reduce one mixture in."""

    parts: Parts
    pairs: Pairs
    weights: Array  # (K,)
    order: Places  # (K,)
    cost: Array  # (K, K)
    partner: Places  # (K,)
    chosen: NDArray[np.bool_]  # (K,)


@inner
def new_room(places: int, size: int) -> Room:
    """Space to reduce one mixture of up to so many `places`; those that a loop takes beyond are numbers too."""
    packed, count = size * (size + 1) // 2, places
    places = (count + TOGETHER - 1) // TOGETHER * TOGETHER
    parts = Parts(
        np.ones(places),
        np.ones(places),
        np.ones((size, places)),
        np.ones((packed, places)),
        np.empty(places, np.int64),
    )
    vectors, matrices = np.empty((4, places)), np.empty((2, size, places))
    pairs = Pairs(
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
def _between(start: float, end: float, share: float) -> float:
    """``start + share (end − start)``, as `torch.lerp` rounds it."""
    step = end - start
    return start + share * step if share < 0.5 else end - step * (1 - share)


@borrowing
def _whole(start: int, end: int) -> tuple[np.uint64, np.uint64]:
    """Places from `start` to `end`, with more at both ends so that no loop over them has a rest."""
    # a place without a sign cannot be negative, which would have to be looked at each time
    first, last = np.uint64(start // TOGETHER), np.uint64((end + TOGETHER - 1) // TOGETHER)
    return first * np.uint64(TOGETHER), last * np.uint64(TOGETHER)


@borrowing
def _find_costs(parts: Parts, one: int, start: int, count: int, pairs: Pairs) -> None:
    """Fill the costs of merging one component with each from `start` to `count`, itself and some more among them."""
    first, end = _whole(start, count)
    _join(parts, one, first, end, pairs)
    _log_determinants(pairs, first, end, pairs.cost)
    cost, weights, known = pairs.cost, parts.weights, parts.log_determinants
    weight, own = weights[one], weights[one] * known[one]
    for other in range(first, end):
        value = (weight + weights[other]) * cost[other]
        cost[other] = 0.5 * (value - (own + weights[other] * known[other]))


@borrowing
def _join(parts: Parts, one: int, first: np.uint64, end: np.uint64, pairs: Pairs) -> None:
    """Merge the covariances of one component with those of others, into `pairs.merged`."""
    share, root, weight, weights = pairs.share, pairs.root, parts.weights[one], parts.weights
    means, covariances, offsets, merged = parts.means, parts.covariances, pairs.offsets, pairs.merged
    for other in range(first, end):
        share[other] = weight / max(weight + weights[other], 1e-300)
        root[other] = math.sqrt(share[other] * (1 - share[other]))
    entry = 0
    for i in range(len(means)):
        mean = means[i, one]
        for other in range(first, end):
            offsets[i, other] = (mean - means[i, other]) * root[other]
        for j in range(i + 1):
            own = covariances[entry, one]
            for other in range(first, end):
                average = _between(covariances[entry, other], own, share[other])
                merged[entry, other] = average + offsets[i, other] * offsets[j, other]
            entry += 1


@borrowing
def _log_determinants(pairs: Pairs, first: np.uint64, end: np.uint64, into: Array) -> None:
    """Fill the log determinants of `pairs.merged`, by elimination in their place."""
    pivots, merged, part = pairs.pivots, pairs.merged, pairs.part
    for column in range(len(pivots)):
        place = column * (column + 3) // 2
        for other in range(first, end):
            pivots[column, other] = ROUNDING * merged[place, other]
    for column in range(len(pivots)):
        place = column * (column + 3) // 2
        for other in range(first, end):
            least, pivot = pivots[column, other], merged[place, other]
            pivot = least if pivot < least else pivot
            pivots[column, other] = 1e-300 if pivot < 1e-300 else pivot
        for below in range(len(pivots) - 1, column, -1):
            base = below * (below + 1) // 2
            for other in range(first, end):
                part[other] = merged[base + column, other] / pivots[column, other]
            for beside in range(column + 1, below + 1):
                lead = beside * (beside + 1) // 2 + column
                for other in range(first, end):
                    merged[base + beside, other] -= part[other] * merged[lead, other]
    for other in range(first, end):
        into[other] = 0.0
    for column in range(len(pivots)):
        for other in range(first, end):
            into[other] += logarithm(pivots[column, other])
