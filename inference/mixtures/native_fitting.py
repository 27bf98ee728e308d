"""Fit of mixtures to weighted points in the plane, for the processor.

It starts with a Gaussian for each part that the points are divided into: a part is divided in two along its longest
axis, through its mean; always the part for which Gaussians of both halves are better than one by most. Then steps of
weighted expectation-maximisation move all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    FAINTEST,
    ROOT,
    Block,
    add_exponential,
    fill,
    find_highest,
    frame_of_powers,
    new_block,
    power_at,
    relative_to,
    whiten,
)
from beliefstream.inference.mixtures.native_exponential import logarithm, roughly_power_of_two

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Sums = tuple[float, float, float, float, float, float]

PSEUDO_POINTS = 24.0  # effective points below which a component is about as wide as their cells
FEWEST, FEWEST_LINES = 12, 4  # points of a part to begin with
SMALLEST = 1e-300
LEAST_MASS = 1e-12  # a component of less stays where it is
FLOOR = 1e-16  # of a pivot, relative to the variance
WIDE = 0.1  # weight at which a wide component starts
LEAST_POWER = -400.0  # of two; products and squares of less are no normal numbers
FAINT = 2.0**-300  # of a sum of densities beside the highest peak, below which their logs are taken first
NOTHING = 1e-20  # part of a point


class Points(NamedTuple):
    """Points of all problems, one after another."""

    points: Array  # (S, 2)
    shares: Array  # (S,)
    spreads: Array  # (S, 3), covariance within a point's cell as xx, xy, yy


class Space(NamedTuple):
    """Space for steps of expectation-maximisation."""

    inverse: Array  # (J, 2, 2), as the next
    factors: Array
    shift: Array  # (J, 2)
    peaks: Array  # (J,)
    sums: Array  # (J, 10) of shares, moments about the old mean, spreads, and squared shares
    points: Array  # (blocks, 2, BLOCK)
    shares: Array  # (blocks, BLOCK)
    spreads: Array  # (blocks, 3, BLOCK)
    near: NDArray[np.bool_]  # (J,) whether a component has a part in any point of a block


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    start = GaussianMixture(one[0].log(), one.expand(1, 1, 2), torch.eye(2).double()[None, None])
    fit(one.expand(1, 1, 2), one[0], one.expand(1, 1, 3), one[0, 0] < 0, start, 1, 0.0)


def fit(
    points: Tensor,
    shares: Tensor,
    spreads: Tensor,
    wide: Tensor,
    start: GaussianMixture | int,
    steps: int,
    least_gain: float,
    lines: bool = False,
) -> GaussianMixture:
    """Fit Gaussians to `points` ``(B, P, 2)``, weighted by `shares` ``(B, P)``, zero for absent ones.

    Each point stands for a cell with covariance `spreads` ``(B, P, 3)``, as xx, xy, yy. Otherwise a component could
    shrink to a single point. A component is never narrower than its `lines`, which are cells that are long in one
    direction. The fit starts from a mixture, or from as many parts of the points as `start`; where it is then `wide`
    ``(B,)``, one of them is as wide as all points.
    There are at most `steps` of expectation-maximisation, as long as one gains `least_gain` nats.
    """
    batch, count, _ = points.shape
    ends = np.arange(batch + 1, dtype=np.int64) * count
    flat = Points(array(points).reshape(-1, 2), array(shares).reshape(-1), array(spreads).reshape(-1, 3))
    return fit_to(flat, np.stack([ends[:-1], ends[1:]], 1), wide, start, steps, least_gain, lines)


def fit_to(
    points: Points,
    places: Places,
    wide: Tensor,
    start: GaussianMixture | int,
    steps: int,
    least_gain: float,
    lines: bool,
) -> GaussianMixture:
    """As `fit`, to the points of each problem from its first of the `places` ``(B, 2)`` to before its last.

    The weights of a mixture add up to what its points' shares do.
    """
    batch = len(places)
    if isinstance(start, GaussianMixture):
        parts = (start.log_weights, start.means, start.covariances)
        found = Numbers(*(array(part.clone()) for part in parts))
    else:
        found = Numbers(
            np.full((batch, start), -math.inf), np.zeros((batch, start, 2)), np.zeros((batch, start, 2, 2))
        )
    cells = math.inf if lines else PSEUDO_POINTS
    fewest = FEWEST_LINES if lines else FEWEST
    limits = steps, least_gain, cells, 0 if isinstance(start, GaussianMixture) else fewest
    fit_all(points, places, wide.numpy(), limits, found)
    return GaussianMixture(*(torch.from_numpy(part) for part in found))


@native
def fit_all(
    given: Points,
    places: Places,
    wide: NDArray[np.bool_],
    limits: tuple[int, float, float, int],
    found: Numbers,
) -> None:
    """As `fit_to`, into `found`.

    The `limits` are steps, the least gain, points below which a component is as wide as their cells, and the fewest
    points of a part to begin with; 0 begins with what is found.
    """
    log_weights, means, covariances = found
    count, most = log_weights.shape[1], 1
    for b in range(len(places)):
        most = max(most, places[b, 1] - places[b, 0])
    order, ends, axes = np.empty((2, most), np.int64), np.empty((count, 2), np.int64), np.empty((count, 2))
    parts = Parts(order[0], ends, np.empty((count, 6)), axes, np.empty(count), order[1])
    blocks = (most + BLOCK - 1) // BLOCK
    space = Space(
        np.empty((count, 2, 2)),
        np.zeros((count, 2, 2)),
        np.empty((count, 2)),
        np.empty(count),
        np.empty((count, 10)),
        np.zeros((blocks, 2, BLOCK)),
        np.zeros((blocks, BLOCK)),
        np.zeros((blocks, 3, BLOCK)),
        np.empty(count, np.bool_),
    )
    block = new_block(count, 2)
    for b in range(len(places)):
        one = (log_weights[b], means[b], covariances[b])
        _fit_one(given, places[b], wide[b], limits, parts, block, space, one)


@borrowing
def _fit_one(
    given: Points,
    places: Places,
    wide: bool,
    limits: tuple[int, float, float, int],
    parts: Parts,
    block: Block,
    space: Space,
    found: tuple[Array, Array, Array],
) -> None:
    (log_weights, means, covariances), (steps, least_gain, cells, fewest) = found, limits
    first, end = places[0], places[1]
    while end > first + 1 and given.shares[end - 1] == 0:
        end -= 1
    points, shares, spreads = given.points[first:end], given.shares[first:end], given.spreads[first:end]
    if fewest:
        divide(points, shares, wide, fewest, parts, log_weights, means, covariances)
    blocks, wide_cells = (end - first + BLOCK - 1) // BLOCK, cells == math.inf and fewest == 0
    _take(points, shares, spreads, blocks, space)
    before = -math.inf
    for _ in range(steps):
        now = _maximise(block, space, blocks, cells, wide_cells, log_weights, means, covariances)
        if now - before < least_gain:
            break
        before = now


@borrowing
def _take(points: Array, shares: Array, spreads: Array, blocks: int, space: Space) -> None:
    """Fill the points and their weights, by blocks; the last point once more, without a share, where there are none."""
    for number in range(blocks):
        for i in range(BLOCK):
            p, there = min(number * BLOCK + i, len(points) - 1), number * BLOCK + i < len(points)
            space.points[number, 0, i] = points[p, 0]
            space.points[number, 1, i] = points[p, 1]
            space.shares[number, i] = shares[p] if there else 0.0
            for j in range(3):
                space.spreads[number, j, i] = spreads[p, j]


@borrowing
def _maximise(
    block: Block,
    space: Space,
    blocks: int,
    cells: float,
    wide_cells: bool,
    log_weights: Array,
    means: Array,
    covariances: Array,
) -> float:
    """One step of expectation-maximisation; returns the mean log density of the points before it."""
    for k in range(len(means)):
        factor, covariance = space.factors[k], covariances[k]
        factor[0, 0] = math.sqrt(max(covariance[0, 0], SMALLEST))
        factor[1, 0] = covariance[1, 0] / factor[0, 0]
        left = covariance[1, 1] - factor[1, 0] * factor[1, 0]
        factor[1, 1] = math.sqrt(max(left, FLOOR * covariance[1, 1], SMALLEST))
        for i in range(10):
            space.sums[k, i] = 0.0
    density = 0.0
    whiten(log_weights, means, space.factors, space.inverse, space.shift, space.peaks)
    for number in range(blocks):
        for i in range(2):
            for p in range(BLOCK):
                block.points[i, p] = space.points[number, i, p]
        gaussians = (space.inverse, space.shift, space.peaks)
        density += share_points(
            gaussians, space.shares[number], space.spreads[number], wide_cells, block, space.near
        )
        for k in range(len(means)):
            if space.near[k]:
                _add(
                    block.points,
                    block.values[k],
                    block.offset,
                    space.spreads[number],
                    means[k],
                    space.sums[k],
                )
    for k in range(len(means)):
        mass, mean, covariance = space.sums[k, 0], means[k], covariances[k]
        log_weights[k] = math.log(mass) if mass > 0 else -math.inf
        if mass < LEAST_MASS:
            continue
        dx, dy = space.sums[k, 1] / mass, space.sums[k, 2] / mass
        mean[0] += dx
        mean[1] += dy
        # a component of few points is no narrower than their cells; of many, as narrow as they say
        part = 1 / (1 + mass * mass / max(space.sums[k, 9], SMALLEST) / cells) / mass
        covariance[0, 0] = space.sums[k, 3] / mass - dx * dx + part * space.sums[k, 6]
        covariance[0, 1] = space.sums[k, 4] / mass - dx * dy + part * space.sums[k, 7]
        covariance[1, 1] = space.sums[k, 5] / mass - dy * dy + part * space.sums[k, 8]
        covariance[1, 0] = covariance[0, 1]
    return density


@adding
def _add(points: Array, parts: Array, scale: Array, spreads: Array, mean: Array, sums: Array) -> None:
    """Add the points' parts in a component to its sums."""
    mass, x, y, xx, xy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    wide, tilt, high, squares = 0.0, 0.0, 0.0, 0.0
    left, low = mean[0], mean[1]
    for p in range(BLOCK):
        part = parts[p] * scale[p]
        dx, dy = points[0, p] - left, points[1, p] - low
        mass += part
        x += part * dx
        y += part * dy
        xx += part * dx * dx
        xy += part * dx * dy
        yy += part * dy * dy
        wide += part * spreads[0, p]
        tilt += part * spreads[1, p]
        high += part * spreads[2, p]
        squares += part * part
    for i, total in enumerate((mass, x, y, xx, xy, yy, wide, tilt, high, squares)):
        sums[i] += total


