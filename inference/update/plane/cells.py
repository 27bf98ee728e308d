"""Cells that hold all of a posterior in the plane but a bounded rest, for `several_observations`.

A cell keeps three numbers: its mass with prior and likelihood smoothed over it, how much their log changes, and a bound
that its mass cannot exceed. A cell is dropped by its bound only. Each observation is smoothed on its own, so that the
mass of a wide cell is far too low where several sharp ones meet, and too high where they contradict each other.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.mixtures.native import borrowing, fusing
from beliefstream.inference.mixtures.native_density import BLOCK
from beliefstream.inference.update.plane.densities import Prior, Problem, first_cells
from beliefstream.inference.update.plane.smoothing import CORNER, Block, Cells, put_block, smooth

MOST_ROUNDS = 40
MOST_LOST = 1e-3  # share that dropped cells may have, before they are divided again with a lower limit
# log of the prior's density in a cell, relative to its highest, that says where the mass may be
LIKELY = -12.0
SELDOM = 1e-3  # of the share of a dropped cell: one with less, by the prior alone, is not evaluated


class CellLimits(NamedTuple):
    """When a cell is done."""

    change: float  # largest variance of the log density along an axis of a cell
    dropped: float  # share of the mass; a cell with a smaller bound is dropped
    rough: float  # a cell with a smaller bound may stay coarse
    coarse: float  # share that all coarse cells may have together


@borrowing
def divide_plane(
    problem: Problem, limits: CellLimits, space: tuple[Cells, Cells], done: Cells, block: Block
) -> tuple[int, float]:
    """Fill the cells of one problem; how many, −1 if there is no space for them or they never get small enough.

    Also the share that dropped cells may have at most.
    """
    count, lost, total = _divided(problem, limits, math.inf, space, done, block)
    # wide cells may have had too much mass, beside which others were dropped
    if count > 0 and lost > MOST_LOST * total:
        count, lost, total = _divided(problem, limits, total, space, done, block)
    return count, lost / total if count > 0 else math.inf


@borrowing
def _divided(
    problem: Problem, limits: CellLimits, most: float, space: tuple[Cells, Cells], done: Cells, block: Block
) -> tuple[int, float, float]:
    """As `divide_plane`, with bounds relative to a mass that is `most` at most; also the masses dropped and left.

    Cells that change little are done. Only their children are evaluated, until there are none.
    """
    now, then = space
    count, lost = _first(problem, limits, most, now, block)
    rough, finished, held = limits.rough, 0, 0.0
    for _ in range(MOST_ROUNDS):
        total = held + _mass(now, count)
        if not 0 < total < math.inf:
            break
        mass = min(total, most)
        least = limits.dropped * mass, rough * mass
        count, finished, added, dropped = _divide(now, count, least, limits.change, then, done, finished)
        if count < 0:
            break
        now, then, held, lost = then, now, held + added, lost + dropped
        if count > 0:
            _evaluate(problem, now, 0, count, least[0], block)
            continue
        finished, held, dropped, coarse = _without(done, finished, least[0], limits.change)
        lost += dropped
        if not coarse > limits.coarse * mass:
            return finished, lost, held
        rough /= 4
        count, finished, held = _again(done, finished, rough * mass, limits.change, now)
    return -1, lost, 0.0


@borrowing
def _first(
    problem: Problem, limits: CellLimits, most: float, cells: Cells, block: Block
) -> tuple[int, float]:
    """Fill and evaluate the first cells, without those that the prior rules out; how many, and the mass left out."""
    count = first_cells(cells.places, cells.halves)
    _fill_prior(problem.prior, cells, count)
    # where the prior is high: beside their mass, others may have none
    some = _above(0, LIKELY, cells, count)
    _evaluate(problem, cells, 0, some, 0.0, block)
    total, left, seldom = _mass(cells, some), count, 0.0
    if 0 < total < math.inf:
        area = cells.halves[0, 0] * cells.halves[0, 1] * len(problem.prior.peaks)
        seldom = SELDOM * limits.dropped * min(total, most)
        left = some + _above(some, math.log(seldom / area), cells, count)
    _evaluate(problem, cells, some, left, seldom / SELDOM, block)
    return left, (count - left) * seldom


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
    """Put the cells whose bounds are not below the `least` first, from a place on; returns how many."""
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
def _mass(cells: Cells, count: int) -> float:
    total = 0.0
    for c in range(count):
        total += cells.masses[c]
    return total


@borrowing
def _evaluate(problem: Problem, cells: Cells, start: int, end: int, least: float, block: Block) -> None:
    """Evaluate cells; one has no mass as soon as its bound is below the `least`."""
    some, spread = 0, 1 / CORNER
    for c in range(start, end):
        wide, high = cells.halves[c, 0], cells.halves[c, 1]
        block.cells[some], block.area[some] = c, wide * high
        block.x[some], block.y[some] = cells.places[c, 0], cells.places[c, 1]
        block.wide[some], block.high[some] = spread * wide, spread * high
        some += 1
        if some == BLOCK or c == end - 1:
            put_block(smooth(problem, some, least, block, cells), block, cells)
            some = 0


@borrowing
def _divide(
    cells: Cells,
    count: int,
    least: tuple[float, float],
    change: float,
    into: Cells,
    done: Cells,
    finished: int,
) -> tuple[int, int, float, float]:
    """Drop cells without mass, halve the others along the axes along which they change, and put those that do not.

    `least` are the bounds below which a cell is dropped, and may stay coarse. Returns how many there are after it, −1
    if there is no space, how many are done, the masses of those that are new there, and the bounds of those dropped.
    """
    n, most, held, dropped = 0, len(into.masses), 0.0, 0.0
    for c in range(count):
        bound = cells.bounds[c]
        # negated, so that what is not a number is kept
        if bound < least[0]:
            dropped += bound
            continue
        if n + finished + 4 > most:
            return -1, finished, held, dropped
        rows = 2 if cells.changes[c, 0] > change and not bound < least[1] else 1
        columns = 2 if cells.changes[c, 1] > change and not bound < least[1] else 1
        if rows * columns == 1:
            _copy(cells, c, done, finished)
            held += cells.masses[c]
            finished += 1
            continue
        wide, high = cells.halves[c, 0] / rows, cells.halves[c, 1] / columns
        for i in range(rows):
            for j in range(columns):
                into.places[n, 0] = cells.places[c, 0] + (2 * i - rows + 1) * wide
                into.places[n, 1] = cells.places[c, 1] + (2 * j - columns + 1) * high
                into.halves[n, 0], into.halves[n, 1] = wide, high
                n += 1
    return n, finished, held, dropped


@borrowing
def _copy(cells: Cells, c: int, into: Cells, n: int) -> None:
    into.places[n, 0], into.places[n, 1] = cells.places[c, 0], cells.places[c, 1]
    into.halves[n, 0], into.halves[n, 1] = cells.halves[c, 0], cells.halves[c, 1]
    into.masses[n], into.bounds[n] = cells.masses[c], cells.bounds[c]
    into.changes[n, 0], into.changes[n, 1] = cells.changes[c, 0], cells.changes[c, 1]


@borrowing
def _without(done: Cells, count: int, least: float, change: float) -> tuple[int, float, float, float]:
    """Drop the cells that are without mass beside the others.

    Returns how many are left, their mass, and the bounds of those dropped and of the coarse ones.
    """
    left, held, dropped, coarse = 0, 0.0, 0.0, 0.0
    for c in range(count):
        bound = done.bounds[c]
        if bound < least:
            dropped += bound
            continue
        if done.changes[c, 0] > change or done.changes[c, 1] > change:
            coarse += bound
        held += done.masses[c]
        _copy(done, c, done, left)
        left += 1
    return left, held, dropped, coarse


@borrowing
def _again(done: Cells, count: int, rough: float, change: float, into: Cells) -> tuple[int, int, float]:
    """Take the coarse cells with large bounds out; how many they are, how many are left, and the mass of these."""
    n, left, held = 0, 0, 0.0
    for c in range(count):
        if not done.bounds[c] < rough and (done.changes[c, 0] > change or done.changes[c, 1] > change):
            _copy(done, c, into, n)
            n += 1
            continue
        held += done.masses[c]
        _copy(done, c, done, left)
        left += 1
    return n, left, held
