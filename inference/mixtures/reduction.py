"""Mixture reduction: fewer components with little loss, compiled for the processor.

First, components of negligible weight go. Then pairs that are each other's cheapest to merge are merged, all at once,
and again, while the cost is below a threshold. Last, the cheapest pairs are merged while there are too many components.
The cost is Runnalls' upper bound on the Kullback-Leibler divergence that merging adds (A. R. Runnalls,
"Kullback-Leibler Approach to Gaussian Mixture Reduction", IEEE Trans. Aerospace and Electronic Systems 43(3), 2007, eq.
16; he merges one pair at a time): of weights w, covariances P and the merged pair's covariance P₁₂,

    ½ ((w₁ + w₂) log det P₁₂ − w₁ log det P₁ − w₂ log det P₂).

The same over some coordinates only is never more: what others add is not negative, as a conditional covariance is
concave in the covariance, and a log determinant too. So in many coordinates the costs of all pairs are those over
the `LEADING` ones, and only a pair that is a component's cheapest by them takes its cost over all.

A covariance is its lower triangle, row by row.

What is light now may be what later observations confirm. Where these are known, weights count with a `power` below one
in this cost, and in what is negligible; what is far and light is then kept rather than what is near and heavy. Merged
components have their true weights in any case.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_exponential import logarithm
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, put_matrix, put_vector

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Bits = NDArray[np.bool_]

NEGLIGIBLE_WEIGHT = 1e-5  # relative to the heaviest component
TOGETHER = 8  # pairs of a component; no loop over them has a rest
LEADING = 8  # coordinates over which the costs of all pairs are computed
UNIT = np.uint64(1)
MODERATE = 200.0  # log determinant of a component, beside which those of merged ones are normal numbers


def prepare() -> None:
    """Compile the reduction, or load it from Numba's cache."""
    ones = torch.ones(1, 2, 1, dtype=torch.float64)
    reduce(GaussianMixture(ones[..., 0], ones, ones[..., None]), 1, 0.0)


def reduce(
    mixture: GaussianMixture, components: int, threshold: float = 0.01, power: float = 1.0
) -> GaussianMixture:
    """Reduce to at most `components`, and until no pair merges for less than `threshold` nats.

    Weights count with their `power` in costs. The result has as many places as its largest mixture needs, with the
    components in falling order of weight.
    """
    log_weights, means, covariances = mixture.numbers
    reduced = np.empty_like(log_weights), np.empty_like(means), np.empty_like(covariances)
    most = reduce_all((log_weights, means, covariances), components, threshold, power, reduced)
    parts = (torch.from_numpy(array[:, :most]).contiguous().to(mixture.means) for array in reduced)
    return GaussianMixture(*parts)


@native
def reduce_all(
    given: tuple[Array, Array, Array],
    components: int,
    threshold: float,
    power: float,
    reduced: tuple[Array, Array, Array],
) -> int:
    """Reduce mixtures, given as log weights, means and covariances; the most components that one has left."""
    batch, places, size = given[1].shape
    room, most, left = new_room(places, size), 0, np.empty(batch, np.int64)
    for row in range(batch):
        one = (given[0][row], given[1][row], given[2][row])
        into = (reduced[0][row], reduced[1][row], reduced[2][row])
        left[row] = reduce_tempered(one, components, threshold, power, room, into)
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
    return reduce_tempered(given, components, threshold, 1.0, room, reduced)


@borrowing
def reduce_tempered(
    given: tuple[Array, Array, Array],
    components: int,
    threshold: float,
    power: float,
    room: Room,
    reduced: tuple[Array, Array, Array],
) -> int:
    """As `reduce_one`, with a `power` of the weights in costs."""
    _shares(given[0], power, room.weights[: len(given[0])])
    count = _sort(room.weights, len(given[0]), room.order)
    _pack(room.weights, given[1], given[2], room.order[:count], room.parts)
    for place in range(count):
        room.parts.masses[place] = room.parts.weights[place]
    if power != 1.0:
        _fill_masses(given[0], room.order[:count], room.parts.masses)
    _merge(room, count, components, threshold)
    left = _sort(room.parts.weights, count, room.order)
    _unpack(room.parts, room.order[:left], reduced[0], reduced[1], reduced[2])
    return left