@borrowing
def share_points(
    gaussians: tuple[Array, Array, Array],
    shares: Array,
    spreads: Array,
    wide_cells: bool,
    block: Block,
    near: NDArray[np.bool_],
) -> float:
    """Share each point of a block among the components: parts into `values`, by `offset` to scale them.

    Densities are their means over `wide_cells`, beside the highest peak as in `native_density.sum_plane`. `near` is
    which components have a part in any point. Returns the sum of the points' log densities, by their shares.
    """
    (inverse, shift, peaks), highest = gaussians, -math.inf
    for k in range(len(peaks)):
        highest = peaks[k] if peaks[k] > highest else highest
    for p in range(BLOCK):
        block.total[p] = 0.0
    for k in range(len(peaks)):
        _find_densities(inverse[k], shift[k], peaks[k] - highest, block.points, block.values[k])
        if wide_cells:
            _spread_densities(inverse[k], spreads, block.values[k])
        _add_densities(block.values[k], block.total)
    lost = 0
    for p in range(BLOCK):
        lost += not block.total[p] > FAINT  # negated for what is not a number
    if lost:
        fill(inverse, shift, peaks, block)
        if wide_cells:
            _spread(inverse, spreads, block.values)
        return _share(block, shares, near)
    for k in range(len(peaks)):
        near[k] = _has_part(block.values[k], block.total)
    density = 0.0
    for p in range(BLOCK):
        block.offset[p] = shares[p] / block.total[p]
        density += shares[p] * (highest + logarithm(block.total[p]))
    return density


