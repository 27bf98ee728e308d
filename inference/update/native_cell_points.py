"""Cells in the plane as points with their exact densities, for the processor; see `native_subdivision`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.update.native_cell_densities import Prior, density

Frame = tuple[float, float, float, float, float]  # a place, and a lower factor: x, y, xx, yx, yy

LEVELS = 4  # of the first cells, which are the same for all problems: 16 × 16
REACH = 24.0  # half the side that they cover, in standard deviations of the prior
HALVINGS = 40  # of the interval in which a threshold lies
TURN, OTHER_TURN = (
    0.7548776662466927,
    0.5698402909980532,
)  # of points within cells: the plane's additive recurrence


class Cells(NamedTuple):
    """Space for ``M`` cells."""

    places: Array  # (M, 2) centres
    halves: Array  # (M, 2) half widths
    masses: Array  # (M,) of the smoothed density, relative to a constant
    changes: Array  # (M, 2) variance of the log density along each axis
    fresh: NDArray[np.bool_]  # (M,) not evaluated yet


@borrowing
def first_cells(places: Array, halves: Array) -> int:
    """Fill the first cells, in the order of a subdivision; how many there are."""
    side = 1 << LEVELS
    half = REACH / side
    for c in range(side * side):
        row, column = 0, 0
        for level in range(LEVELS):
            row |= ((c >> (2 * level + 1)) & 1) << level
            column |= ((c >> (2 * level)) & 1) << level
        places[c, 0], places[c, 1] = half * (2 * row + 1) - REACH, half * (2 * column + 1) - REACH
        halves[c, 0] = halves[c, 1] = half
    return side * side


@borrowing
def weigh_centres(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    cells: Cells,
    count: int,
    numbers: tuple[float, float, float],
    shares: Array,
) -> tuple[float, float]:
    """Fill each cell's share of the mass, by the density at its centre; returns the log evidence.

    Coarse cells keep the smoothed density. Also returns the entropy that this adds, in nats: about half the log of one
    plus the variance of the log density over such a cell.
    """
    x, y, xx, yx, yy = frame
    _, unit, change = numbers
    total, height = 0.0, unit - math.log(4 * xx * yy)
    for c in range(count):
        shares[c] = cells.masses[c]
        if cells.changes[c, 0] <= change and cells.changes[c, 1] <= change:
            u, v = cells.places[c, 0], cells.places[c, 1]
            log = density(seen, b, prior, x + xx * u, y + yx * u + yy * v)
            shares[c] = math.exp(log - height) * cells.halves[c, 0] * cells.halves[c, 1]
        total += shares[c]
    added = 0.0
    for c in range(count):
        shares[c] /= total
        if cells.changes[c, 0] > change or cells.changes[c, 1] > change:
            added += 0.5 * shares[c] * math.log1p(cells.changes[c, 0] + cells.changes[c, 1])
    return unit + math.log(total), added


@borrowing
def choose(shares: Array, count: int, most: int, start: float, chosen: NDArray[np.int64], kept: Array) -> int:
    """Fill a systematic sample of at most `most` cells, and the probability of each; returns their number.

    Cells with shares above a threshold are all kept; the others in proportion to their shares. Then a kept cell stands
    for its share over its probability (P. Fearnhead, P. Clifford, "On-line inference for hidden Markov models via
    particle filters", J. Royal Statistical Society B 65(4), 2003).
    """
    low, high = 0.0, 1.0 if count > most else 0.0
    for _ in range(HALVINGS if count > most else 0):
        middle, total = 0.5 * (low + high), 0.0
        for c in range(count):
            total += min(1.0, shares[c] / middle)
        if total > most:
            low = middle
        else:
            high = middle
    n, before = 0, start
    for c in range(count):
        probability = min(1.0, shares[c] / high) if high > 0 else 1.0
        before += probability
        if before >= 1 and n < most:
            before -= 1
            chosen[n], kept[n] = c, probability
            n += 1
    return n


@borrowing
def put_centres(
    b: int,
    frame: Frame,
    cells: Cells,
    chosen: NDArray[np.int64],
    kept: Array,
    count: int,
    shares: Array,
    into: tuple[Array, Array, Array],
) -> None:
    """Fill the centres of the chosen cells, their shares, and the covariances of points within them."""
    centres, masses, spreads = into
    x, y, xx, yx, yy = frame
    total = 0.0
    for i in range(count):
        total += shares[chosen[i]] / kept[i]
    for i in range(count):
        c = chosen[i]
        u, v = cells.places[c, 0], cells.places[c, 1]
        centres[b, i, 0], centres[b, i, 1] = x + xx * u, y + yx * u + yy * v
        masses[b, i] = shares[c] / kept[i] / total
        one, other = cells.halves[c, 0] ** 2 / 3, cells.halves[c, 1] ** 2 / 3
        spreads[b, i, 0], spreads[b, i, 1] = xx * xx * one, xx * yx * one
        spreads[b, i, 2] = yx * yx * one + yy * yy * other


@borrowing
def put_points(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    cells: Cells,
    numbers: tuple[float, float, float],
    chosen: NDArray[np.int64],
    kept: Array,
    count: int,
    into: tuple[Array, Array, Array],
) -> None:
    """Fill two opposite points within each chosen cell, their log densities, and those of drawing them."""
    points, targets, proposals = into
    x, y, xx, yx, yy = frame
    _, unit, change = numbers
    area = math.log(4 * xx * yy)
    for i in range(count):
        c = chosen[i]
        du = (2 * ((0.5 + i * TURN) % 1.0) - 1) * cells.halves[c, 0]
        dv = (2 * ((0.5 + i * OTHER_TURN) % 1.0) - 1) * cells.halves[c, 1]
        size = area + math.log(cells.halves[c, 0] * cells.halves[c, 1])
        resolved = cells.changes[c, 0] <= change and cells.changes[c, 1] <= change
        for side in range(2):
            place = 2 * i + side
            u, v = cells.places[c, 0] + (1 - 2 * side) * du, cells.places[c, 1] + (1 - 2 * side) * dv
            points[b, place, 0], points[b, place, 1] = x + xx * u, y + yx * u + yy * v
            if resolved:
                targets[b, place] = density(seen, b, prior, points[b, place, 0], points[b, place, 1])
            else:
                targets[b, place] = unit + math.log(cells.masses[c]) - size
            proposals[b, place] = math.log(2 * kept[i]) - size - math.log(len(proposals[b]))
