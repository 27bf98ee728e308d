"""Prior × likelihood smoothed over cells in the plane, and what bounds it, for `cells`.

The bound of an observation comes from its second-order series at the centre of a cell, with a bound of the remainder.
In the sensor's plane as complex numbers, with z the offset over the distance, a bearing is ``Im log(1 + z)``, whose
further terms are at most ``Σ |z|ⁿ / n``. Those of a range, ``|1 + z|``, are at most a quarter of ``Σ |z|ⁿ``.

Cells are taken a block at a time, one number of each in a row, so that the compiler vectorises the loops. Cells with
too low a bound leave their block as soon as that is known.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_functions import SOFT
from beliefstream.inference.likelihood.native_terms import BENT, Array
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing, fusing, inner
from beliefstream.inference.mixtures.native_density import BLOCK
from beliefstream.inference.mixtures.native_exponential import (
    SMALLEST,
    UNDERFLOW,
    arctangent,
    roughly_exponential,
    within_half_a_turn,
)
from beliefstream.inference.update.plane.densities import WIDEST, Framed, Prior, Problem

CORNER = math.sqrt(3)  # half a width, in standard deviations over a cell
NEAR = 0.7  # of the distance to a sensor: the series converges slowly in a cell that is larger


@borrowing
def smooth(problem: Problem, some: int, least: float, block: Block, cells: Cells) -> int:
    """Fill density, bound and variances of the first cells of a block; returns for how many of them.

    These come first then; the others, with a mass below the `least`, are put. All masses are relative to the height.
    """
    prior, framed, number, _ = problem
    start(some, block.total, block.bound)
    start(some, block.one, block.other)
    for k in range(len(prior.peaks)):
        _add_component(prior, k, some, block)
    for p in range(whole(some)):
        each = 1 / math.sqrt(max(block.total[p], SMALLEST))
        block.one[p] *= each
        block.other[p] *= each
    for n in range(number):
        some = alive(some, least, block, cells)
        if some == 0:
            return 0
        if framed.kinds[n] == LINEAR:
            _see_linear(framed, n, some, block)
            _multiply_linear(framed.inliers[n], framed.outliers[n], framed.slopes[n], some, block)
            continue
        if framed.kinds[n] == ANGLE:
            _see_angle(framed, n, some, block)
            _bend_angle(framed, n, some, block)
        else:
            _see_range(framed, n, some, block)
        _multiply(framed.inliers[n], framed.outliers[n], some, block)
    return some


@fusing
def _add_component(prior: Prior, k: int, some: int, block: Block) -> None:
    """Add a component of the prior, smoothed, and the highest density that it has within a cell."""
    mean, broad, precise = prior.means[k], prior.covariances[k], prior.precisions[k]
    east, north, weight, peak = mean[0], mean[1], prior.log_weights[k], prior.peaks[k]
    c0, c1, c2, p0, p1, p2 = broad[0], broad[1], broad[2], precise[0], precise[1], precise[2]
    first, second = math.sqrt(p0), math.sqrt(p2)
    for p in range(whole(some)):
        dx, dy, wide, high = block.x[p] - east, block.y[p] - north, block.wide[p], block.high[p]
        xx, yy = c0 + wide * wide, c2 + high * high
        each = 1 / (xx * yy - c1 * c1)
        squared = (yy * dx * dx - 2 * c1 * dx * dy + xx * dy * dy) * each
        off = math.sqrt(max(p0 * dx * dx + 2 * p1 * dx * dy + p2 * dy * dy, 0.0))
        along, across = first * wide, second * high
        off = max(off - CORNER * (along + across), 0.0)
        found = roughly_exponential(max(weight - 0.5 * squared, UNDERFLOW)) * math.sqrt(each)
        block.bound[p] += roughly_exponential(max(peak - 0.5 * off * off, UNDERFLOW))
        block.total[p] += found
        root = math.sqrt(found)
        block.one[p] += root * along * along
        block.other[p] += root * across * across


@fusing
def _see_linear(framed: Framed, n: int, some: int, block: Block) -> None:
    one, other = framed.values[n, 0] + framed.origins[n, 0], framed.values[n, 1] + framed.origins[n, 1]
    matrix = framed.matrices[n]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    first, second = math.sqrt(m00 * m00 + m10 * m10), math.sqrt(m01 * m01 + m11 * m11)
    for p in range(whole(some)):
        x, y = block.x[p], block.y[p]
        left, right = one - m00 * x - m01 * y, other - m10 * x - m11 * y
        along, across = first * block.wide[p], second * block.high[p]
        block.residual[p] = math.sqrt(left * left + right * right)
        block.reach[p] = CORNER * (along + across)
        block.along[p], block.across[p] = along * along, across * across


@fusing
def _see_range(framed: Framed, n: int, some: int, block: Block) -> None:
    value, scale, matrix = framed.values[n, 0], framed.scales[n], framed.matrices[n]
    east, north = framed.origins[n, 0], framed.origins[n, 1]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    for p in range(whole(some)):
        x, y, wide, high = block.x[p], block.y[p], block.wide[p], block.high[p]
        first, second = m00 * x + m01 * y - east, m10 * x + m11 * y - north
        a0, b0, a1, b1 = m00 * wide, m10 * wide, m01 * high, m11 * high
        distance = math.sqrt(first * first + second * second + SOFT)
        each = 1 / distance
        s0, s1 = (a0 * first + b0 * second) * each, (a1 * first + b1 * second) * each
        block.residual[p] = abs(value - distance) * scale
        narrow = scale * each
        b00 = min((a0 * a0 + b0 * b0 - s0 * s0) * narrow, BENT)
        b01 = max(min((a0 * a1 + b0 * b1 - s0 * s1) * narrow, BENT), -BENT)
        b11 = min((a1 * a1 + b1 * b1 - s1 * s1) * narrow, BENT)
        s0, s1 = abs(s0) * scale, abs(s1) * scale
        radius = CORNER * math.sqrt(a0 * a0 + b0 * b0 + a1 * a1 + b1 * b1 + 2 * abs(a0 * a1 + b0 * b1))
        ratio = min(radius * each, NEAR)
        reach = CORNER * (s0 + s1) + 0.5 * CORNER * CORNER * (abs(b00) + 2 * abs(b01) + abs(b11))
        reach += 0.25 * ratio * ratio * ratio / (1 - ratio) * distance * scale
        block.reach[p] = radius * scale if ratio == NEAR else min(reach, radius * scale)
        block.along[p] = s0 * s0 + 0.5 * (b00 * b00 + b01 * b01)
        block.across[p] = s1 * s1 + 0.5 * (b01 * b01 + b11 * b11)


@fusing
def _see_angle(framed: Framed, n: int, some: int, block: Block) -> None:
    value, scale, matrix = framed.values[n, 0], framed.scales[n], framed.matrices[n]
    east, north, h0, h1 = (
        framed.origins[n, 0],
        framed.origins[n, 1],
        framed.headings[n, 0],
        framed.headings[n, 1],
    )
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    for p in range(whole(some)):
        x, y = block.x[p], block.y[p]
        first, second = m00 * x + m01 * y - east, m10 * x + m11 * y - north
        off = value + h0 * x + h1 * y - arctangent(second, first)
        block.residual[p] = abs(within_half_a_turn(off)) * scale


@fusing
def _bend_angle(framed: Framed, n: int, some: int, block: Block) -> None:
    scale, east, north = framed.scales[n], framed.origins[n, 0], framed.origins[n, 1]
    matrix, h0, h1 = framed.matrices[n], framed.headings[n, 0], framed.headings[n, 1]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    far = WIDEST * WIDEST * scale * scale
    for p in range(whole(some)):
        x, y, wide, high = block.x[p], block.y[p], block.wide[p], block.high[p]
        first, second = m00 * x + m01 * y - east, m10 * x + m11 * y - north
        a0, b0, a1, b1 = m00 * wide, m10 * wide, m01 * high, m11 * high
        each = 1 / (first * first + second * second + SOFT)
        t0, t1 = (b0 * first - a0 * second) * each, (b1 * first - a1 * second) * each
        l0, l1 = (a0 * first + b0 * second) * each, (a1 * first + b1 * second) * each
        b00 = max(min(-2 * l0 * t0 * scale, BENT), -BENT)
        b01 = max(min(-(l1 * t0 + l0 * t1) * scale, BENT), -BENT)
        b11 = max(min(-2 * l1 * t1 * scale, BENT), -BENT)
        s0, s1 = (t0 - h0 * wide) * scale, (t1 - h1 * high) * scale
        along, across = s0 * s0 + 0.5 * (b00 * b00 + b01 * b01), s1 * s1 + 0.5 * (b01 * b01 + b11 * b11)
        # the radius is the larger diagonal, and the distance is one over the root of `each`
        diagonal = a0 * a0 + b0 * b0 + a1 * a1 + b1 * b1 + 2 * abs(a0 * a1 + b0 * b1)
        ratio = min(CORNER * math.sqrt(diagonal * each), NEAR)
        reach = CORNER * (abs(s0) + abs(s1)) + 0.5 * CORNER * CORNER * (abs(b00) + 2 * abs(b01) + abs(b11))
        reach += ratio * ratio * ratio / (3 * (1 - ratio)) * scale
        block.reach[p] = math.inf if ratio == NEAR else reach
        # no line from here says where the beam passes
        lacking = max(block.residual[p] * block.residual[p] - along - across, 0.0)
        lacking = lacking if along + across > far else 0.0
        block.along[p], block.across[p] = along + 0.5 * lacking, across + 0.5 * lacking


@fusing
def _multiply(inlier: float, outlier: float, some: int, block: Block) -> None:
    """Multiply the likelihood of one observation in, whose outliers have the same density everywhere."""
    rest = math.exp(outlier)
    for p in range(whole(some)):
        residual, along, across = block.residual[p], block.along[p], block.across[p]
        least = max(residual - block.reach[p], 0.0)
        factor = 1 / (1 + along + across)
        likely = roughly_exponential(max(inlier - 0.5 * residual * residual * factor, UNDERFLOW))
        likely *= math.sqrt(factor)
        highest = roughly_exponential(max(inlier - 0.5 * least * least, UNDERFLOW))
        # a ridge that holds little of a cell's mass must be resolved too
        share = math.sqrt(likely / (likely + rest))
        block.bound[p] *= highest + rest
        block.total[p] *= likely + rest
        block.one[p] += share * along
        block.other[p] += share * across


@fusing
def _multiply_linear(inlier: float, outlier: float, slope: float, some: int, block: Block) -> None:
    """As `_multiply`, with outliers of a wide Gaussian."""
    for p in range(whole(some)):
        residual, along, across = block.residual[p], block.along[p], block.across[p]
        least = max(residual - block.reach[p], 0.0)
        squared, least = residual * residual, least * least
        factor = 1 / (1 + along + across)
        likely = roughly_exponential(max(inlier - 0.5 * squared * factor, UNDERFLOW)) * math.sqrt(factor)
        rest = roughly_exponential(max(outlier + slope * squared, UNDERFLOW))
        highest = roughly_exponential(max(inlier - 0.5 * least, UNDERFLOW))
        highest += roughly_exponential(max(outlier + slope * least, UNDERFLOW))
        share = math.sqrt(likely / (likely + rest))
        block.bound[p] *= highest
        block.total[p] *= likely + rest
        block.one[p] += share * along
        block.other[p] += share * across


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
    n = np.ones((13, BLOCK))
    return Block(
        np.zeros(BLOCK, np.int64), n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8], n[9], n[10], n[11], n[12]
    )  # fmt: skip


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
