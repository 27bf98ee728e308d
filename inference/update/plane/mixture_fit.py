"""A mixture that fits the cells of a posterior, and then the posterior itself at its own nodes.

Cells are divided into parts: always the part for which Gaussians of both halves of its longest axis are better than one
by most, while that gains enough. A few steps of expectation-maximisation follow.

A density p is the sum of its shares ``p q_j / Σ q`` of the components of a mixture q. Each share is the component q_j
times p / q, which changes little over it where q is near p. So a few nodes of a Gauss–Hermite rule in the frame of q_j
give its mass, mean and covariance, and all of them the evidence.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, inner
from beliefstream.inference.mixtures.native_density import ROOT
from beliefstream.inference.mixtures.native_exponential import (
    LOG2_E,
    SMALLEST,
    UNDERFLOW,
    exponential,
    logarithm,
    roughly_power_of_two,
)
from beliefstream.inference.update.plane.densities import DensitySpace, Problem, fill_density

Sums = tuple[float, float, float, float, float, float]  # mass, and first and second moments

LEAST_MASS = 1e-13  # share below which a component is dropped
LEAST_SPREAD = 1e-3  # of a determinant, that a component has after one step
# of two: a component's density at a point, beside the highest peak, counts as much at least. With a point's share, of
# which less than the other counts as none, it is a normal number; others take many times as long
LEAST_POWER, FAINTEST_SHARE = -900.0, 1e-30
ROUNDING = 1e-9  # of a variance, that a pivot has at least
FEW_POINTS = 0.5  # effective points, below which a component is as wide as their cells
FEW_COMPONENTS = 3  # components that have more nodes each
ROUNDS = 3  # quadratures of the last mixture, at most
# components at once, at most; nats that a division of what a mixture lacks gains at least
ADDED, AGAIN = 3, -0.1
FAR = 12.0  # nats below a density, where a mixture has nothing that could move there


class Points(NamedTuple):
    """Weighted points in the plane.

    The spread of a point counts always, that of its cell only in a component of few points, so that no component
    shrinks to a single one.
    """

    x: Array  # (P,)
    y: Array
    share: Array
    spread: Array  # (3, P) covariance as xx, xy, yy
    cell: Array  # (3, P)
    log: Array  # log of prior × likelihood


class Mixture(NamedTuple):
    """Components in the plane."""

    log_weights: Array  # (J,)
    moments: Array  # (J, 5) mean and covariance as x, y, xx, xy, yy
    forms: Array  # (J, 4) log peak, and the inverse lower factor as one, low, two


class Sample(NamedTuple):
    """Points that stand for a density, with the log of its evidence."""

    points: Points
    number: int
    log_evidence: float


class Expectation(NamedTuple):
    """Space for steps of expectation-maximisation."""

    labels: NDArray[np.int64]  # (P,) the part of each point
    sums: Array  # (J, 10): mass, first and second moments, cells, and squared shares
    gains: Array  # (J,)
    axes: Array  # (J, 2)
    parts: Array  # (J, P) density of each component at each point
    totals: Array  # (P,)


class FitSpace(NamedTuple):
    """Space to fit a mixture to cells."""

    nodes: Points
    rest: Mixture
    work: Expectation
    logs: Array  # (P,) log density of the mixture at the cells
    lacking: Array  # (P,) share of each cell that it lacks
    densities: DensitySpace


@inner
def new_points(most: int) -> Points:
    """Space for so many points."""
    numbers, spreads = np.empty((4, most)), np.zeros((2, 3, most))
    return Points(numbers[0], numbers[1], numbers[2], spreads[0], spreads[1], numbers[3])


@inner
def new_mixture(most: int) -> Mixture:
    """Space for so many components."""
    return Mixture(np.empty(most), np.empty((most, 5)), np.empty((most, 4)))


@inner
def new_expectation(most: int, points: int) -> Expectation:
    """Space to fit so many components to so many points."""
    return Expectation(
        np.empty(points, np.int64),
        np.empty((most, 10)),
        np.empty(most),
        np.empty((most, 2)),
        np.empty((most, points)),
        np.empty(points),
    )


@borrowing
def divide(points: Points, count: int, most: int, least: float, work: Expectation, mixture: Mixture) -> int:
    """Divide the points into at most `most` parts while that gains `least` nats; fill a component for each."""
    for p in range(count):
        work.labels[p] = 0
    _measure(points, count, work, 0)
    parts = 1
    while parts < most:
        best = 0
        for k in range(1, parts):
            best = k if work.gains[k] > work.gains[best] else best
        if not work.gains[best] > least:
            break
        x, y = work.sums[best, 1] / work.sums[best, 0], work.sums[best, 2] / work.sums[best, 0]
        middle = work.axes[best, 0] * x + work.axes[best, 1] * y
        for p in range(count):
            if work.labels[p] == best:
                off = work.axes[best, 0] * points.x[p] + work.axes[best, 1] * points.y[p]
                work.labels[p] = parts if off > middle else best
        _measure(points, count, work, best)
        _measure(points, count, work, parts)
        parts += 1
    return put_sums(work.sums, parts, mixture, 0.0)


@borrowing
def _measure(points: Points, count: int, work: Expectation, k: int) -> None:
    """Fill the sums of a part, its longest axis, and what halves gain over it."""
    whole, _ = _sums_beyond(points, count, work.labels, k, 0.0, 0.0, -1.0)
    for i in range(6):
        work.sums[k, i] = whole[i]
    mass = max(whole[0], SMALLEST)
    x, y = whole[1] / mass, whole[2] / mass
    xx, xy, yy = whole[3] / mass - x * x, whole[4] / mass - x * y, whole[5] / mass - y * y
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    along, across = math.cos(angle), math.sin(angle)
    work.axes[k, 0], work.axes[k, 1] = along, across
    right, some = _sums_beyond(points, count, work.labels, k, along, across, along * x + across * y)
    left = (
        whole[0] - right[0],
        whole[1] - right[1],
        whole[2] - right[2],
        whole[3] - right[3],
        whole[4] - right[4],
        whole[5] - right[5],
    )
    work.gains[k] = cost(whole) - cost(left) - cost(right) if some > 0 else -math.inf


@adding
def _sums_beyond(
    points: Points,
    count: int,
    labels: NDArray[np.int64],
    k: int,
    along: float,
    across: float,
    least: float,
) -> tuple[Sums, int]:
    """Sums of the points of a part that are farther than `least` in one direction; also how many there are."""
    mass = x = y = xx = xy = yy = 0.0
    some = 0
    for p in range(count):
        east, north = points.x[p], points.y[p]
        inside = (labels[p] == k) & (along * east + across * north > least)
        share = points.share[p] if inside else 0.0
        some += 1 if inside else 0
        mass += share
        x += share * east
        y += share * north
        xx += share * (east * east + points.spread[0, p] + points.cell[0, p])
        xy += share * (east * north + points.spread[1, p] + points.cell[1, p])
        yy += share * (north * north + points.spread[2, p] + points.cell[2, p])
    return (mass, x, y, xx, xy, yy), some


@borrowing
def cost(sums: Sums) -> float:
    """Mass × entropy of the Gaussian with these sums, up to a constant, and of its weight."""
    mass = max(sums[0], SMALLEST)
    x, y = sums[1] / mass, sums[2] / mass
    determinant = (sums[3] / mass - x * x) * (sums[5] / mass - y * y) - (sums[4] / mass - x * y) ** 2
    return mass * (0.5 * math.log(max(determinant, SMALLEST)) - math.log(mass))


@borrowing
def put_sums(sums: Array, count: int, mixture: Mixture, least: float) -> int:
    """Fill the components with these sums, as mass and first and second moments; how many have mass.

    One whose determinant is at most the `least` part of what it was only gets its mass: nearly all of that is at one
    node.
    """
    total, left = 0.0, 0
    for k in range(count):
        total += sums[k, 0]
    for k in range(count):
        mass, before, after = sums[k, 0], mixture.moments[k], mixture.moments[left]
        if not mass > LEAST_MASS * total:
            continue
        x, y = sums[k, 1] / mass, sums[k, 2] / mass
        xx, xy, yy = sums[k, 3] / mass - x * x, sums[k, 4] / mass - x * y, sums[k, 5] / mass - y * y
        if least > 0 and not xx * yy - xy * xy > least * (before[2] * before[4] - before[3] * before[3]):
            x, y, xx, xy, yy = before[0], before[1], before[2], before[3], before[4]
        after[0], after[1], after[2], after[3], after[4] = x, y, xx, xy, yy
        mixture.log_weights[left] = math.log(mass / total)
        left += 1
    return left


@borrowing
def prepare_forms(mixture: Mixture, count: int) -> None:
    """Fill the forms of the densities."""
    for k in range(count):
        xx, xy, yy = mixture.moments[k, 2], mixture.moments[k, 3], mixture.moments[k, 4]
        first = math.sqrt(max(xx, SMALLEST))
        low = xy / first
        second = math.sqrt(max(yy - low * low, ROUNDING * yy, SMALLEST))
        forms = mixture.forms[k]
        forms[0] = mixture.log_weights[k] - LOG_TWO_PI - math.log(first * second)
        forms[1], forms[2], forms[3] = 1 / first, -low / (first * second), 1 / second


@borrowing
def fill_parts(mixture: Mixture, components: int, points: Points, count: int, work: Expectation) -> float:
    """Fill the density of each weighted component at each point, and their sum; all beside what the log of it returns.

    One that is more than `LEAST_POWER` below the highest peak counts as much.
    """
    prepare_forms(mixture, components)
    highest = -math.inf
    for k in range(components):
        highest = max(highest, mixture.forms[k, 0])
    for p in range(count):
        work.totals[p] = 0.0
    for k in range(components):
        peak = mixture.forms[k, 0] - highest
        _add_part(peak, mixture.forms[k], mixture.moments[k], points, count, work.parts[k], work.totals)
    return highest


@fusing
def _add_part(
    peak: float, form: Array, moments: Array, points: Points, count: int, parts: Array, totals: Array
) -> None:
    """Add the densities of one component, two to the power of what is computed."""
    x, y, height, one, low, two = moments[0], moments[1], peak * LOG2_E, form[1], form[2], form[3]
    one, low, two = ROOT * one, ROOT * low, ROOT * two
    for p in range(count):
        dx, dy = points.x[p] - x, points.y[p] - y
        first, second = one * dx, low * dx + two * dy
        power = height - first * first - second * second
        # what is not a number stays so
        parts[p] = roughly_power_of_two(LEAST_POWER if power < LEAST_POWER else power)
        totals[p] += parts[p]


@borrowing
def fill_log_density(
    mixture: Mixture, components: int, points: Points, count: int, work: Expectation, into: Array
) -> None:
    """Fill the log density of a mixture at each point; that of its highest component where all are faint."""
    highest = fill_parts(mixture, components, points, count, work)
    _take_logarithm(highest, work.totals, count, into)
    faint = components * 2.0 ** (LEAST_POWER + 1)
    for p in range(count):
        if work.totals[p] <= faint:
            into[p] = _highest_log(mixture, components, points.x[p], points.y[p])


@borrowing
def _highest_log(mixture: Mixture, components: int, x: float, y: float) -> float:
    """The log of the highest weighted component's density at a point."""
    highest = -math.inf
    for k in range(components):
        form, dx, dy = mixture.forms[k], x - mixture.moments[k, 0], y - mixture.moments[k, 1]
        first, second = form[1] * dx, form[2] * dx + form[3] * dy
        highest = max(highest, form[0] - 0.5 * (first * first + second * second))
    return highest


