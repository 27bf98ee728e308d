"""Steps with one range or bearing that bends too much for a closed form, by quadrature along the ring or the ray.

It goes on where `native_steps` leaves such a step open, with its prediction, and does as
`inference.update.curved_quadrature`. Most steps of a settled fleet that are left open end here.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_surprise import probability
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.native import inlined, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking.native_steps import Found, Given, Reported, keep, seen_of, smallest
from beliefstream.inference.update.curved_rules import MOST_TOUCHED, Limits, outside, rules
from beliefstream.inference.update.native_closed_forms import Components
from beliefstream.inference.update.native_closed_update import (
    BENT,
    EVIDENCE,
    SIZE,
    SURPRISE,
    Posed,
    move_back,
    pose,
)
from beliefstream.inference.update.native_curved_parts import Tables
from beliefstream.inference.update.native_curved_quadrature import new_room, solve_one
from beliefstream.inference.update.result import Method

Array = NDArray[np.float64]

QUADRATURE = int(Method.QUADRATURE)


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, reported, found = smallest()
    follow(given, reported, found, 1.0, 0.0)


def follow(given: Given, reported: Reported, found: Found, below: float, merge_below: float) -> None:
    """Solve steps that are `BENT`, where that loses less than `below`, nats; fills `found`."""
    if (found.method == BENT).any():
        sizes = range(1, MOST_TOUCHED + 1)
        tables = tuple(Tables(rules(size), outside(size), Limits(), merge_below) for size in sizes)
        _follow_all(given, reported, found, below, tables)


@native
def _follow_all(
    given: Given, reported: Reported, found: Found, below: float, tables: tuple[Tables, ...]
) -> None:
    start = at = 0
    for b in range(len(given.counts)):
        end = start + given.counts[b]
        bent = found.method[b] == BENT and reported.counts[b] == 1
        # without a limit for closed forms, a linear sensor with outliers is left too
        if bent and reported.table.kind[reported.sensors[at]] != LINEAR:
            prior = _prediction(found, start, end)
            posterior, loss = _followed(pose(prior, seen_of(reported, at, at + 1)), tables, found, b)
            if loss < below and keep(prior, posterior, loss, b, found):
                found.method[b] = QUADRATURE
        start = end
        at += reported.counts[b]


@inlined
def _prediction(found: Found, start: int, end: int) -> Components:
    count, size = end - start, found.means.shape[1]
    return (
        found.log_weights[start:end].reshape((1, count)),
        found.means[start:end].reshape((1, count, size)),
        found.covariances[start:end].reshape((1, count, size, size)),
    )


@inlined
def _followed(posed: Posed, tables: tuple[Tables, ...], found: Found, b: int) -> tuple[Components, float]:
    """The posterior and its divergence, which is infinite where it must not be used; fills the numbers of `found`."""
    prior, seen, most = posed.prior, posed.seen, found.posterior[0].shape[1]
    (count, size), loss, left, numbers = prior[1].shape[1:], math.inf, 0, found.numbers[b]
    axes = np.nonzero(posed.frame.touched[0])[0]
    posterior = (np.empty((1, most)), np.empty((1, most, size)), np.empty((1, most, size, size)))
    if 0 < len(axes) <= len(tables):
        table = tables[len(axes) - 1]
        room = new_room(count, size, len(axes), seen.matrix.shape[2], most, table)
        into = (posterior[0][0], posterior[1][0], posterior[2][0])
        left, numbers[EVIDENCE], loss = solve_one(
            Numbers(prior[0], prior[1], prior[2]), seen, 0, axes, table, room, into
        )
    answer = (posterior[0][:, :left], posterior[1][:, :left], posterior[2][:, :left])
    move_back(answer, posed.frame)
    numbers[SURPRISE] = probability(prior[0][0], posed.predicted.distance[0], posed.predicted.rows[0])
    numbers[SIZE] = math.exp(-2 * loss)
    return answer, loss
