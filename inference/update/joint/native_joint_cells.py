"""Cells that hold all of a posterior in the plane but a bounded rest, for `native_joint_quadrature`.

A cell keeps three numbers: its mass with prior and likelihood smoothed over it, how much their log changes, and a bound
that its mass cannot exceed. A cell is dropped by its bound only. Each observation is smoothed on its own, so that the
mass of a wide cell is far too low where several sharp ones meet, and too high where they contradict each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.mixtures.native import borrowing, fusing
from beliefstream.inference.mixtures.native_density import BLOCK
from beliefstream.inference.update.joint.native_joint_blocks import Block, Cells, put_block
from beliefstream.inference.update.joint.native_joint_frame import Framed
from beliefstream.inference.update.joint.native_joint_smoothing import smooth
from beliefstream.inference.update.native_cell_densities import Prior
from beliefstream.inference.update.native_cell_points import first_cells

MOST_ROUNDS = 40
MOST_LOST = 1e-3  # share that dropped cells may have, before they are divided again with a lower limit
SPREAD = 1 / math.sqrt(3)  # standard deviation over a cell, in half widths
LIKELY = (
    -12.0
)  # log of the prior's density in a cell, relative to its highest, that says where the mass may be
SELDOM = 1e-3  # of the share of a dropped cell: one with less, by the prior alone, is not evaluated


class CellLimits(NamedTuple):
    """When a cell is done."""

    change: float  # largest variance of the log density along an axis of a cell
    dropped: float  # share of the mass; a cell with a smaller bound is dropped
    rough: float  # a cell with a smaller bound may stay coarse
    coarse: float  # share that all coarse cells may have together


class Problem(NamedTuple):
    """One problem in its frame."""

    prior: Prior
    framed: Framed
    number: int  # of observations


@borrowing
def divide_plane(
    problem: Problem, limits: CellLimits, now: Cells, then: Cells, block: Block
) -> tuple[int, int, float]:
    """Number of cells of one problem, −1 if there is no space for more or they never get small enough.

    Also how often `now` and `then` were exchanged, and the share that dropped cells may have at most.
    """
    count, rounds, lost, total = _divided(problem, limits, math.inf, now, then, block)
    # wide cells may have had too much mass, beside which others were dropped
    if count > 0 and lost > MOST_LOST * total:
        count, rounds, lost, total = _divided(problem, limits, total, now, then, block)
    return count, rounds, lost / total if count > 0 else math.inf


@borrowing
def _divided(
    problem: Problem, limits: CellLimits, most: float, now: Cells, then: Cells, block: Block
) -> tuple[int, int, float, float]:
    """As `divide_plane`, with bounds relative to a mass that is `most` at most; also the masses dropped and left."""
    count, total, lost = _first(problem, limits, most, now, block)
    rough, rounds = limits.rough, 0
    for _ in range(MOST_ROUNDS):
        total = _evaluate(problem, now, count, limits.dropped * min(total, most), block)
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
def _first(
    problem: Problem, limits: CellLimits, most: float, cells: Cells, block: Block
) -> tuple[int, float, float]:
    """Fill the first cells, without those that the prior rules out; how many, their mass yet, and that left out.

    The mass is that of the cells where the prior is high, which are evaluated.
    """
    count = first_cells(cells.places, cells.halves, cells.fresh)
    _fill_prior(problem.prior, cells, count)
    some = _above(0, LIKELY, cells, count)
    total = _evaluate(problem, cells, some, 0.0, block)
    if not 0 < total < math.inf:
        return count, 0.0, 0.0
    area = cells.halves[0, 0] * cells.halves[0, 1] * len(problem.prior.peaks)
    seldom = SELDOM * limits.dropped * min(total, most)
    left = some + _above(some, math.log(seldom / area), cells, count)
    return left, total, (count - left) * seldom


@fusing
def _fill_prior(prior: Prior, cells: Cells, count: int) -> None:
    """Fill the highest log density of any component of a prior in each cell, as the bound of the cell."""
    for c in range(count):
        cells.bounds[c] = -math.inf
    for k in range(len(prior.peaks)):
        mean, precise, peak = prior.means[k], prior.precisions[k], prior.peaks[k]
        east, north, p0, p1, p2 = mean[0], mean[1], precise[0], precise[1], precise[2]
        first, second = math.sqrt(p0), math.sqrt(p2)
        for c in range(count):
            dx, dy = cells.places[c, 0] - east, cells.places[c, 1] - north
            off = math.sqrt(max(p0 * dx * dx + 2 * p1 * dx * dy + p2 * dy * dy, 0.0))
            off = max(off - first * cells.halves[c, 0] - second * cells.halves[c, 1], 0.0)
            cells.bounds[c] = max(cells.bounds[c], peak - 0.5 * off * off)


@borrowing
def _above(start: int, least: float, cells: Cells, count: int) -> int:
    """Put the fresh cells whose bounds are not below the `least` first, from a place on; returns how many."""
    left = start
    for c in range(start, count):
        # negated, so that what is not a number stays
        if not cells.bounds[c] < least:
            for i in range(2):
                place = cells.places[c, i]
                cells.places[c, i], cells.places[left, i] = cells.places[left, i], place
            cells.bounds[c], cells.bounds[left] = cells.bounds[left], cells.bounds[c]
            left += 1
    return left - start


@borrowing
def _evaluate(problem: Problem, cells: Cells, count: int, least: float, block: Block) -> float:
    """Evaluate the fresh cells; returns the mass of all. A cell has none as soon as its bound is below the `least`."""
    some, total = 0, 0.0
    for c in range(count):
        if cells.fresh[c]:
            cells.fresh[c] = False
            wide, high = cells.halves[c, 0], cells.halves[c, 1]
            block.cells[some], block.area[some] = c, wide * high
            block.x[some], block.y[some] = cells.places[c, 0], cells.places[c, 1]
            block.wide[some], block.high[some] = SPREAD * wide, SPREAD * high
            some += 1
            if some == BLOCK:
                _evaluate_block(problem, some, least, block, cells)
                some = 0
    if some > 0:
        _evaluate_block(problem, some, least, block, cells)
    for c in range(count):
        total += cells.masses[c]
    return total


@borrowing
def _evaluate_block(problem: Problem, some: int, least: float, block: Block, cells: Cells) -> None:
    prior, framed, number = problem
    put_block(smooth(framed, number, prior, some, least, block, cells), block, cells)


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