@fusing
def _take_logarithm(highest: float, totals: Array, count: int, into: Array) -> None:
    for p in range(count):
        into[p] = highest + logarithm(totals[p])


@borrowing
def improve(
    points: Points, count: int, components: int, mixture: Mixture, work: Expectation, into: Array
) -> int:
    """One step of expectation-maximisation on points with shares; how many components are left.

    Fills the log densities that the points had before.
    """
    fill_log_density(mixture, components, points, count, work, into)
    for p in range(count):
        work.totals[p] = (points.share[p] if points.share[p] > FAINTEST_SHARE else 0.0) / work.totals[p]
    for k in range(components):
        sums = work.sums[k]
        _fill_sums(work.parts[k], work.totals, points, count, sums)
        few = sums[0] * sums[0] / max(sums[9], SMALLEST) / FEW_POINTS
        part = 1 / (1 + few * few)
        for i in range(3):
            sums[3 + i] += part * sums[6 + i]
    return put_sums(work.sums, components, mixture, 0.0)


@adding
def _fill_sums(parts: Array, shares: Array, points: Points, count: int, sums: Array) -> None:
    """Fill the sums of points with these parts of their shares."""
    mass = x = y = xx = xy = yy = wide = tilt = high = squares = 0.0
    for p in range(count):
        share, east, north = parts[p] * shares[p], points.x[p], points.y[p]
        mass += share
        x += share * east
        y += share * north
        xx += share * (east * east + points.spread[0, p])
        xy += share * (east * north + points.spread[1, p])
        yy += share * (north * north + points.spread[2, p])
        wide += share * points.cell[0, p]
        tilt += share * points.cell[1, p]
        high += share * points.cell[2, p]
        squares += share * share
    sums[0], sums[1], sums[2], sums[3], sums[4], sums[5] = mass, x, y, xx, xy, yy
    sums[6], sums[7], sums[8], sums[9] = wide, tilt, high, squares


