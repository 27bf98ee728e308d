"""Cells that hold all of a posterior in the plane but a bounded rest, for `native_joint_quadrature`.

A cell keeps three numbers: its mass with prior and likelihood smoothed over it, how much their log changes, and a bound
that its mass cannot exceed. A cell is dropped by its bound only. Each observation is smoothed on its own, so that the
mass of a wide cell is far too low where several sharp ones meet, and too high where they contradict each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_density import BLOCK
from beliefstream.inference.update.joint.native_joint_blocks import Block, Heights
from beliefstream.inference.update.joint.native_joint_smoothing import smooth
from beliefstream.inference.update.native_cell_densities import Prior
from beliefstream.inference.update.native_cell_points import Frame, first_cells

MOST_ROUNDS = 40
MOST_LOST = 1e-3  # share that dropped cells may have, before they are divided again with a lower limit
SPREAD = 1 / math.sqrt(3)  # standard deviation over a cell, in half widths


class CellLimits(NamedTuple):
    """When a cell is done."""

    change: float  # largest variance of the log density along an axis of a cell
    dropped: float  # share of the mass; a cell with a smaller bound is dropped
    rough: float  # a cell with a smaller bound may stay coarse
    coarse: float  # share that all coarse cells may have together


class Cells(NamedTuple):
    """Space for ``M`` cells."""

    places: Array  # (M, 2) centres
    halves: Array  # (M, 2) half widths
    masses: Array  # (M,) of the smoothed density, relative to a constant
    bounds: Array  # (M,) that the masses cannot exceed
    changes: Array  # (M, 2) variance of the log density along each axis
    fresh: NDArray[np.bool_]  # (M,) not evaluated yet


@inner
def new_cells(most: int) -> Cells:
    """Space for so many cells."""
    return Cells(
        np.empty((most, 2)),
        np.empty((most, 2)),
        np.empty(most),
        np.empty(most),
        np.empty((most, 2)),
        np.empty(most, np.bool_),
    )


@borrowing
def divide_plane(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    heights: Heights,
    limits: CellLimits,
    now: Cells,
    then: Cells,
    block: Block,
) -> tuple[int, int, float]:
    """Number of cells of one problem, −1 if there is no space for more or they never get small enough.

    Also how often `now` and `then` were exchanged, and the share that dropped cells may have at most.
    """
    count, rounds, lost, total = _divided(seen, b, prior, frame, heights, limits, math.inf, now, then, block)
    # wide cells may have had too much mass, beside which others were dropped
    if count > 0 and lost > MOST_LOST * total:
        count, rounds, lost, total = _divided(seen, b, prior, frame, heights, limits, total, now, then, block)
    return count, rounds, lost / total if count > 0 else math.inf


@borrowing
def _divided(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    heights: Heights,
    limits: CellLimits,
    most: float,
    now: Cells,
    then: Cells,
    block: Block,
) -> tuple[int, int, float, float]:
    """As `divide_plane`, with bounds relative to a mass that is `most` at most; also the masses dropped and left."""
    count = first_cells(now.places, now.halves, now.fresh)
    rough, rounds, lost, total = limits.rough, 0, 0.0, 0.0
    for _ in range(MOST_ROUNDS):
        total = _evaluate(
            seen, b, prior, frame, heights, now, count, limits.dropped * min(total, most), block
        )
        if not 0 < total < math.inf:
            break
        mass = min(total, most)
        least = limits.dropped * mass, rough * mass
        number, divided, dropped, coarse = _divide(now, count, least, limits.change, then)
        if number < 0:
            break
        if not divided and coarse > limits.coarse * mass:
            rough /= 4
            continue
        lost += dropped
        now, then, count, rounds = then, now, number, rounds + 1
        if not divided:
            return count, rounds, lost, total
    return -1, 0, lost, total


@borrowing
def _evaluate(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    heights: Heights,
    cells: Cells,
    count: int,
    least: float,
    block: Block,
) -> float:
    """Evaluate the fresh cells; returns the mass of all. A cell has none as soon as its bound is below the `least`."""
    x, y, xx, yx, yy = frame
    some, total = 0, 0.0
    for c in range(count):
        if cells.fresh[c]:
            cells.fresh[c] = False
            u, v, hu, hv = cells.places[c, 0], cells.places[c, 1], cells.halves[c, 0], cells.halves[c, 1]
            block.cells[some], block.area[some] = c, hu * hv
            block.x[some], block.y[some] = x + xx * u, y + yx * u + yy * v
            block.xx[some], block.yx[some], block.yy[some] = (
                SPREAD * hu * xx,
                SPREAD * hu * yx,
                SPREAD * hv * yy,
            )
            some += 1
            if some == BLOCK:
                _put(some, smooth(seen, b, prior, heights, some, least, block), block, cells)
                some = 0
    if some > 0:
        _put(some, smooth(seen, b, prior, heights, some, least, block), block, cells)
    for c in range(count):
        total += cells.masses[c]
    return total


@borrowing
def _put(some: int, alive: int, block: Block, cells: Cells) -> None:
    """Take the numbers of a block's cells; those that are not `alive` have no mass."""
    for p in range(some):
        c = block.cells[p]
        # contradictions, smoothed one by one, have more mass together than there can be
        total = block.bound[p] if block.total[p] > block.bound[p] else block.total[p]
        cells.masses[c] = block.area[p] * total if p < alive else 0.0
        cells.bounds[c] = block.area[p] * block.bound[p]
        cells.changes[c, 0], cells.changes[c, 1] = block.one[p], block.other[p]


@borrowing
def _divide(
    cells: Cells, count: int, least: tuple[float, float], change: float, into: Cells
) -> tuple[int, bool, float, float]:
    """Drop cells without mass, and halve the others along the axes along which they change.

    `least` are the bounds below which a cell is dropped, and may stay coarse. Returns their number, −1 if there is no
    space, whether any was halved, and the bounds of those dropped and of the coarse ones.
    """
    n, divided, most, dropped, rest = 0, False, len(into.masses), 0.0, 0.0
    for c in range(count):
        bound = cells.bounds[c]
        # negated, so that what is not a number is kept
        if bound < least[0]:
            dropped += bound
            continue
        if n + 4 > most:
            return -1, False, dropped, rest
        coarse, one, other = bound < least[1], cells.changes[c, 0], cells.changes[c, 1]
        if coarse and (one > change or other > change):
            rest += bound
        rows = 2 if one > change and not coarse else 1
        columns = 2 if other > change and not coarse else 1
        for i in range(rows):
            for j in range(columns):
                hu, hv = cells.halves[c, 0] / rows, cells.halves[c, 1] / columns
                into.places[n, 0] = cells.places[c, 0] + (2 * i - rows + 1) * hu
                into.places[n, 1] = cells.places[c, 1] + (2 * j - columns + 1) * hv
                into.halves[n, 0], into.halves[n, 1] = hu, hv
                into.masses[n], into.bounds[n] = cells.masses[c], bound
                into.changes[n, 0], into.changes[n, 1] = one, other
                into.fresh[n] = rows * columns > 1
                n += 1
        divided = divided or rows * columns > 1
    return n, divided, dropped, rest
