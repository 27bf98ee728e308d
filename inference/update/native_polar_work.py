"""Space and tables of `native_polar_quadrature`, and what it gathers for a fit."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_density import BLOCK, sum_plane
from beliefstream.inference.mixtures.native_fitting import Points
from beliefstream.inference.mixtures.reduction import Room, new_room
from beliefstream.inference.update.native_curved_quadrature import first_of
from beliefstream.inference.update.native_measured import Measured
from beliefstream.inference.update.native_polar_answers import AnswerSpace, Plane, new_answer_space
from beliefstream.inference.update.native_polar_lines import Rule
from beliefstream.inference.update.native_polar_parts import LIGHTEST_OUTLIER, likelihood
from beliefstream.inference.update.native_polar_space import (
    MOST_NODES,
    MOST_STRIPS,
    MOST_WINDOWS,
    Counts,
    Nodes,
    Rules,
    Sight,
    Space,
    Strips,
    new_space,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]

PANEL, CHECK, LINE = 4, 3, 5  # nodes of a panel, of its check, and of a line
OUTSIDE = 4  # nodes along each axis of a component times an outlier
MOST_PARTS = 128  # that are reduced to an answer
WITHIN = 0.25  # of a component's covariance is around each place that stands for it
BETWEEN = math.sqrt(1 - WITHIN)


class Outside(NamedTuple):
    """Nodes of a component times an outlier."""

    steps: Array  # (P, 2)
    weights: Array  # (P,)


class Tables(NamedTuple):
    """What is the same for all problems."""

    rules: Rules
    outside: Outside
    most: int  # components of an answer
    merge_below: float
    wide: tuple[float, float]  # share of the variance that a wide component may add, and its largest weight


class Gathered(NamedTuple):
    """Strips and nodes of ``B`` problems in the touched coordinates, one problem after another."""

    places: Places  # (B, 3) of strips: the first, the end of those of an inlier, and the end; no strips where it failed
    node_places: Places  # (B, 2) of nodes: the first, and the end
    uncertain: Array  # (B,) share of the posterior
    inlier: Array  # (B,) share of the posterior, as that of all strips
    strips: Points  # their means, shares of the posterior, and covariances
    nodes: Measured


class Work(NamedTuple):
    """Space for one problem."""

    plane: Plane
    nodes: Space
    moments: Array  # (K, 5) of the prior in the plane
    parts: Numbers  # over the whole state
    answer: AnswerSpace
    seen: Array  # (J, 5) moments of an answer in the plane
    room: Room


def new_gathered(batch: int) -> Gathered:
    """Space for problems; what is not used of it takes no memory."""
    strips, nodes = batch * MOST_STRIPS, batch * MOST_NODES
    return Gathered(
        np.zeros((batch, 3), np.int64),
        np.zeros((batch, 2), np.int64),
        np.ones(batch),
        np.zeros(batch),
        Points(np.empty((strips, 2)), np.empty(strips), np.empty((strips, 3))),
        Measured(np.empty((nodes, 2)), np.empty(nodes), np.empty(nodes)),
    )


@lru_cache(maxsize=8)
def tables_of(most: int, merge_below: float, wider: float, prior_share: float) -> Tables:
    panel, check = np.polynomial.legendre.leggauss(PANEL), np.polynomial.legendre.leggauss(CHECK)
    steps, weights = rule(LINE, 1)
    peak = Rule(np.zeros(1), np.ones(1))
    outside, outside_weights = rule(OUTSIDE, 2)
    across = Rule(np.ascontiguousarray(steps[:, 0].numpy()), weights.numpy())
    return Tables(
        Rules(*panel, *check, across, peak),
        Outside(np.ascontiguousarray(outside.numpy()), outside_weights.numpy()),
        most,
        merge_below,
        (wider, prior_share),
    )


@inner
def new_work(count: int, size: int, tables: Tables) -> Work:
    places, most = count * (MOST_WINDOWS + 1), max(tables.most, 1)
    few = min(places, MOST_PARTS + count)
    return Work(
        Plane(np.empty((2, size)), np.empty(2), np.empty((2, 2)), np.empty(2, np.int64)),
        new_space(count, len(tables.rules.inner.steps)),
        np.empty((count, 5)),
        Numbers(np.empty((1, few)), np.empty((1, few, size)), np.empty((1, few, size, size))),
        new_answer_space(count, most, size),
        np.empty((most, 5)),
        new_room(few, size),
    )


@borrowing
def add_outliers(
    sight: Sight, prior: Numbers, b: int, count: int, rough: float, tables: Tables, counts: Counts, work: Work
) -> Counts:
    """Add parts, nodes and strips of components times an outlier, which leaves them as they are."""
    if not sight.log_outlier > -math.inf:
        return counts
    space, parts, place = work.nodes, counts.parts, counts.nodes
    nodes, strips, at = space.nodes, space.strips, counts.strips
    for k in range(count):
        whole, moments = math.exp(prior.log_weights[b, k] + sight.log_outlier - rough), work.moments[k]
        if not whole > LIGHTEST_OUTLIER:
            continue
        space.parts.share[parts], space.parts.source[parts] = whole, k
        for i in range(5):
            space.parts.moments[parts, i] = moments[i]
        parts += 1
        first = math.sqrt(moments[2])
        low = moments[3] / first
        second = math.sqrt(max(moments[4] - low * low, 0.0))
        for p in range(len(tables.outside.weights)):
            share = whole * tables.outside.weights[p]
            if place == len(nodes.x) or at == len(strips.share):
                return Counts(parts, -1, at)
            x, y = (
                first * tables.outside.steps[p, 0],
                low * tables.outside.steps[p, 0] + second * tables.outside.steps[p, 1],
            )
            nodes.x[place], nodes.y[place] = moments[0] + x, moments[1] + y
            nodes.share[place] = share
            nodes.likelihood[place] = likelihood(sight, moments[0] + x, moments[1] + y)
            place += 1
            found, strips.share[at] = strips.moments[at], share
            found[0], found[1] = moments[0] + BETWEEN * x, moments[1] + BETWEEN * y
            for i in range(2, 5):
                found[i] = WITHIN * moments[i]
            at += 1
    return Counts(parts, place, at)


@borrowing
def touched_place(plane: Plane, x: float, y: float) -> tuple[float, float]:
    """A place relative to the sensor in the touched coordinates."""
    inverse, x, y = plane.inverse, x + plane.origin[0], y + plane.origin[1]
    return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


@borrowing
def touched_covariance(plane: Plane, moments: Array) -> tuple[float, float, float]:
    """The covariance in `moments` in the touched coordinates, as xx, xy, yy."""
    one, other, low, last = plane.inverse[0, 0], plane.inverse[0, 1], plane.inverse[1, 0], plane.inverse[1, 1]
    xx, xy, yy = moments[2], moments[3], moments[4]
    return (
        one * one * xx + 2 * one * other * xy + other * other * yy,
        one * low * xx + (one * last + other * low) * xy + other * last * yy,
        low * low * xx + 2 * low * last * xy + last * last * yy,
    )


@borrowing
def draw_nodes(nodes: Nodes, count: int, plane: Plane, points: Array) -> None:
    """Fill points ``(P, 2)`` in the touched coordinates, of an equal share each, from the first nodes."""
    whole = 0.0
    for p in range(count):
        whole += nodes.share[p]
    place, total = 0, 0.0
    for p in range(len(points)):
        while total < whole * (p + 0.5) / len(points) and place < count:
            total += nodes.share[place]
            place += 1
        points[p, 0], points[p, 1] = touched_place(plane, nodes.x[place - 1], nodes.y[place - 1])


@borrowing
def begin_gathered(row: int, into: Gathered) -> None:
    """Leave a row without strips and nodes, after those of the row before."""
    first, start = (into.places[row - 1, 2], into.node_places[row - 1, 1]) if row else (0, 0)
    for i in range(3):
        into.places[row, i] = first
    into.node_places[row, 0] = into.node_places[row, 1] = start


@borrowing
def put_gathered(
    prior: Numbers,
    b: int,
    row: int,
    counts: tuple[Counts, int],
    count: int,
    uncertain: float,
    work: Work,
    into: Gathered,
) -> None:
    """Fill strips and nodes in the touched coordinates, after those of the row before."""
    (found, inliers), plane, space = counts, work.plane, work.answer
    first, start = into.places[row, 0], into.node_places[row, 0]
    into.places[row, 1], into.places[row, 2] = first + inliers, first + found.strips
    into.node_places[row, 1], into.uncertain[row] = start + found.nodes, uncertain
    one, other, low, last = plane.inverse[0, 0], plane.inverse[0, 1], plane.inverse[1, 0], plane.inverse[1, 1]
    density = -math.log(abs(one * last - other * low))
    _put_strips(work.nodes.strips, inliers, found.strips, plane, first, row, into)
    nodes, whole, prior_at = work.nodes.nodes, 0.0, first_of(space.prior, count)
    for p in range(found.nodes):
        whole += nodes.share[p]
    for done in range(0, found.nodes, BLOCK):
        some = min(BLOCK, found.nodes - done)
        for p in range(some):
            x, y = nodes.x[done + p], nodes.y[done + p]
            prior_at.block.points[0, p], prior_at.block.points[1, p] = x, y
            point = into.nodes.points[start + done + p]
            point[0], point[1] = touched_place(plane, x, y)
        sum_plane(prior_at.inverse, prior_at.shift, prior_at.peaks, prior_at.block, space.before[:some])
        for p in range(some):
            into.nodes.targets[start + done + p] = space.before[p] + nodes.likelihood[done + p] + density
            into.nodes.shares[start + done + p] = nodes.share[done + p] / whole


@borrowing
def _put_strips(
    strips: Strips, inliers: int, count: int, plane: Plane, first: int, row: int, into: Gathered
) -> None:
    whole, inlier = 0.0, 0.0
    for i in range(count):
        whole += strips.share[i]
        inlier = whole if i < inliers else inlier
    into.inlier[row] = inlier / whole
    for i in range(count):
        into.strips.shares[first + i] = strips.share[i] / whole
        point, spread, moments = (
            into.strips.points[first + i],
            into.strips.spreads[first + i],
            strips.moments[i],
        )
        point[0], point[1] = touched_place(plane, moments[0], moments[1])
        spread[0], spread[1], spread[2] = touched_covariance(plane, moments)