@borrowing
def _fill_masses(log_weights: Array, order: Places, masses: Array) -> None:
    """The true weights of these components, in this order; they sum to one."""
    highest, total = -math.inf, 0.0
    for source in order:
        highest = max(highest, log_weights[source])
    for place in range(len(order)):
        masses[place] = math.exp(log_weights[order[place]] - highest)
        total += masses[place]
    for place in range(len(order)):
        masses[place] /= total


@borrowing
def _shares(log_weights: Array, power: float, weights: Array) -> None:
    """Powers of weights that sum to one, without negligible ones."""
    highest, total, heaviest, kept = log_weights[0], 0.0, 0.0, 0.0
    for value in log_weights:
        highest = max(highest, value)
    for place, value in enumerate(log_weights):
        weights[place] = math.exp(power * (value - highest))
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
        log_weights[place] = math.log(parts.masses[source])
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
def _merge(room: Room, count: int, components: int, threshold: float) -> None:
    """Merge the first `count` components; those that are left keep their order, and the others have no weight."""
    parts, row, costs, partner, chosen = room.parts, room.pairs, room.costs, room.partner, room.chosen
    for one in range(count):
        for entry in range(len(parts.merged)):
            parts.merged[entry] = parts.covariances[entry, one]
        _fill_log_determinants(parts, one)
    for one in range(count):
        row_costs(parts, one, one, count, row)
        costs.value[one, one] = math.inf
        for other in range(one + 1, count):
            costs.value[one, other] = costs.value[other, one] = row.cost[other]
        if len(parts.offset) > LEADING:
            costs.whole[one, :count] = False
    left = count
    while True:
        for one in range(count):
            partner[one] = _nearest(costs.value[one], count)
            if len(parts.offset) > LEADING:
                partner[one] = _cheapest(parts, one, partner[one], count, costs)
        pairs = _pairs(costs.value, count, left - components, threshold, partner, chosen)
        if pairs == 0:
            return
        left -= pairs
        for one in range(count):
            if chosen[one]:
                _merge_pair(parts, one, partner[one])
        _close_up(parts, count, costs, chosen)
        count = left
        # the cost between two merged components is computed once: rounding could differ
        for one in range(count):
            if chosen[one]:
                row_costs(parts, one, 0, count, row)
                for third in range(count):
                    new = chosen[third] and third <= one
                    if third != one and not new:
                        costs.value[one, third] = costs.value[third, one] = row.cost[third]
                        if len(parts.offset) > LEADING:
                            costs.whole[one, third] = costs.whole[third, one] = False


@borrowing
def _cheapest(parts: Parts, one: int, other: int, count: int, costs: Costs) -> int:
    """The first of the cheapest components to merge with one; the `other` is so by the costs that are known."""
    while one != other and not costs.whole[one, other]:
        cost = _pair_cost(parts, min(one, other), max(one, other))  # in one order, as rounding could differ
        costs.value[one, other] = costs.value[other, one] = cost
        costs.whole[one, other] = costs.whole[other, one] = True
        other = _nearest(costs.value[one], count)
    return other


@borrowing
def _pair_cost(parts: Parts, one: int, other: int) -> float:
    """The cost of merging two components, over all coordinates."""
    joined(parts, parts.weights, one, other)
    known, weight, beside = parts.log_determinants, parts.weights[one], parts.weights[other]
    merged = log_determinant(parts.merged, parts.reduced, parts.column, len(parts.offset))
    cost: float = 0.5 * ((weight + beside) * merged - (weight * known[one] + beside * known[other]))
    return cost


@borrowing
def _merge_pair(parts: Parts, one: int, other: int) -> None:
    """Put the merged pair in the place of the first."""
    share = joined(parts, parts.masses, one, other)
    for row in range(len(parts.offset)):
        parts.means[row, one] = between(parts.means[row, other], parts.means[row, one], share)
    for entry in range(len(parts.merged)):
        parts.covariances[entry, one] = parts.merged[entry]
    _fill_log_determinants(parts, one)
    parts.weights[one] += parts.weights[other]
    parts.masses[one] += parts.masses[other]
    parts.weights[other] = 0.0