@borrowing
def add(mixture: Mixture, components: int, rest: Mixture, more: int, share: float) -> int:
    """Add the components of another mixture with this share; how many there are then."""
    for k in range(components):
        mixture.log_weights[k] += math.log1p(-share)
    for k in range(more):
        mixture.log_weights[components + k] = rest.log_weights[k] + math.log(share)
        for i in range(5):
            mixture.moments[components + k, i] = rest.moments[k, i]
    return components + more


Rule = tuple[Array, Array]  # nodes (M, 2) of a standard Gaussian, and the logs of their weights (M,)


@inner
def place_nodes(
    problem: Problem, mixture: Mixture, components: int, rule: Rule, space: FitSpace
) -> tuple[int, float]:
    """Fill the nodes of a mixture, with their shares of the posterior, and its sums by component.

    Returns how many nodes there are, and the log evidence.
    """
    (steps, log_shares), points, work, answer = rule, space.nodes, space.work, space.logs
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
    fill_log_density(mixture, components, points, count, work, answer)
    fill_density(problem, points.x, points.y, count, space.densities, points.log)
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
        _sum_nodes(points, k * each, each, work.sums[k])
    return count, highest + math.log(total)


@adding
def _sum_nodes(points: Points, start: int, count: int, sums: Array) -> None:
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
    mixture: Mixture, components: int, sample: Sample, apart: float, work: Expectation, logs: Array
) -> float:
    """KL(exact ‖ mixture) over a sample, nats; `apart` is the error of the log evidence.

    Of two sums, the smaller: one has no negative terms, but a point that stands for too large a cell counts too much.
    """
    one, other = divergences(mixture, components, sample, work, logs)
    # a divergence below zero is an error of the sum, and the error may as well be of the other sign
    other = abs(other) + apart
    # negated, so that what is not a number is left
    return one if not other < one else other


