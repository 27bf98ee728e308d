"""Fit of mixtures to weighted points in the plane, for the processor.

It starts with a Gaussian for each part that the points are divided into (`native_parts`). Then steps of weighted
expectation-maximisation move all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import BLOCK, Block, new_block, whiten
from beliefstream.inference.mixtures.native_parts import Parts, divide
from beliefstream.inference.mixtures.native_responsibilities import share_points

Array = NDArray[np.float64]
Places = NDArray[np.int64]

PSEUDO_POINTS = 24.0  # effective points below which a component is about as wide as their cells
FEWEST, FEWEST_LINES = 12, 4  # points of a part to begin with
SMALLEST = 1e-300
LEAST_MASS = 1e-12  # a component of less stays where it is
FLOOR = 1e-16  # of a pivot, relative to the variance


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