@borrowing
def _fill_log_determinants(parts: Parts, one: int) -> None:
    """Those of a component whose covariance is in `parts.merged`."""
    size = len(parts.offset)
    whole = log_determinant(parts.merged, parts.reduced, parts.column, size)
    parts.log_determinants[one] = parts.leading[one] = whole
    if size > LEADING:
        parts.leading[one] = log_determinant(parts.merged, parts.reduced, parts.column, LEADING)


@borrowing
def _close_up(parts: Parts, count: int, costs: Costs, chosen: Bits) -> None:
    """Move components without weight, and their costs, out of the first places."""
    weights, left = parts.weights, 0
    for place in range(count):
        if weights[place] > 0:
            parts.places[left] = place
            left += 1
    for one in range(left):
        source = parts.places[one]
        chosen[one], weights[one] = chosen[source], weights[source]
        parts.masses[one] = parts.masses[source]
        parts.log_determinants[one], parts.leading[one] = (
            parts.log_determinants[source],
            parts.leading[source],
        )
        for row in range(len(parts.means)):
            parts.means[row, one] = parts.means[row, source]
        for entry in range(len(parts.covariances)):
            parts.covariances[entry, one] = parts.covariances[entry, source]
        for other in range(left):
            costs.value[one, other] = costs.value[source, parts.places[other]]
        if len(parts.means) > LEADING:
            for other in range(left):
                costs.whole[one, other] = costs.whole[source, parts.places[other]]
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
def _pairs(cost: Array, count: int, excess: int, threshold: float, partner: Places, chosen: Bits) -> int:
    """Choose the pairs to merge now, by their firsts, of each component and its cheapest partner; how many."""
    pairs, cheap = 0, False
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
    """Components of one mixture, and space for the arithmetic of one pair."""

    weights: Array  # (K,), as they count in costs
    masses: Array  # (K,), as they are
    log_determinants: Array  # (K,)
    leading: Array  # (K,) log determinants over the leading coordinates
    means: Array  # (D, K)
    covariances: Array  # (D (D + 1) / 2, K)
    offset: Array  # (D,)
    merged: Array  # (D (D + 1) / 2,)
    reduced: Array  # (D (D + 1) / 2,)
    column: Array  # (D,)
    places: NDArray[np.int64]  # (K,) of the components that are left


class Row(NamedTuple):
    """Space for the pairs of one component with every other, so that the compiler vectorises loops over them.

    It is for the leading L of the coordinates.
    """

    share: Array  # (K,) of the one component, as the next three
    root: Array
    part: Array
    cost: Array  # of each pair
    offsets: Array  # (L, K)
    variances: Array  # (L, K)
    merged: Array  # (L (L + 1) / 2, K)


class Costs(NamedTuple):
    """Costs of merging each pair of components."""

    value: Array  # (K, K)
    whole: Bits  # (K, K), whether it is over all coordinates, or over the leading ones


class Room(NamedTuple):
    """Space to reduce one mixture in."""

    parts: Parts
    pairs: Row
    weights: Array  # (K,)
    order: Places  # (K,)
    costs: Costs
    partner: Places  # (K,)
    chosen: Bits  # (K,)


