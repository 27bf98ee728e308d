"""Nodes, strips and parts that are kept for `native_polar_quadrature`, of light ones fewer.

Half of all nodes have a thousandth of the posterior together. Among those of about the same share, which differ tenfold
at most, one stands for several: where their shares add up to the most that one of them may have. So sums over the nodes
are as good, and no node has much more weight than its own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.update.native_polar_lines import Lines, Sensor
from beliefstream.inference.update.native_polar_space import Counts, Parts, Space
from beliefstream.inference.update.native_polar_windows import Sums

Array = NDArray[np.float64]

# shares of the posterior between which one node or strip stands for several; below the last, they are left out
LIGHT_NODES = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
LIGHT_STRIPS = (1e-5, 1e-6, 1e-7)
ALIKE = 2e-4  # nats that merging two parts may lose, which are merged before all others
LEAST_VOLUME = 1e-300


@borrowing
def with_rest(counts: Counts, space: Space) -> Counts:
    """Give what is left of light nodes and strips to one that is not light, which it does not change much."""
    _add_rest(space.nodes.share, counts.nodes, LIGHT_NODES[0], space.carried[0])
    _add_rest(space.strips.share, counts.strips, LIGHT_STRIPS[0], space.carried[1])
    return counts


@borrowing
def _add_rest(shares: Array, count: int, light: float, carried: Array) -> None:
    rest = 0.0
    for level in range(len(carried)):
        rest += carried[level]
    for place in range(count - 1, -1, -1):
        if shares[place] > light:
            shares[place] += rest
            return


@borrowing
def _with_lighter(share: float, light: tuple[float, ...], carried: Array) -> float:
    """Share of a node that, if light, also stands for others as light; 0 where a later one will stand for it."""
    if not share < light[0]:
        return share
    if share < light[-1]:
        return 0.0
    level = 0
    for n in range(1, len(light) - 1):
        level += 1 if share < light[n] else 0
    found = carried[level] + share
    enough = found >= light[level]
    carried[level] = 0.0 if enough else found
    return found if enough else 0.0


@borrowing
def keep(lines: Lines, count: int, counts: Counts, space: Space) -> Counts:
    """Add the inner nodes of the first lines, of light ones as many as their share of the posterior asks for."""
    nodes, place, carried = space.nodes, counts.nodes, space.carried[0]
    if len(nodes.x) < place + count * len(lines.x):
        return Counts(counts.parts, -1, counts.strips)
    for i in range(len(lines.x)):
        for p in range(count):
            share = _with_lighter(lines.shares[i, p], LIGHT_NODES, carried)
            if share == 0:
                continue
            nodes.x[place], nodes.y[place], nodes.share[place] = lines.x[i, p], lines.y[i, p], share
            nodes.likelihood[place] = lines.off[i, p]  # to be found of this residual
            place += 1
    return Counts(counts.parts, place, counts.strips)


@borrowing
def add_strips(sensor: Sensor, count: int, counts: Counts, space: Space) -> Counts:
    """Add strips, with the covariance of places that are spread evenly over a step along the outer coordinate."""
    strips, sums, at, carried = space.strips, space.windows.lines, counts.strips, space.carried[1]
    if counts.nodes < 0:
        return counts
    for p in range(count):
        share = _with_lighter(sums[0, p], LIGHT_STRIPS, carried)
        if share == 0:
            continue
        if at == len(strips.share):
            return Counts(counts.parts, -1, at)
        found = strips.moments[at]
        fill_moments((sums[0, p], sums[1, p], sums[2, p], sums[3, p], sums[4, p], sums[5, p]), found)
        _widen(sensor, space.lines.step[p], found)
        strips.share[at] = share
        at += 1
    return Counts(counts.parts, counts.nodes, at)


@borrowing
def _widen(sensor: Sensor, step: float, found: Array) -> None:
    distance = math.sqrt(found[0] * found[0] + found[1] * found[1])
    east, north = found[0] / distance, found[1] / distance
    along = step if sensor.is_angle else sensor.value * step
    x, y = (east, north) if sensor.is_angle else (-north, east)
    added = along * along / 12
    found[2] += added * x * x
    found[3] += added * x * y
    found[4] += added * y * y


@borrowing
def fill_moments(sums: Sums, into: Array) -> None:
    """Fill mean and covariance."""
    mass, x, y, xx, xy, yy = sums
    x, y = x / mass, y / mass
    into[0], into[1] = x, y
    into[2], into[3], into[4] = xx / mass - x * x, xy / mass - x * y, yy / mass - y * y


@borrowing
def join_neighbours(parts: Parts, count: int, most: int) -> int:
    """Merge neighbouring parts of the same component until there are at most `most`; how many there are then."""
    while count > most:
        left, place = 0, 0
        while place < count:
            other = place + 1
            if other < count and parts.source[other] == parts.source[place]:
                _merge(parts, place, other)
                other += 1
            parts.share[left], parts.source[left] = parts.share[place], parts.source[place]
            for i in range(5):
                parts.moments[left, i] = parts.moments[place, i]
            left, place = left + 1, other
        if left == count:
            break
        count = left
    return count


@borrowing
def join_alike(parts: Parts, count: int) -> int:
    """Merge neighbouring parts of the same component where that loses next to nothing; how many are left.

    All parts of a component leave it the same covariance beside the plane, so that the loss is that in the plane.
    """
    left, volume = 0, _volume(parts.moments[0])
    for place in range(1, count):
        one, other, own = parts.share[left], parts.share[place], _volume(parts.moments[place])
        if parts.source[place] == parts.source[left]:
            _put_merged(parts, left, place)
            both = _volume(parts.merged)
            if (one + other) * both - one * volume - other * own < ALIKE:
                parts.share[left], volume = one + other, both
                for i in range(5):
                    parts.moments[left, i] = parts.merged[i]
                continue
        left, volume = left + 1, own
        parts.share[left], parts.source[left] = other, parts.source[place]
        for i in range(5):
            parts.moments[left, i] = parts.moments[place, i]
    return min(left + 1, count)


@borrowing
def _volume(moments: Array) -> float:
    """Half the log determinant of a covariance."""
    return 0.5 * math.log(max(moments[2] * moments[4] - moments[3] * moments[3], LEAST_VOLUME))


@borrowing
def _put_merged(parts: Parts, place: int, other: int) -> None:
    """Fill the moments of two parts together."""
    found, first, second = parts.merged, parts.moments[place], parts.moments[other]
    part = parts.share[other] / (parts.share[place] + parts.share[other])
    x, y = second[0] - first[0], second[1] - first[1]
    products = (x * x, x * y, y * y)
    for i in range(3):
        found[2 + i] = first[2 + i] + part * (second[2 + i] - first[2 + i] + (1 - part) * products[i])
    found[0], found[1] = first[0] + part * x, first[1] + part * y


@borrowing
def _merge(parts: Parts, place: int, other: int) -> None:
    """Give a part the moments of both."""
    _put_merged(parts, place, other)
    for i in range(5):
        parts.moments[place, i] = parts.merged[i]
    parts.share[place] += parts.share[other]
