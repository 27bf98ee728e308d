"""Blocks of cells for `native_joint_smoothing`.

Cells are taken a block at a time, one number of each in a row, so that the compiler vectorises the loops. Cells with
too low a bound leave their block as soon as that is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_density import BLOCK

WHOLE = 8  # a loop over a multiple of it has no rest that is not vectorised
FEW_DEAD = 4  # cells that may as well stay in a block


class Cells(NamedTuple):
    """Space for ``M`` cells."""

    places: Array  # (M, 2) centres
    halves: Array  # (M, 2) half widths
    masses: Array  # (M,) of the smoothed density, relative to a constant
    bounds: Array  # (M,) that the masses cannot exceed
    changes: Array  # (M, 2) variance of the log density along each axis


class Block(NamedTuple):
    """Space for a block of cells; all are ``(BLOCK,)``."""

    cells: NDArray[np.int64]
    x: Array  # centres
    y: Array
    wide: Array  # standard deviation over the cell along each axis
    high: Array
    area: Array
    total: Array  # smoothed density, relative to the height
    bound: Array
    one: Array  # variance of the log along the axes
    other: Array
    residual: Array  # of one observation, in its deviations and without its sign
    reach: Array  # by how much the residual may be smaller within the cell
    along: Array
    across: Array


@inner
def new_cells(most: int) -> Cells:
    """Space for so many cells."""
    return Cells(
        np.empty((most, 2)), np.empty((most, 2)), np.empty(most), np.empty(most), np.empty((most, 2))
    )


@inner
def new_cell_block() -> Block:
    """Space for a block of cells."""
    return Block(
        np.zeros(BLOCK, np.int64),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.ones(BLOCK),
        np.ones(BLOCK),
        np.ones(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
    )


@borrowing
def whole(some: int) -> int:
    """How many cells of a block a loop takes that is for `some` of them; the others are old ones."""
    return (some + WHOLE - 1) // WHOLE * WHOLE


@borrowing
def start(some: int, one: Array, other: Array) -> None:
    for p in range(whole(some)):
        one[p] = other[p] = 0.0


@borrowing
def alive(some: int, least: float, block: Block, cells: Cells) -> int:
    """Take the cells with too low a bound out of a block; returns how many are left."""
    dead = 0
    for p in range(some):
        dead += block.bound[p] * block.area[p] < least
    if dead <= FEW_DEAD and dead < some:
        return some
    p = 0
    while p < some:
        # not the negation, so that what is not a number stays
        if block.bound[p] * block.area[p] < least:
            some -= 1
            _put_dead(p, block, cells)
            _copy(some, p, block)
        else:
            p += 1
    return some


@borrowing
def _put_dead(p: int, block: Block, cells: Cells) -> None:
    c = block.cells[p]
    cells.masses[c], cells.bounds[c] = 0.0, block.area[p] * block.bound[p]
    cells.changes[c, 0], cells.changes[c, 1] = block.one[p], block.other[p]


@borrowing
def _copy(p: int, to: int, block: Block) -> None:
    block.cells[to], block.x[to], block.y[to] = block.cells[p], block.x[p], block.y[p]
    block.wide[to], block.high[to], block.area[to] = block.wide[p], block.high[p], block.area[p]
    block.total[to], block.bound[to] = block.total[p], block.bound[p]
    block.one[to], block.other[to] = block.one[p], block.other[p]


@borrowing
def put_block(some: int, block: Block, cells: Cells) -> None:
    """Take the numbers of the cells that are left in a block."""
    for p in range(some):
        c = block.cells[p]
        # contradictions, smoothed one by one, have more mass together than there can be
        total = block.bound[p] if block.total[p] > block.bound[p] else block.total[p]
        cells.masses[c], cells.bounds[c] = block.area[p] * total, block.area[p] * block.bound[p]
        cells.changes[c, 0], cells.changes[c, 1] = block.one[p], block.other[p]
