"""Parts and nodes of one posterior, for `native_curved_quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen, log_sum
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_product
from beliefstream.inference.update.curved_rules import Limits, Rule
from beliefstream.inference.update.native_curved_frame import Frame, Sensor, fill_frame, new_frame, sensor_at
from beliefstream.inference.update.native_curved_nodes import (
    Nodes,
    line_through,
    moments,
    new_nodes,
    place_nodes,
    residual,
    share_out,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]

LIGHT = 1e-9  # share below which a part does not count


class Parts(NamedTuple):
    """Parts of one posterior over the whole state, not normalised."""

    log_weights: Array  # (J,)
    means: Array  # (J, D)
    covariances: Array  # (J, D, D)


class Kept(NamedTuple):
    """Nodes of all parts of one posterior, in the seen coordinates."""

    points: Array  # (d, P)
    log_share: Array  # (P,), not normalised
    likelihood: Array  # (P,), log


class Checks(NamedTuple):
    """Of each component: log masses by the rule and its check, and the divergence between their moments."""

    mass: Array  # (K,)
    other: Array
    apart: Array
    missed: Array  # log of the most that the nodes may miss


class Tables(NamedTuple):
    """What is the same for all problems."""

    rules: tuple[tuple[Rule, Rule], ...]
    outside: tuple[Array, Array]
    limits: Limits
    merge_below: float


class Work(NamedTuple):
    """Space for the parts of one problem."""

    frame: Frame
    nodes: Nodes
    kept: Kept
    parts: Parts
    checks: Checks
    vectors: tuple[Array, Array]  # means in a frame, (d,)
    squares: tuple[Array, Array, Array, Array]  # covariances in a frame, and space, (d, d)
    across: Array  # (D, d), space


@inner
def new_work(count: int, size: int, seen: int, rows: int, tables: Tables) -> Work:
    """Space for priors of `count` components."""
    widest, each = 0, 0
    for number in range(len(tables.rules)):
        rule = tables.rules[number][0]
        widest = max(widest, len(rule.parts))
        each = max(each, len(rule.across) * len(rule.along))
    places, nodes = count * (widest + 1), count * (each + len(tables.outside[0]))
    kept, numbers, squares = np.empty((2, nodes)), np.empty((4, count)), np.empty((4, seen, seen))
    vectors = np.empty((2, seen))
    return Work(
        new_frame(seen, size, rows),
        new_nodes(seen, each),
        Kept(np.empty((seen, nodes)), kept[0], kept[1]),
        Parts(np.empty(places), np.empty((places, size)), np.empty((places, size, size))),
        Checks(numbers[0], numbers[1], numbers[2], numbers[3]),
        (vectors[0], vectors[1]),
        (squares[0], squares[1], squares[2], squares[3]),
        np.empty((size, seen)),
    )


@borrowing
def collect(
    prior: Numbers,
    seen: Seen,
    b: int,
    axes: Places,
    tables: Tables,
    work: Work,
) -> tuple[int, int]:
    """Fill parts and nodes of all components; how many, or none where the observation bends too much."""
    n, at, limits, checks = 0, (0, 0), tables.limits, work.checks
    while not seen.mask[b, n]:
        n += 1
    inlier, outlier = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n] + seen.outlier[b, n]
    for k in range(prior.means.shape[1]):
        logs = (prior.log_weights[b, k], inlier, outlier)
        checks.mass[k] = checks.other[k] = -math.inf
        checks.apart[k], checks.missed[k] = 0.0, logs[0] + inlier
        if not logs[0] > limits.lightest:
            continue
        sensor = sensor_at(prior, b, k, seen, n)
        bend, away, spread, off = fill_frame(prior, b, k, seen, n, axes, sensor, work.frame)
        # negated, so that what is not a number is left
        if not (bend < limits.bends[2] and away > limits.away and spread > 0):
            return 0, 0
        checks.missed[k] -= 0.5 * away * away
        if not _is_outlier(off, spread, bend, inlier, outlier, limits):
            uncertain = (
                spread * sensor.deviation > limits.angle or abs(off) * sensor.deviation > limits.turned
            )
            if sensor.is_angle and uncertain:
                return 0, 0
            rule, check = tables.rules[0 if bend < limits.bends[0] else 1 if bend < limits.bends[1] else 2]
            at = _add_inlier(sensor, rule, check, axes, prior.means[b, k], k, logs, at, work)
        if outlier > -math.inf:
            at = _add_outlier(sensor, tables.outside, axes, prior, (b, k), logs, at, work)
    return at


@borrowing
def _is_outlier(
    off: float, spread: float, bend: float, inlier: float, outlier: float, limits: Limits
) -> bool:
    """Whether the residual is too large for an inlier, wherever a component has mass."""
    least = abs(off) - limits.reach * spread - 0.5 * limits.reach * limits.reach * bend
    return least > 0 and inlier - 0.5 * least * least < outlier - limits.negligible


@borrowing
def _add_inlier(
    sensor: Sensor,
    rule: Rule,
    check: Rule,
    axes: Places,
    mean: Array,
    k: int,
    logs: tuple[float, float, float],
    at: tuple[int, int],
    work: Work,
) -> tuple[int, int]:
    """Add the parts and the nodes of a component times an inlier; how many there are then."""
    some, checks, frame, each, (parts, nodes) = work.nodes, work.checks, work.frame, len(rule.along), at
    count = place_nodes(sensor, frame, check, some)
    checks.other[k] = logs[0] + logs[1] + share_out(some, count)
    moments(some, some.share, count, work.vectors[1], work.squares[1])
    count = place_nodes(sensor, frame, rule, some)
    checks.mass[k] = logs[0] + logs[1] + share_out(some, count)
    moments(some, some.share, count, work.vectors[0], work.squares[0])
    checks.apart[k] = _apart(work)
    for j in range(len(rule.parts)):
        total = 1.0
        if len(rule.parts) > 1:
            for p in range(count):
                some.part[p] = some.share[p] * rule.parts[j, p // each]
            total = moments(some, some.part, count, work.vectors[0], work.squares[0])
        if total > LIGHT:
            _extend(mean, work, parts)
            work.parts.log_weights[parts] = checks.mass[k] + math.log(total)
            parts += 1
    for p in range(count):
        _keep(mean, axes, p, nodes, work)
        work.kept.log_share[nodes] = logs[0] + logs[1] + some.logs[p]
        work.kept.likelihood[nodes] = log_sum(logs[1] - 0.5 * some.squared[p], logs[2])
        nodes += 1
    return parts, nodes


@borrowing
def _keep(mean: Array, axes: Places, p: int, place: int, work: Work) -> None:
    """Put a node of a component among those of all, in the seen coordinates."""
    for i in range(len(axes)):
        value = mean[axes[i]]
        for j in range(len(axes)):
            value += work.frame.factor[i, j] * work.nodes.places[j, p]
        work.kept.points[i, place] = value


@borrowing
def _add_outlier(
    sensor: Sensor,
    outside: tuple[Array, Array],
    axes: Places,
    prior: Numbers,
    place: tuple[int, int],
    logs: tuple[float, float, float],
    at: tuple[int, int],
    work: Work,
) -> tuple[int, int]:
    """Add a component times an outlier, which leaves it as it is, and its nodes; how many there are then."""
    (parts, nodes), (b, k), (steps, log_shares) = at, place, outside
    mean, covariance = prior.means[b, k], prior.covariances[b, k]
    work.parts.log_weights[parts] = logs[0] + logs[2]
    for i in range(len(mean)):
        work.parts.means[parts, i] = mean[i]
        for j in range(len(mean)):
            work.parts.covariances[parts, i, j] = covariance[i, j]
    for p in range(len(steps)):
        for i in range(len(axes)):
            work.nodes.places[i, 0] = steps[p, i]
        turn = line_through(sensor, work.frame, steps[:, 1:], p)
        off, _ = residual(sensor, work.frame, turn, steps[p, 0])
        _keep(mean, axes, 0, nodes, work)
        work.kept.log_share[nodes] = logs[0] + logs[2] + log_shares[p]
        work.kept.likelihood[nodes] = log_sum(logs[1] - 0.5 * off * off, logs[2])
        nodes += 1
    return parts + 1, nodes


@borrowing
def _apart(work: Work) -> float:
    """Divergence in nats from the moments of the rule to those of its check, in a component's frame."""
    first, second = work.squares[0], work.squares[1]
    size = len(first)
    factorise(first, TINY, ROUNDING, work.squares[2])
    found = 0.0
    for i in range(size):
        found += math.log(work.squares[2][i, i])
    invert_product(work.squares[2], work.frame.squares[2], work.squares[3])
    factorise(second, TINY, ROUNDING, work.squares[2])
    for i in range(size):
        found -= math.log(work.squares[2][i, i]) + 0.5
        for j in range(size):
            off = (work.vectors[1][i] - work.vectors[0][i]) * (work.vectors[1][j] - work.vectors[0][j])
            found += 0.5 * work.squares[3][i, j] * (second[i, j] + off)
    return 0.0 if found < 0 else found


@borrowing
def _extend(mean: Array, work: Work, place: int) -> None:
    """Put the moments in the frame among the parts, over the whole state."""
    whole, covariance, across = work.frame.whole, work.squares[0], work.across
    size = len(covariance)
    for i in range(len(whole)):
        value = mean[i]
        for j in range(size):
            value += whole[i, j] * work.vectors[0][j]
            across[i, j] = 0.0
            for m in range(size):
                across[i, j] += whole[i, m] * covariance[m, j]
        work.parts.means[place, i] = value
        for j in range(i + 1):
            entry = work.frame.rest[i, j]
            for m in range(size):
                entry += across[i, m] * whole[j, m]
            work.parts.covariances[place, i, j] = work.parts.covariances[place, j, i] = entry
