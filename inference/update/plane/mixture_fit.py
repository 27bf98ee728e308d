"""A mixture that fits the cells of a posterior roughly, for `cartesian`.

Cells are divided into parts: always the part for which Gaussians of both halves of its longest axis are better than one
by most, while that gains enough. A few steps of expectation-maximisation follow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, inner
from beliefstream.inference.mixtures.native_density import FAINTEST
from beliefstream.inference.mixtures.native_exponential import logarithm, roughly_exponential

Sums = tuple[float, float, float, float, float, float]  # mass, and first and second moments

SMALLEST = 1e-300
LEAST_MASS = 1e-13  # share below which a component is dropped
LEAST_SPREAD = 1e-3  # of a determinant, that a component has after one step
FAINTEST_SHARE = (
    1e-200  # with a smaller share, a point's part of a component may be no normal number, which takes long
)
ROUNDING = 1e-9  # of a variance, that a pivot has at least
FEW = 0.5  # effective points, below which a component is as wide as their cells


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


class Work(NamedTuple):
    """Space for the fit."""

    labels: NDArray[np.int64]  # (P,) the part of each point
    sums: Array  # (J, 10): mass, first and second moments, cells, and squared shares
    gains: Array  # (J,)
    axes: Array  # (J, 2)
    logs: Array  # (J, P)
    highest: Array  # (P,)


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
def new_work(most: int, points: int) -> Work:
    """Space to fit so many components to so many points."""
    return Work(
        np.empty(points, np.int64),
        np.empty((most, 10)),
        np.empty(most),
        np.empty((most, 2)),
        np.empty((most, points)),
        np.empty(points),
    )


@borrowing
def divide(points: Points, count: int, most: int, least: float, work: Work, mixture: Mixture) -> int:
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
    return put_sums(work.sums, parts, mixture)


@borrowing
def _measure(points: Points, count: int, work: Work, k: int) -> None:
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
def put_sums(sums: Array, count: int, mixture: Mixture) -> int:
    """Fill the components with these sums, as mass and first and second moments; how many have mass."""
    total, left = 0.0, 0
    for k in range(count):
        total += sums[k, 0]
    for k in range(count):
        mass = sums[k, 0]
        if not mass > LEAST_MASS * total:
            continue
        _put(sums[k], mixture.moments[left])
        mixture.log_weights[left] = math.log(mass / total)
        left += 1
    return left


@borrowing
def move(sums: Array, count: int, mixture: Mixture) -> int:
    """As `put_sums`, but where nearly all of a component's share is at one node, it only gets its mass."""
    total, left = 0.0, 0
    for k in range(count):
        total += sums[k, 0]
    for k in range(count):
        mass, before, after = sums[k, 0], mixture.moments[k], mixture.moments[left]
        if not mass > LEAST_MASS * total:
            continue
        old = before[2] * before[4] - before[3] * before[3]
        x, y, xx, xy, yy = before[0], before[1], before[2], before[3], before[4]
        _put(sums[k], after)
        if not after[2] * after[4] - after[3] * after[3] > LEAST_SPREAD * old:
            after[0], after[1], after[2], after[3], after[4] = x, y, xx, xy, yy
        mixture.log_weights[left] = math.log(mass / total)
        left += 1
    return left


@borrowing
def _put(sums: Array, moments: Array) -> None:
    x, y = sums[1] / sums[0], sums[2] / sums[0]
    moments[0], moments[1] = x, y
    moments[2], moments[3] = sums[3] / sums[0] - x * x, sums[4] / sums[0] - x * y
    moments[4] = sums[5] / sums[0] - y * y


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
def fill_logs(mixture: Mixture, components: int, points: Points, count: int, work: Work) -> None:
    """Fill the log of each weighted component at each point, and the largest at each."""
    for p in range(count):
        work.highest[p] = -math.inf
    for k in range(components):
        _fill_log(mixture.forms[k], mixture.moments[k], points, count, work.logs[k], work.highest)


@adding
def _fill_log(form: Array, moments: Array, points: Points, count: int, logs: Array, highest: Array) -> None:
    peak, one, low, two, x, y = form[0], form[1], form[2], form[3], moments[0], moments[1]
    for p in range(count):
        dx, dy = points.x[p] - x, points.y[p] - y
        first, second = one * dx, low * dx + two * dy
        logs[p] = peak - 0.5 * (first * first + second * second)
        highest[p] = max(highest[p], logs[p])


@borrowing
def log_density(components: int, count: int, work: Work, into: Array) -> None:
    """Fill the log density at each point after `fill_logs`, whose logs become each component's part of it."""
    for p in range(count):
        into[p] = 0.0
    for k in range(components):
        _add_share(work.logs[k], work.highest, count, into)
    _finish(work.highest, count, into)


@adding
def _add_share(logs: Array, highest: Array, count: int, into: Array) -> None:
    for p in range(count):
        logs[p] = roughly_exponential(max(logs[p] - highest[p], FAINTEST))
        into[p] += logs[p]


@fusing
def _finish(highest: Array, count: int, into: Array) -> None:
    """Take logarithms; the sums go where the largest of the logs were."""
    for p in range(count):
        top, total = highest[p], into[p]
        highest[p], into[p] = total, top + logarithm(total)


@borrowing
def improve(points: Points, count: int, components: int, mixture: Mixture, work: Work, into: Array) -> int:
    """One step of expectation-maximisation on points with shares; how many components are left.

    Fills the log densities that the points had before.
    """
    prepare_forms(mixture, components)
    fill_logs(mixture, components, points, count, work)
    log_density(components, count, work, into)
    for k in range(components):
        sums = work.sums[k]
        _fill_sums(work.logs[k], work.highest, points, count, sums)
        few = sums[0] * sums[0] / max(sums[9], SMALLEST) / FEW
        part = 1 / (1 + few * few)
        for i in range(3):
            sums[3 + i] += part * sums[6 + i]
    return put_sums(work.sums, components, mixture)


@adding
def _fill_sums(parts: Array, totals: Array, points: Points, count: int, sums: Array) -> None:
    """Fill the sums of points, of whose shares this is a part."""
    mass = x = y = xx = xy = yy = wide = tilt = high = squares = 0.0
    for p in range(count):
        share, east, north = points.share[p], points.x[p], points.y[p]
        share = parts[p] / totals[p] * (share if share > FAINTEST_SHARE else 0.0)
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
