"""Fit of a mixture to the cells of a posterior, improved at its own nodes, for `native_joint_quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.update.joint.native_joint_densities import DensitySpace
from beliefstream.inference.update.joint.native_joint_nodes import (
    Rule,
    divergence,
    fill_far,
    fill_lacking,
    place_nodes,
)
from beliefstream.inference.update.joint.native_joint_parts import (
    Mixture,
    Points,
    Work,
    add,
    divide,
    improve,
    move,
)
from beliefstream.inference.update.native_cell_densities import Prior

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
    left = Points(points.x, points.y, residual, points.spread, points.log)
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
