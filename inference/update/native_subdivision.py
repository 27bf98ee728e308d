"""Posteriors in the plane by subdivision of cells, for the processor; see `inference.update.subdivision`.

Cells are boxes in a frame in which the prior has unit covariance. They stay in the order of their subdivision, so that
neighbours in the plane are mostly neighbours in the list, and a systematic sample of them is spread evenly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Array, Seen, smallest
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.update.native_cell_densities import Prior, first_of, highest, smoothed, take
from beliefstream.inference.update.native_cell_points import (
    Cells,
    Frame,
    choose,
    first_cells,
    put_centres,
    put_points,
    weigh_centres,
)

MOST_ROUNDS = 60
SPREAD = 1 / math.sqrt(3)  # standard deviation over a cell, in half widths


class Limits(NamedTuple):
    """When a cell is done."""

    change: float  # largest variance of the log density along an axis of a cell
    dropped: float  # share of the mass below which a cell is dropped
    rough: float  # share below which it may stay coarse
    coarse: float  # share that all coarse cells may have together
    enough: int  # cells, below which the change is made smaller
    finest: float  # the smallest change that this leads to


class Found(NamedTuple):
    """Cells of ``B`` problems as points; see `plane_cells.Cells`."""

    counts: NDArray[np.int64]  # (B,), −1 where there were too many cells
    log_evidence: Array  # (2, B), of the centres and of the smoothed density
    added: Array  # (B,) entropy that coarse cells add, nats
    centres: Array  # (B, F, 2), of a sample of the cells
    shares: Array  # (B, F)
    spreads: Array  # (B, F, 3) covariance within a cell, as xx, xy, yy
    points: Array  # (B, P, 2), two within each cell of another sample
    targets: Array  # (B, P)
    proposals: Array  # (B, P)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    seen, point, _ = smallest()
    two, pair = torch.eye(2, dtype=torch.float64), np.zeros((1, 1, 2))
    seen = seen._replace(matrix=np.ones((1, 1, 2, 2)), origin=pair, heading=pair, value=pair)
    prior = GaussianMixture(point[0].log(), point.expand(1, 1, 2), two[None, None])
    subdivide(
        seen, prior, point[0].expand(1, 2), two[None], Limits(1.0, 1e-3, 1e-2, 1.0, 1, 1.0), (512, 4, 4)
    )


def subdivide(
    seen: Seen,
    prior: GaussianMixture,
    centre: Tensor,
    factor: Tensor,
    limits: Limits,
    sizes: tuple[int, int, int],
) -> Found:
    """Subdivide the plane around `centre` ``(B, 2)`` in the frame `factor` ``(B, 2, 2)``.

    `sizes` are the most cells, and the sizes of the two samples of them.
    """
    batch, (most, some, others) = prior.batch, sizes
    found = Found(
        np.empty(batch, np.int64),
        np.zeros((2, batch)),
        np.zeros(batch),
        np.zeros((batch, some, 2)),
        np.zeros((batch, some)),
        np.zeros((batch, some, 3)),
        np.zeros((batch, others, 2)),
        np.full((batch, others), -math.inf),
        np.zeros((batch, others)),
    )
    _subdivide(seen, numbers_of(prior), array(centre), array(factor), limits, most, found)
    return found


@native
def _subdivide(
    seen: Seen, mixtures: Numbers, centre: Array, factor: Array, limits: Limits, most: int, found: Found
) -> None:
    count = mixtures.log_weights.shape[1]
    now, then = _cells(most), _cells(most)
    space = Prior(
        np.empty(count), np.empty(count), np.empty((count, 2)), np.empty((count, 3)), np.empty((count, 3))
    )
    shares, chosen, kept = np.empty(most), np.empty(most, np.int64), np.empty(most)
    for b in range(len(centre)):
        prior = first_of(space, take(mixtures, b, space))
        frame = (centre[b, 0], centre[b, 1], factor[b, 0, 0], factor[b, 1, 0], factor[b, 1, 1])
        number, rounds, numbers = _divided(seen, b, prior, frame, limits, now, then)
        cells = now if rounds % 2 == 0 else then
        found.counts[b] = number
        if number <= 0:
            continue
        found.log_evidence[1, b] = numbers[0]
        evidence, added = weigh_centres(seen, b, prior, frame, cells, number, numbers, shares)
        found.log_evidence[0, b], found.added[b] = evidence, added
        some = choose(shares, number, found.centres.shape[1], 0.25, chosen, kept)
        centres = found.centres, found.shares, found.spreads
        put_centres(b, frame, cells, chosen, kept, some, shares, centres)
        some = choose(shares, number, found.points.shape[1] // 2, 0.75, chosen, kept)
        into = found.points, found.targets, found.proposals
        put_points(seen, b, prior, frame, cells, numbers, chosen, kept, some, into)


@inner
def _cells(most: int) -> Cells:
    return Cells(
        np.empty((most, 2)),
        np.empty((most, 2)),
        np.empty(most),
        np.empty((most, 2)),
        np.empty(most, np.bool_),
    )


@borrowing
def _divided(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    limits: Limits,
    now: Cells,
    then: Cells,
) -> tuple[int, int, tuple[float, float, float]]:
    """Number of cells of one problem, −1 if there is no space for more or they never get small enough.

    Also how often `now` and `then` were exchanged; and the log evidence, the log of the unit of the masses, and the
    change that a cell may have.
    """
    # masses are relative to a constant, which they cannot exceed by much
    unit = highest(seen, b, prior) + math.log(4 * frame[2] * frame[4])
    count, change, rough = first_cells(now.places, now.halves), limits.change, limits.rough
    for c in range(count):
        now.fresh[c] = True
    rounds = 0
    for _ in range(MOST_ROUNDS):
        total = _evaluate(seen, b, prior, frame, now, count)
        if not 0 < total < math.inf:
            break
        least = limits.dropped * total, rough * total
        number, divided, coarse = _divide(now, count, least, change, then)
        if number < 0:
            break
        if not divided and coarse > limits.coarse * total:
            rough /= 4
        elif not divided and number < limits.enough and change > limits.finest:
            change /= 2
        else:
            now, then, count, rounds = then, now, number, rounds + 1
            if not divided:
                return count, rounds, (unit + math.log(total), unit, change)
    return -1, 0, (math.nan, unit, change)


@borrowing
def _evaluate(seen: Seen, b: int, prior: Prior, frame: Frame, cells: Cells, count: int) -> float:
    """Evaluate the fresh cells; returns the mass of all."""
    x, y, xx, yx, yy = frame
    total = 0.0
    for c in range(count):
        if cells.fresh[c]:
            cells.fresh[c] = False
            u, v = cells.places[c, 0], cells.places[c, 1]
            hu, hv = cells.halves[c, 0], cells.halves[c, 1]
            f = (SPREAD * hu * xx, 0.0, SPREAD * hu * yx, SPREAD * hv * yy)
            found, one, other = smoothed(seen, b, prior, x + xx * u, y + yx * u + yy * v, f)
            cells.masses[c], cells.changes[c, 0], cells.changes[c, 1] = hu * hv * found, one, other
        total += cells.masses[c]
    return total


@borrowing
def _divide(
    cells: Cells, count: int, least: tuple[float, float], change: float, into: Cells
) -> tuple[int, bool, float]:
    """Drop cells without mass, and halve the others along the axes along which they change.

    `least` are the masses below which a cell is dropped, and may stay coarse. Returns their number, −1 if there is no
    space, whether any was halved, and the mass of the coarse ones.
    """
    n, divided, most, rest = 0, False, len(into.masses), 0.0
    for c in range(count):
        if not cells.masses[c] >= least[0]:
            continue
        if n + 4 > most:
            return -1, False, rest
        coarse = cells.masses[c] < least[1]
        if coarse and (cells.changes[c, 0] > change or cells.changes[c, 1] > change):
            rest += cells.masses[c]
        rows = 2 if cells.changes[c, 0] > change and not coarse else 1
        columns = 2 if cells.changes[c, 1] > change and not coarse else 1
        for i in range(rows):
            for j in range(columns):
                hu, hv = cells.halves[c, 0] / rows, cells.halves[c, 1] / columns
                into.places[n, 0] = cells.places[c, 0] + (2 * i - rows + 1) * hu
                into.places[n, 1] = cells.places[c, 1] + (2 * j - columns + 1) * hv
                into.halves[n, 0], into.halves[n, 1] = hu, hv
                into.masses[n] = cells.masses[c]
                into.changes[n, 0], into.changes[n, 1] = cells.changes[c, 0], cells.changes[c, 1]
                into.fresh[n] = rows * columns > 1
                n += 1
        divided = divided or rows * columns > 1
    return n, divided, rest
