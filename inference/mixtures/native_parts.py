"""Division of weighted points in the plane into parts, for the processor: the start of `native_fitting`.

A part is divided in two along its longest axis, through its mean; always the part for which Gaussians of both halves
are better than one by most.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing

Array = NDArray[np.float64]
Sums = tuple[float, float, float, float, float, float]

WIDE = 0.1  # weight at which a wide component starts
SMALLEST = 1e-300


class Parts(NamedTuple):
    """Space for the parts that points are divided into."""

    order: NDArray[np.int64]  # (P,) the points, those of a part one after another
    ends: NDArray[np.int64]  # (J, 2)
    moments: Array  # (J, 6): mass, mean and covariance as xx, xy, yy
    axes: Array  # (J, 2)
    gains: Array  # (J,)
    later: NDArray[np.int64]  # (P,)


@borrowing
def divide(
    points: Array,
    shares: Array,
    wide: bool,
    fewest: int,
    parts: Parts,
    log_weights: Array,
    means: Array,
    covariances: Array,
) -> None:
    """Divide the points, at least the `fewest` in each part, and fill one component for each.

    If it is `wide`, the last one is that of all points.
    """
    for p in range(len(points)):
        parts.order[p] = p
    parts.ends[0, 0], parts.ends[0, 1] = 0, len(points)
    _measure(points, shares, fewest, parts, 0)
    most = len(log_weights) - 1 if wide else len(log_weights)
    if wide:
        _put(parts.moments[0], means[most], covariances[most])
        log_weights[most] = math.log(WIDE)
    count = 1
    while count < most:
        best = 0
        for k in range(1, count):
            best = k if parts.gains[k] > parts.gains[best] else best
        if parts.gains[best] == -math.inf:
            break
        _split(points, parts, best, count)
        _measure(points, shares, fewest, parts, best)
        _measure(points, shares, fewest, parts, count)
        count += 1
    for k in range(most):
        _put(parts.moments[k if k < count else 0], means[k], covariances[k])
        log_weights[k] = math.log(parts.moments[k, 0]) if k < count else -math.inf
        if wide:
            log_weights[k] += math.log1p(-WIDE)


@borrowing
def _put(moments: Array, mean: Array, covariance: Array) -> None:
    """Fill mean and covariance of a component."""
    mean[0], mean[1] = moments[1], moments[2]
    covariance[0, 0], covariance[1, 1] = moments[3], moments[5]
    covariance[0, 1] = covariance[1, 0] = moments[4]


@borrowing
def _measure(points: Array, shares: Array, fewest: int, parts: Parts, k: int) -> None:
    """Fill the moments of a part, its longest axis, and what halves gain over it."""
    mass, x, y, xx, xy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(parts.ends[k, 0], parts.ends[k, 1]):
        p = parts.order[i]
        mass += shares[p]
        x += shares[p] * points[p, 0]
        y += shares[p] * points[p, 1]
    x, y = x / mass, y / mass
    for i in range(parts.ends[k, 0], parts.ends[k, 1]):
        p = parts.order[i]
        dx, dy = points[p, 0] - x, points[p, 1] - y
        xx += shares[p] * dx * dx
        xy += shares[p] * dx * dy
        yy += shares[p] * dy * dy
    moments = parts.moments[k]
    moments[0], moments[1], moments[2] = mass, x, y
    moments[3], moments[4], moments[5] = xx / mass, xy / mass, yy / mass
    angle = 0.5 * math.atan2(2 * xy, xx - yy)
    parts.axes[k, 0], parts.axes[k, 1] = math.cos(angle), math.sin(angle)
    parts.gains[k] = _gain(points, shares, fewest, parts, k)


@borrowing
def _gain(points: Array, shares: Array, fewest: int, parts: Parts, k: int) -> float:
    """What two Gaussians, of the halves of a part, gain over one, in nats; minus infinity for too few points."""
    _, x, y, _, _, _ = parts.moments[k]
    halves = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    left, right = halves
    few, count = 0, parts.ends[k, 1] - parts.ends[k, 0]
    for i in range(parts.ends[k, 0], parts.ends[k, 1]):
        p = parts.order[i]
        share, dx, dy = shares[p], points[p, 0] - x, points[p, 1] - y
        more = (share, share * dx, share * dy, share * dx * dx, share * dx * dy, share * dy * dy)
        if parts.axes[k, 0] * dx + parts.axes[k, 1] * dy > 0:
            right, few = _sum(right, more), few + 1
        else:
            left = _sum(left, more)
    if min(few, count - few) < fewest:
        return -math.inf
    return cost(_sum(left, right)) - cost(left) - cost(right)


@borrowing
def _sum(
    one: Sums,
    other: Sums,
) -> Sums:
    return (
        one[0] + other[0],
        one[1] + other[1],
        one[2] + other[2],
        one[3] + other[3],
        one[4] + other[4],
        one[5] + other[5],
    )


@borrowing
def cost(sums: Sums) -> float:
    """Mass × entropy of the Gaussian with these sums, up to a constant, and of its weight."""
    mass = max(sums[0], SMALLEST)
    x, y = sums[1] / mass, sums[2] / mass
    determinant = (sums[3] / mass - x * x) * (sums[5] / mass - y * y) - (sums[4] / mass - x * y) ** 2
    return mass * (0.5 * math.log(max(determinant, SMALLEST)) - math.log(mass))


@borrowing
def _split(points: Array, parts: Parts, k: int, other: int) -> None:
    """Leave in part `k` its points on one side of its mean, and put the others in part `other`."""
    at, later = parts.ends[k, 0], 0
    for i in range(parts.ends[k, 0], parts.ends[k, 1]):
        p = parts.order[i]
        dx, dy = points[p, 0] - parts.moments[k, 1], points[p, 1] - parts.moments[k, 2]
        if parts.axes[k, 0] * dx + parts.axes[k, 1] * dy > 0:
            parts.later[later] = p
            later += 1
        else:
            parts.order[at] = p
            at += 1
    for i in range(later):
        parts.order[at + i] = parts.later[i]
    parts.ends[other, 0], parts.ends[other, 1] = at, parts.ends[k, 1]
    parts.ends[k, 1] = at
