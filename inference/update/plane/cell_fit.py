"""Quadrature of a posterior at the nodes of a mixture near it, for `cartesian`.

A density p is the sum of its shares ``p q_j / Σ q`` of the components of a mixture q. Each share is the component q_j
times p / q, which changes little over it where q is near p. So a few nodes of a Gauss–Hermite rule in the frame of q_j
give its mass, mean and covariance, and all of them the evidence.

A mixture is fitted to the cells first (`mixture_fit`). Its nodes improve it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import adding, borrowing, inner
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.update.plane.densities import DensitySpace, Prior, fill_density
from beliefstream.inference.update.plane.mixture_fit import (
    Mixture,
    Points,
    Work,
    add,
    divide,
    fill_logs,
    improve,
    log_density,
    move,
    prepare_forms,
)

FAR = 12.0  # nats below a density, where a mixture has nothing that could move there

Rule = tuple[Array, Array]  # nodes (M, 2) of a standard Gaussian, and the logs of their weights (M,)


@inner
def place_nodes(
    seen: Seen,
    b: int,
    prior: Prior,
    mixture: Mixture,
    components: int,
    rule: Rule,
    points: Points,
    work: Work,
    answer: Array,
    space: DensitySpace,
) -> tuple[int, float]:
    """Fill the nodes of a mixture, with their shares of the posterior, and its sums by component.

    Returns how many nodes there are, and the log evidence.
    """
    steps, log_shares = rule
    each = len(steps)
    prepare_forms(mixture, components)
    for k in range(components):
        _, one, low, two = mixture.forms[k, 0], mixture.forms[k, 1], mixture.forms[k, 2], mixture.forms[k, 3]
        for i in range(each):
            # the inverse of a lower factor
            dx = steps[i, 0] / one
            points.x[k * each + i] = mixture.moments[k, 0] + dx
            points.y[k * each + i] = mixture.moments[k, 1] + (steps[i, 1] - low * dx) / two
    count = components * each
    fill_logs(mixture, components, points, count, work)
    log_density(components, count, work, answer)
    fill_density(seen, b, prior, points.x, points.y, count, space, points.log)
    highest = -math.inf
    for p in range(count):
        points.share[p] = points.log[p] - answer[p] + mixture.log_weights[p // each] + log_shares[p % each]
        highest = max(highest, points.share[p])
    if not -math.inf < highest < math.inf:
        return count, -math.inf
    total = 0.0
    for p in range(count):
        points.share[p] = exponential(max(points.share[p] - highest, UNDERFLOW))
        total += points.share[p]
    for p in range(count):
        points.share[p] /= total
    for k in range(components):
        _fill_sums(points, k * each, each, work.sums[k])
    return count, highest + math.log(total)


@adding
def _fill_sums(points: Points, start: int, count: int, sums: Array) -> None:
    mass = x = y = xx = xy = yy = 0.0
    for p in range(start, start + count):
        share, east, north = points.share[p], points.x[p], points.y[p]
        mass += share
        x += share * east
        y += share * north
        xx += share * east * east
        xy += share * east * north
        yy += share * north * north
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = mass, x, y, xx, xy, yy


@borrowing
def divergence(
    mixture: Mixture,
    components: int,
    points: Points,
    count: int,
    log_evidence: float,
    apart: float,
    work: Work,
    answer: Array,
) -> float:
    """KL(exact ‖ mixture) over points with shares, nats; `apart` is the error of the log evidence.

    Of two sums, the smaller: one has no negative terms, but a point that stands for too large a cell counts too much.
    """
    one, other = divergences(mixture, components, points, count, log_evidence, work, answer)
    # a divergence below zero is an error of the sum, and the error may as well be of the other sign
    other = abs(other) + apart
    # negated, so that what is not a number is left
    return one if not other < one else other


@borrowing
def divergences(
    mixture: Mixture,
    components: int,
    points: Points,
    count: int,
    log_evidence: float,
    work: Work,
    answer: Array,
) -> tuple[float, float]:
    """Two sums over points with shares that are KL(exact ‖ mixture), nats, where the points are wherever both are.

    With q the mixture and p the exact density, their terms are q / p - 1 - log(q / p) and -log(q / p).
    """
    prepare_forms(mixture, components)
    fill_logs(mixture, components, points, count, work)
    log_density(components, count, work, answer)
    return _add_ratios(points.share, points.log, log_evidence, answer, count)


@adding
def _add_ratios(
    share: Array, log: Array, log_evidence: float, answer: Array, count: int
) -> tuple[float, float]:
    one = other = 0.0
    for p in range(count):
        ratio = answer[p] - (log[p] - log_evidence)
        one += share[p] * (exponential(min(max(ratio, UNDERFLOW), -UNDERFLOW)) - 1 - ratio)
        other -= share[p] * ratio
    return one, other


@adding
def fill_lacking(points: Points, count: int, log_evidence: float, answer: Array, into: Array) -> float:
    """Fill the share of each point that a mixture with these log densities lacks; their sum."""
    total = 0.0
    for p in range(count):
        ratio = answer[p] - (points.log[p] - log_evidence)
        into[p] = points.share[p] * (1 - exponential(max(min(ratio, 0.0), UNDERFLOW)))
        total += into[p]
    return total


@adding
def fill_far(
    points: Points, count: int, log_evidence: float, answer: Array, into: Array
) -> tuple[float, float]:
    """As `fill_lacking`, of the points that are far from all of a mixture; also the divergence that they cause."""
    total = caused = 0.0
    for p in range(count):
        ratio = answer[p] - (points.log[p] - log_evidence)
        into[p] = points.share[p] if ratio < -FAR else 0.0
        total += into[p]
        caused -= into[p] * ratio
    return total, caused


FEW = 3  # components that have more nodes each


class Limits(NamedTuple):
    """When a fit is good enough."""

    components: int  # the most
    gain: float  # nats, that a division of the cells gains at least
    again: float  # nats, the same for what a mixture lacks
    steps: int  # of expectation-maximisation on the cells, after each addition
    additions: int  # how often components are added at most
    added: int  # how many at once at most
    rounds: int  # the most quadratures
    enough: float  # nats, below which a divergence is small enough


@inner
def fit_cells(
    seen: Seen,
    b: int,
    prior: Prior,
    points: Points,
    count: int,
    evidence: float,
    limits: Limits,
    nodes: tuple[Rule, Rule],
    mixture: Mixture,
    space: tuple[Points, Mixture, Work, Array, Array, DensitySpace],
) -> tuple[int, int, float, float, float]:
    """Fit a mixture, with more components where it lacks mass.

    Returns how many components and nodes there are, the log evidence, and the divergence over nodes and cells.
    """
    others, rest, work, answer, residual, densities = space
    components, good = divide(points, count, limits.components, limits.gain, work, mixture), False
    some, log, one, other = 0, -math.inf, math.inf, math.inf
    for addition in range(limits.additions + 1):
        for _ in range(limits.steps if addition > 0 else 0):
            components = improve(points, count, components, mixture, work, answer)
        for _ in range(limits.rounds if addition == limits.additions else 1):
            rule = nodes[0] if components <= FEW else nodes[1]
            some, log = place_nodes(
                seen, b, prior, mixture, components, rule, others, work, answer, densities
            )
            if not log > -math.inf:
                return 0, 0, log, one, other
            components = move(work.sums, components, mixture)
            one, other = _measured(
                mixture, components, others, some, log, points, count, evidence, work, answer
            )
            good = max(one, other) < limits.enough
            if good:
                break
        if good:
            break
        if addition < limits.additions:
            components = _extended(
                points, count, evidence, limits, mixture, components, rest, work, answer, residual
            )
    # once more at the nodes of the answer itself, and more of them: sums over few are some hundredths off
    some, log = place_nodes(seen, b, prior, mixture, components, nodes[0], others, work, answer, densities)
    if not log > -math.inf:
        return 0, 0, log, one, other
    one, other = _measured(mixture, components, others, some, log, points, count, evidence, work, answer)
    return components, some, log, one, other


@borrowing
def _measured(
    mixture: Mixture,
    components: int,
    others: Points,
    some: int,
    log: float,
    points: Points,
    count: int,
    evidence: float,
    work: Work,
    answer: Array,
) -> tuple[float, float]:
    """The divergence over the nodes and over the cells, with their log evidence; `answer` is then at the cells."""
    apart = abs(log - evidence)
    one = divergence(mixture, components, others, some, log, apart, work, answer)
    other = divergence(mixture, components, points, count, evidence, apart, work, answer)
    return one, other


@borrowing
def _extended(
    points: Points,
    count: int,
    evidence: float,
    limits: Limits,
    mixture: Mixture,
    components: int,
    rest: Mixture,
    work: Work,
    answer: Array,
    residual: Array,
) -> int:
    """Add components where a mixture, with these log densities at the points, lacks mass; how many there are then."""
    left = Points(points.x, points.y, residual, points.spread, points.cell, points.log)
    share, caused = fill_far(points, count, evidence, answer, residual)
    if caused > 0.5 * limits.enough and components < limits.components:
        more = divide(left, count, min(limits.added, limits.components - components), 0.0, work, rest)
        # the densities at the points remain what they were
        components = add(mixture, components, rest, more, share)
    room = min(limits.added, limits.components - components)
    share = fill_lacking(points, count, evidence, answer, residual)
    if caused < 0.5 * limits.enough and room > 0 and 0 < share < 1:
        more = divide(left, count, room, limits.again, work, rest)
        components = add(mixture, components, rest, more, share)
    return components