@fusing
def _find_densities(inverse: Array, shift: Array, peak: float, points: Array, values: Array) -> None:
    """Powers of two that are densities of one component."""
    frame = frame_of_powers(inverse, shift, peak)
    for p in range(BLOCK):
        values[p] = power_at(frame, points[0, p], points[1, p])


@fusing
def _spread_densities(inverse: Array, spreads: Array, values: Array) -> None:
    one, other, last = ROOT * inverse[0, 0], ROOT * inverse[1, 0], ROOT * inverse[1, 1]
    xx, xy, yy = one * one + other * other, 2 * other * last, last * last
    for p in range(BLOCK):
        values[p] -= xx * spreads[0, p] + xy * spreads[1, p] + yy * spreads[2, p]


@fusing
def _add_densities(values: Array, total: Array) -> None:
    for p in range(BLOCK):
        # what is not a number stays so
        value = roughly_power_of_two(LEAST_POWER if values[p] < LEAST_POWER else values[p])
        values[p] = value
        total[p] += value


@borrowing
def _has_part(values: Array, total: Array) -> bool:
    found = 0
    for p in range(BLOCK):
        found += values[p] > NOTHING * total[p]
    return found > 0


@borrowing
def _spread(inverse: Array, spreads: Array, values: Array) -> None:
    """Turn log densities at the points into their means over the cells."""
    for k in range(len(values)):
        one, other, last = inverse[k, 0, 0], inverse[k, 1, 0], inverse[k, 1, 1]
        xx, xy, yy = 0.5 * (one * one + other * other), other * last, 0.5 * last * last
        for p in range(BLOCK):
            values[k, p] -= xx * spreads[0, p] + xy * spreads[1, p] + yy * spreads[2, p]


@borrowing
def _share(block: Block, shares: Array, near: NDArray[np.bool_]) -> float:
    """Share each point of a block among the components: parts into `values`, by `offset` to scale them.

    Returns the sum of the points' log densities, by their shares.
    """
    find_highest(block.values, block.highest)
    for p in range(BLOCK):
        block.total[p] = 0.0
    for k in range(len(near)):
        values = block.values[k]
        near[k] = relative_to(block.highest, values, block.argument)
        if near[k]:
            for p in range(BLOCK):
                values[p] = 0.0
                block.argument[p] = max(block.argument[p], FAINTEST)
            add_exponential(block.argument, values)
            for p in range(BLOCK):
                block.total[p] += values[p]
    for p in range(BLOCK):
        block.offset[p] = shares[p] / block.total[p]
    density = 0.0
    for p in range(BLOCK):
        density += shares[p] * (block.highest[p] + logarithm(block.total[p]))
    return density


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
