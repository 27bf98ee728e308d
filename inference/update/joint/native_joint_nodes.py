"""Quadrature of a posterior at the nodes of a mixture near it, for `native_joint_quadrature`.

A density p is the sum of its shares ``p q_j / Σ q`` of the components of a mixture q. Each share is the component q_j
times p / q, which changes little over it where q is near p. So a few nodes of a Gauss–Hermite rule in the frame of q_j
give its mass, mean and covariance, and all of them the evidence.
"""

from __future__ import annotations

import math

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import adding, borrowing, inner
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.update.joint.native_joint_densities import DensitySpace, fill_density
from beliefstream.inference.update.joint.native_joint_parts import (
    Mixture,
    Points,
    Work,
    fill_logs,
    log_density,
    prepare_forms,
)
from beliefstream.inference.update.native_cell_densities import Prior

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
    prepare_forms(mixture, components)
    fill_logs(mixture, components, points, count, work)
    log_density(components, count, work, answer)
    one, other = _add_ratios(points.share, points.log, log_evidence, answer, count)
    # a divergence below zero is an error of the sum, and the error may as well be of the other sign
    other = abs(other) + apart
    # negated, so that what is not a number is left
    return one if not other < one else other


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