@inner
def new_room(places: int, size: int) -> Room:
    """Space to reduce one mixture of up to so many `places`; those that a loop takes beyond are numbers too."""
    packed, count, leading = size * (size + 1) // 2, places, min(size, LEADING)
    places = (count + TOGETHER - 1) // TOGETHER * TOGETHER
    parts = Parts(
        np.ones(places),
        np.ones(places),
        np.ones(places),
        np.ones(places),
        np.ones((size, places)),
        np.ones((packed, places)),
        np.empty(size),
        np.empty(packed),
        np.empty(packed),
        np.empty(size),
        np.empty(places, np.int64),
    )
    vectors, matrices = np.empty((4, places)), np.empty((2, leading, places))
    pairs = Row(
        vectors[0],
        vectors[1],
        vectors[2],
        vectors[3],
        matrices[0],
        matrices[1],
        np.empty((leading * (leading + 1) // 2, places)),
    )
    places_of = np.empty((2, places), np.int64)
    return Room(
        parts,
        pairs,
        np.empty(places),
        places_of[0],
        Costs(np.empty((places, places)), np.empty((places, places), np.bool_)),
        places_of[1],
        np.empty(places, np.bool_),
    )


@borrowing
def joined(parts: Parts, weights: Array, one: int, other: int) -> float:
    """Merge the covariances of two components into `parts.merged`; the share of the first by these `weights`."""
    weight, offset, merged, covariances = weights[one], parts.offset, parts.merged, parts.covariances
    share: float = weight / max(weight + weights[other], 1e-300)
    root = math.sqrt(share * (1 - share))
    for entry in range(np.uint64(len(merged))):
        merged[entry] = between(covariances[entry, other], covariances[entry, one], share)
    for row in range(np.uint64(len(offset))):
        offset[row] = (parts.means[row, one] - parts.means[row, other]) * root
        start = _start(row)
        for column in range(row + UNIT):
            merged[start + column] += offset[row] * offset[column]
    return share


@borrowing
def between(start: float, end: float, share: float) -> float:
    """``start + share (end − start)``, as `torch.lerp` rounds it."""
    step = end - start
    return start + share * step if share < 0.5 else end - step * (1 - share)


@borrowing
def log_determinant(packed: Array, reduced: Array, lead: Array, size: int) -> float:
    """Log determinant of a covariance over its first `size` coordinates; `reduced` and `lead` are space to work in."""
    end = np.uint64(size)
    for entry in range(_start(end)):
        reduced[entry] = packed[entry]
    total, product = 0.0, 1.0
    for column in range(end):
        place = _start(column) + column
        pivot = max(reduced[place], ROUNDING * packed[place], 1e-300)
        product *= pivot
        # one logarithm for several pivots, where their product is far from overflow
        if not 1e-8 < product < 1e8:
            total, product = total + math.log(product), 1.0
        # one after another, so that the compiler vectorises the loop below
        for row in range(column + UNIT, end):
            lead[row] = reduced[_start(row) + column]
        for row in range(column + UNIT, end):
            start, part = _start(row), lead[row] / pivot
            for other in range(column + UNIT, row + UNIT):
                reduced[start + other] -= part * lead[other]
    return total + math.log(product)


@borrowing
def _start(row: Any) -> Any:
    """The place of a row's first entry. Places have no sign: one that may be negative is looked at each time."""
    return row * (row + UNIT) >> UNIT


@borrowing
def row_costs(parts: Parts, one: int, start: int, count: int, row: Row) -> None:
    """Fill the costs of merging one component with each from `start` to `count`, itself and some more among them.

    They are over the leading coordinates.
    """
    size, known, cost = min(len(parts.offset), LEADING), parts.leading, row.cost
    weight, weights = parts.weights[one], parts.weights
    own = weight * known[one]
    first, end = np.uint64(start // TOGETHER), np.uint64((count + TOGETHER - 1) // TOGETHER)
    first, end = first * np.uint64(TOGETHER), end * np.uint64(TOGETHER)
    moderate = abs(known[one]) < MODERATE
    if moderate and size == 2:
        _add_logs_of_two(parts, one, first, end, math.exp(-known[one]), cost)
    elif moderate and size == 4:
        _add_logs_of_four(parts, one, first, end, math.exp(-known[one]), cost)
    else:
        _join_row(parts, one, size, first, end, row)
        _eliminate(row, first, end, size)
        for other in range(first, end):
            cost[other] = 0.0
        for column in range(size):
            for other in range(first, end):
                cost[other] += logarithm(row.variances[column, other])
    beside = known[one] if moderate and (size == 2 or size == 4) else 0.0
    for other in range(first, end):
        value = (weight + weights[other]) * (cost[other] + beside)
        cost[other] = 0.5 * (value - (own + weights[other] * known[other]))


@fusing
def _add_logs_of_two(
    parts: Parts, one: int, first: np.uint64, end: np.uint64, scale: float, cost: Array
) -> None:
    """As `_join_row` and `_eliminate` in two coordinates: logs of the determinants by `scale`, in one loop."""
    weights, means, covariances = parts.weights, parts.means, parts.covariances
    weight, x, y = weights[one], means[0, one], means[1, one]
    c0, c1, c2 = covariances[0, one], covariances[1, one], covariances[2, one]
    for other in range(first, end):
        share = weight / max(weight + weights[other], 1e-300)
        root = share * (1 - share)
        dx, dy = x - means[0, other], y - means[1, other]
        m0 = between(covariances[0, other], c0, share) + root * dx * dx
        m1 = between(covariances[1, other], c1, share) + root * dx * dy
        m2 = between(covariances[2, other], c2, share) + root * dy * dy
        m0 = _pivot(m0, m0)
        cost[other] = logarithm(scale * m0 * _pivot(m2 - m1 * m1 / m0, m2))


@fusing
def _add_logs_of_four(
    parts: Parts, one: int, first: np.uint64, end: np.uint64, scale: float, cost: Array
) -> None:
    """The same in four coordinates."""
    weights, means, covariances = parts.weights, parts.means, parts.covariances
    weight, x, y, z, t = weights[one], means[0, one], means[1, one], means[2, one], means[3, one]
    c0, c1, c2, c3, c4 = (
        covariances[0, one], covariances[1, one], covariances[2, one], covariances[3, one], covariances[4, one],
    )  # fmt: skip
    c5, c6, c7, c8, c9 = (
        covariances[5, one], covariances[6, one], covariances[7, one], covariances[8, one], covariances[9, one],
    )  # fmt: skip
    for other in range(first, end):
        share = weight / max(weight + weights[other], 1e-300)
        root = share * (1 - share)
        dx, dy, dz, dt = x - means[0, other], y - means[1, other], z - means[2, other], t - means[3, other]
        m0 = between(covariances[0, other], c0, share) + root * dx * dx
        m1 = between(covariances[1, other], c1, share) + root * dx * dy
        m2 = between(covariances[2, other], c2, share) + root * dy * dy
        m3 = between(covariances[3, other], c3, share) + root * dx * dz
        m4 = between(covariances[4, other], c4, share) + root * dy * dz
        m5 = between(covariances[5, other], c5, share) + root * dz * dz
        m6 = between(covariances[6, other], c6, share) + root * dx * dt
        m7 = between(covariances[7, other], c7, share) + root * dy * dt
        m8 = between(covariances[8, other], c8, share) + root * dz * dt
        m9 = between(covariances[9, other], c9, share) + root * dt * dt
        m0 = _pivot(m0, m0)
        over = 1 / m0
        y1, z1, t1 = m1 * over, m3 * over, m6 * over
        m4, m7, m8 = m4 - z1 * m1, m7 - t1 * m1, m8 - t1 * m3
        second = _pivot(m2 - y1 * m1, m2)
        over = 1 / second
        z2, t2 = m4 * over, m7 * over
        m8 -= t2 * m4
        third = _pivot(m5 - z1 * m3 - z2 * m4, m5)
        last = _pivot(m9 - t1 * m6 - t2 * m7 - m8 * m8 / third, m9)
        cost[other] = logarithm(scale * m0 * second * third * last)


@borrowing
def _pivot(value: float, variance: float) -> float:
    least = ROUNDING * variance
    value = least if value < least else value
    return 1e-300 if value < 1e-300 else value


@borrowing
def _join_row(parts: Parts, one: int, size: int, first: np.uint64, end: np.uint64, row: Row) -> None:
    """As `joined`, for all pairs of one component and the first `size` coordinates."""
    share, root, weight, weights = row.share, row.root, parts.weights[one], parts.weights
    means, covariances, offsets, merged = parts.means, parts.covariances, row.offsets, row.merged
    for other in range(first, end):
        share[other] = weight / max(weight + weights[other], 1e-300)
        root[other] = math.sqrt(share[other] * (1 - share[other]))
    entry = 0
    for i in range(size):
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
