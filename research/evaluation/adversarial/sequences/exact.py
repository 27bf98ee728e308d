"""Exact posteriors of a run at its checkpoints.

A grid around the places of a run is filtered with every instant. Of a drifting entity it is the exact posterior. If the
entity is at rest, the posterior is soon as narrow as a cell, and the adaptive cells of `oracle.solve` are more exact.
Then the grid says when the mass moves from one place to another. It also bounds the evidence from below, which shows
whether the cells have missed a place.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from research.evaluation.adversarial.filters import Box, Filtered, walk
from research.evaluation.adversarial.likelihood import Array
from research.evaluation.adversarial.oracle import Exact, solve
from research.evaluation.adversarial.sequences.kinds import Move, Run

NEXT = 4  # updates that are checked one by one, from the one after which the exact belief has moved
_PRIOR = 5.0  # deviations of the prior that the grid of a drifting entity covers
_BEYOND = 2.0  # deviations of the longest step that it covers beyond the new place
_MARGIN = 1.5  # least that a grid covers beyond each place, metres


class Checkpoint(NamedTuple):
    """The exact posterior after so many instants."""

    after: int
    exact: Exact | Filtered


class Solution(NamedTuple):
    """The exact posteriors of a run.

    Attributes:
        checkpoints: in order of time; the last one is at the end.
        moved: for each move, the number of instants after which more than half of the exact mass is nearer to the new
            place than to the old one; None if it is there already, or if that never happens before the next move.
    """

    checkpoints: tuple[Checkpoint, ...]
    moved: tuple[int | None, ...]


def solved(run: Run, generator: np.random.Generator) -> Solution:
    """Compute the exact posteriors of a run."""
    box, cell = grid(run)
    filtered = list(walk(run.prior, run.rows, run.drift, run.times, box, cell))
    ends = [move.after for move in run.moves[1:]] + [len(filtered)]
    moved = tuple(_moved(move, filtered[:end]) for move, end in zip(run.moves, ends, strict=False))
    places = _checkpoints(run, moved)
    if run.drift:
        return Solution(tuple(Checkpoint(after, filtered[after - 1]) for after in places), moved)
    found = []
    for after in places:
        readings = [reading for row in run.rows[:after] for reading in row]
        exact = solve(run.prior, readings, generator)
        missed = filtered[after - 1].log_evidence - exact.log_evidence
        found.append(Checkpoint(after, replace(exact, error=max(exact.error, missed))))
    return Solution(tuple(found), moved)


def grid(run: Run) -> tuple[Box, float]:
    """Return the box and the cell of the grid around the places of a run.

    A drifting entity may be at any place that is as far from the old one as the new one is, so all of them are covered.
    """
    if not run.drift:
        low = np.min(run.places, 0) - _MARGIN
        high = np.max(run.places, 0) + _MARGIN
        return _box(low, high), run.precision / 4
    old, new = run.places
    step = run.drift * math.sqrt(max(np.diff(run.times)))
    reach = float(np.linalg.norm(new - old)) + max(_MARGIN, _BEYOND * step)
    spread = _PRIOR * np.sqrt(np.diagonal(run.prior.covariances[0]))
    low = np.minimum(old - reach, run.prior.means[0] - spread)
    high = np.maximum(old + reach, run.prior.means[0] + spread)
    return _box(low, high), 0.8 * min(run.drift, run.precision)


def _box(low: Array, high: Array) -> Box:
    (left, bottom), (right, top) = low.tolist(), high.tolist()
    return (left, right), (bottom, top)


def _moved(move: Move, filtered: list[Filtered]) -> int | None:
    if move.after and _is_nearer(move, filtered[move.after - 1]):
        return None
    later = range(move.after + 1, len(filtered) + 1)
    return next((after for after in later if _is_nearer(move, filtered[after - 1])), None)


def _is_nearer(move: Move, exact: Filtered) -> bool:
    """Whether more than half of the mass is nearer to the new place."""
    points, share, _ = exact.runs[0]
    old, new = (np.hypot(*(points - place[:, None])) for place in (move.old, move.new))
    return bool(share[new < old].sum() > 0.5)


def _checkpoints(run: Run, moved: tuple[int | None, ...]) -> list[int]:
    """Return after how many instants the belief is compared: each third, the changes, and where the exact one moves."""
    count = len(run.instants)
    found = {-(-count // 3), -(-2 * count // 3), count}
    for move, at in zip(run.moves, moved, strict=True):
        found.add(move.after)
        if at is not None:
            found |= {at - 1, *range(at, at + NEXT)}
    return sorted(after for after in found if 1 <= after <= count)