@borrowing
def divergences(
    mixture: Mixture, components: int, sample: Sample, work: Expectation, logs: Array
) -> tuple[float, float]:
    """Two sums over a sample that are KL(exact ‖ mixture), nats, where its points are wherever both are.

    With q the mixture and p the exact density, their terms are q / p - 1 - log(q / p) and -log(q / p). Fills the log
    densities of the mixture.
    """
    points, count, log_evidence = sample
    fill_log_density(mixture, components, points, count, work, logs)
    return _add_ratios(points.share, points.log, log_evidence, logs, count)


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


class Limits(NamedTuple):
    """When a fit is good enough."""

    components: int  # the most
    gain: float  # nats, that a division of the cells gains at least
    steps: int  # of expectation-maximisation on the cells, after each addition
    additions: int  # how often components are added at most
    enough: float  # nats, below which a divergence is small enough


@inner
def fit_cells(
    problem: Problem,
    cells: Sample,
    limits: Limits,
    rules: tuple[Rule, Rule],
    mixture: Mixture,
    space: FitSpace,
) -> tuple[int, int, float]:
    """Fit a mixture, with more components where it lacks mass.

    Returns how many components and nodes there are, and the log evidence.
    """
    (points, count, evidence), work = cells, space.work
    components, good = divide(points, count, limits.components, limits.gain, work, mixture), False
    for addition in range(limits.additions + 1):
        for _ in range(limits.steps if addition > 0 else 0):
            components = improve(points, count, components, mixture, work, space.logs)
        last = addition == limits.additions
        for each in range(ROUNDS if last else 1):
            rule = rules[0] if components <= FEW_COMPONENTS else rules[1]
            some, log = place_nodes(problem, mixture, components, rule, space)
            if not log > -math.inf:
                return 0, 0, log
            components = put_sums(work.sums, components, mixture, LEAST_SPREAD)
            good = last and each == ROUNDS - 1
            if not good:
                # the densities at the cells are needed below
                apart = abs(log - evidence)
                good = divergence(mixture, components, cells, apart, work, space.logs) < limits.enough
                if good:
                    at = Sample(space.nodes, some, log)
                    good = divergence(mixture, components, at, apart, work, space.lacking) < limits.enough
            if good:
                break
        if good:
            break
        components = _extended(cells, limits, mixture, components, space)
    # once more at the nodes of the answer itself, and more of them: sums over few are some hundredths off
    some, log = place_nodes(problem, mixture, components, rules[0], space)
    return (components, some, log) if log > -math.inf else (0, 0, log)


@borrowing
def _extended(cells: Sample, limits: Limits, mixture: Mixture, components: int, space: FitSpace) -> int:
    """Add components where a mixture, with `space.logs` at the cells, lacks mass; how many there are then."""
    (points, count, evidence), rest, work = cells, space.rest, space.work
    answer, residual = space.logs, space.lacking
    left = Points(points.x, points.y, residual, points.spread, points.cell, points.log)
    share, caused = fill_far(points, count, evidence, answer, residual)
    if caused > 0.5 * limits.enough and components < limits.components:
        more = divide(left, count, min(ADDED, limits.components - components), 0.0, work, rest)
        # the densities at the points remain what they were
        components = add(mixture, components, rest, more, share)
    room = min(ADDED, limits.components - components)
    share = fill_lacking(points, count, evidence, answer, residual)
    if caused < 0.5 * limits.enough and room > 0 and 0 < share < 1:
        more = divide(left, count, room, AGAIN, work, rest)
        components = add(mixture, components, rest, more, share)
    return components
