"""Blocks of cells, and the heights of their densities, for `native_joint_smoothing`.

Cells are taken a block at a time, one number of each in a row, so that the compiler vectorises the loops. Cells with
too low a bound leave their block as soon as that is known.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import LOG_WIDE, Array, Seen, log_sum
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_density import BLOCK

UNBOUNDED = 1e150


class Heights(NamedTuple):
    """Of each observation of one problem: a log likelihood that it is below, and the numbers of its two terms."""

    tops: Array  # (N,)
    inliers: Array  # (N,) log of an inlier's peak, relative to the top
    outliers: Array  # (N,) log of an outlier's


class Block(NamedTuple):
    """Space for a block of cells; all are ``(BLOCK,)``."""

    cells: NDArray[np.int64]
    x: Array
    y: Array
    xx: Array  # lower factor of the covariance over the cell
    yx: Array
    yy: Array
    area: Array
    total: Array  # smoothed density, relative to the height
    bound: Array
    one: Array  # variance of the log along the axes
    other: Array
    squared: Array  # of one observation: residual
    reach: Array  # by how much the residual may be smaller within the cell
    along: Array
    across: Array
    first: Array  # coordinates relative to the sensor
    second: Array


@inner
def new_cell_block() -> Block:
    """Space for a block of cells."""
    return Block(
        np.zeros(BLOCK, np.int64),
        np.zeros(BLOCK),
        np.zeros(BLOCK),
        np.ones(BLOCK),
        np.zeros(BLOCK),
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
        np.zeros(BLOCK),
        np.zeros(BLOCK),
    )


@borrowing
def fill_heights(seen: Seen, b: int, heights: Heights) -> None:
    """Fill the heights of a problem's observations."""
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            inlier = seen.log_inlier[b, n] - seen.constant[b, n]
            outlier = seen.log_outlier[b, n] + seen.outlier[b, n]
            if seen.kind[b, n] == LINEAR:
                outlier = seen.log_outlier[b, n] - seen.constant[b, n] - seen.rows[b, n] * LOG_WIDE
            heights.tops[n] = log_sum(inlier, outlier)
            heights.inliers[n] = inlier - heights.tops[n]
            heights.outliers[n] = max(outlier - heights.tops[n], -UNBOUNDED)


@borrowing
def start(some: int, one: Array, other: Array) -> None:
    for p in range(some):
        one[p] = other[p] = 0.0


@borrowing
def alive(some: int, least: float, block: Block) -> int:
    """Move the cells with too low a bound behind the others, whose number is returned."""
    left = 0
    for p in range(some):
        # negated, so that what is not a number stays
        if block.bound[p] * block.area[p] < least:
            continue
        if left < p:
            block.cells[left], block.cells[p] = block.cells[p], block.cells[left]
            _swap(block.x, left, p)
            _swap(block.y, left, p)
            _swap(block.xx, left, p)
            _swap(block.yx, left, p)
            _swap(block.yy, left, p)
            _swap(block.area, left, p)
            _swap(block.total, left, p)
            _swap(block.bound, left, p)
            _swap(block.one, left, p)
            _swap(block.other, left, p)
        left += 1
    return left


@borrowing
def _swap(numbers: Array, one: int, other: int) -> None:
    numbers[one], numbers[other] = numbers[other], numbers[one]
