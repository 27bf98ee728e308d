"""Log densities of Gaussian mixtures at many points, compiled for the processor: what is between stays in cache.

Points are taken a block at a time, one number of each in a row, so that the compiler vectorises all loops over a block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_exponential import (
    LOG2_E,
    UNDERFLOW,
    exponential,
    logarithm,
    roughly_power_of_two,
)
from beliefstream.inference.mixtures.native_linear_algebra import invert_one

Array = NDArray[np.float64]

LOG_TWO_PI = math.log(2 * math.pi)

Frame = tuple[float, float, float, float, float, float]

BLOCK = 64  # points
ABSENT = -1e300  # below every finite log density
NEGLIGIBLE = -45.0  # below the highest component: less than rounding, whatever the number of components
# log of a component's share of a point; products and squares of less are no normal numbers, and take many times as long
FAINTEST = -100.0
FAINT = 1e-280  # of a sum of densities beside the highest peak, below which their logs are taken first
ROOT = math.sqrt(0.5 * LOG2_E)
LEAST_POWER = -1020.0  # of two, above the least of a normal number


class Block(NamedTuple):
    """Space for one block of points."""

    points: Array  # (D, BLOCK)
    values: Array  # (K, BLOCK)
    offset: Array  # (BLOCK,), as all below
    highest: Array
    total: Array
    argument: Array


def prepare() -> None:
    """Compile the densities, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    log_densities(one[0], one, one[..., None], one, True)


def log_densities(
    log_weights: Tensor, means: Tensor, factors: Tensor, points: Tensor, each: bool
) -> tuple[Tensor, Tensor]:
    """Log of weight × density of each component ``(B, K, P)``, empty unless `each`, and of the mixture ``(B, P)``.

    `factors` ``(B, K, D, D)`` are lower factors of the covariances, `points` ``(B, P, D)``.
    """
    total = np.empty(points.shape[:2])
    components = np.empty((*log_weights.shape, points.shape[1]) if each else (0, 0, 0))
    _evaluate(array(log_weights), array(means), array(factors), array(points), total, components)
    return torch.from_numpy(components).to(points), torch.from_numpy(total).to(points)


@native
def _evaluate(
    log_weights: Array, means: Array, factors: Array, points: Array, total: Array, components: Array
) -> None:
    """Fill `total` ``(B, P)`` and, unless it is empty, `components` ``(B, K, P)``."""
    batch, count, size = means.shape
    block = new_block(count, size)
    inverse, shift, peaks = np.empty((count, size, size)), np.empty((count, size)), np.empty(count)
    for row in range(batch):
        whiten(log_weights[row], means[row], factors[row], inverse, shift, peaks)
        for start in range(0, points.shape[1], BLOCK):
            some = min(BLOCK, points.shape[1] - start)
            for i in range(size):
                for p in range(some):
                    block.points[i, p] = points[row, start + p, i]
            fill(inverse, shift, peaks, block)
            sum_components(block, total[row, start : start + some])
            if len(components):
                for k in range(count):
                    for p in range(some):
                        components[row, k, start + p] = block.values[k, p]


@inner
def new_block(count: int, size: int) -> Block:
    """Space for a block of points and the densities of `count` components."""
    return Block(
        np.zeros((size, BLOCK)),
        np.empty((count, BLOCK)),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty(BLOCK),
    )


@borrowing
def whiten(
    log_weights: Array, means: Array, factors: Array, inverse: Array, shift: Array, peaks: Array
) -> None:
    """Fill the inverse factors, the whitened means with their sign changed, and the log of weight × peak density."""
    count, size = means.shape
    for k in range(count):
        invert_one(factors[k], inverse[k])
        peaks[k] = log_weights[k] - 0.5 * size * LOG_TWO_PI
        for i in range(size):
            peaks[k] -= math.log(factors[k, i, i])
            shift[k, i] = 0.0
            for j in range(i + 1):
                shift[k, i] -= inverse[k, i, j] * means[k, j]


@borrowing
def fill(inverse: Array, shift: Array, peaks: Array, block: Block) -> None:
    """Log of weight × density of every component at a block's points.

    In two and three coordinates, one loop does it all: what it adds up stays in registers.
    """
    size = shift.shape[1]
    if size == 2:
        _fill_plane(inverse, shift, peaks, block.points, block.values)
    elif size == 3:
        _fill_space(inverse, shift, peaks, block.points, block.values)
    else:
        _fill_any(inverse, shift, peaks, block)


@fusing
def _fill_plane(inverse: Array, shift: Array, peaks: Array, points: Array, values: Array) -> None:
    for k in range(len(peaks)):
        peak, x, y = peaks[k], shift[k, 0], shift[k, 1]
        xx, yx, yy = inverse[k, 0, 0], inverse[k, 1, 0], inverse[k, 1, 1]
        for p in range(BLOCK):
            first = x + xx * points[0, p]
            second = y + yx * points[0, p] + yy * points[1, p]
            values[k, p] = peak - 0.5 * first * first - 0.5 * second * second


@fusing
def _fill_space(inverse: Array, shift: Array, peaks: Array, points: Array, values: Array) -> None:
    for k in range(len(peaks)):
        peak, x, y, z = peaks[k], shift[k, 0], shift[k, 1], shift[k, 2]
        xx, yx, yy = inverse[k, 0, 0], inverse[k, 1, 0], inverse[k, 1, 1]
        zx, zy, zz = inverse[k, 2, 0], inverse[k, 2, 1], inverse[k, 2, 2]
        for p in range(BLOCK):
            first = x + xx * points[0, p]
            second = y + yx * points[0, p] + yy * points[1, p]
            third = z + zx * points[0, p] + zy * points[1, p] + zz * points[2, p]
            values[k, p] = peak - 0.5 * first * first - 0.5 * second * second - 0.5 * third * third


@fusing
def _fill_any(inverse: Array, shift: Array, peaks: Array, block: Block) -> None:
    for k in range(len(peaks)):
        for p in range(BLOCK):
            block.values[k, p] = peaks[k]
        for i in range(shift.shape[1]):
            for p in range(BLOCK):
                block.offset[p] = shift[k, i]
            for j in range(i + 1):
                for p in range(BLOCK):
                    block.offset[p] += inverse[k, i, j] * block.points[j, p]
            for p in range(BLOCK):
                block.values[k, p] -= 0.5 * block.offset[p] * block.offset[p]


@borrowing
def sum_components(block: Block, total: Array) -> None:
    """Log of the sum over components, into `total`."""
    highest, argument, sums = block.highest, block.argument, block.total
    find_highest(block.values, highest)
    for p in range(BLOCK):
        sums[p] = 0.0
    for k in range(len(block.values)):
        if relative_to(highest, block.values[k], argument):
            add_exponential(argument, sums)
    for p in range(len(total)):
        log_sum = highest[p] + logarithm(sums[p])
        total[p] = -math.inf if log_sum <= ABSENT else log_sum


@borrowing
def sum_plane(inverse: Array, shift: Array, peaks: Array, block: Block, total: Array) -> None:
    """As `fill` and `sum_components` in two coordinates: off by 3e-10 at most, in half the time.

    Densities are beside the highest peak, so that no highest one is looked for at each point. Where all are too far
    below it, they are found as ever.
    """
    highest = begin_sums(peaks, block)
    for k in range(len(peaks)):
        _add_plane(inverse[k], shift[k], peaks[k] - highest, block.points, block.total)
    end_sums(highest, inverse, shift, peaks, block, total)


@borrowing
def begin_sums(peaks: Array, block: Block) -> float:
    """The highest peak, beside which densities are added to the block's sums, which are zero now."""
    highest = -math.inf
    for k in range(len(peaks)):
        highest = peaks[k] if peaks[k] > highest else highest
    for p in range(BLOCK):
        block.total[p] = 0.0
    return highest


@borrowing
def end_sums(highest: float, inverse: Array, shift: Array, peaks: Array, block: Block, total: Array) -> None:
    """Logs of the sums, into `total`; where a sum is too faint, of densities beside the highest at each point."""
    sums, lost = block.total, 0
    for p in range(BLOCK):
        lost += not sums[p] > FAINT  # negated for what is not a number
    if lost:
        fill(inverse, shift, peaks, block)
        sum_components(block, total)
        return
    for p in range(len(total)):
        total[p] = highest + logarithm(sums[p])


@fusing
def frame_of_powers(inverse: Array, shift: Array, peak: float) -> Frame:
    """What `power_at` takes of one component in the plane."""
    xx, yx, yy = ROOT * inverse[0, 0], ROOT * inverse[1, 0], ROOT * inverse[1, 1]
    return peak * LOG2_E, ROOT * shift[0], ROOT * shift[1], xx, yx, yy


@fusing
def power_at(frame: Frame, east: float, north: float) -> float:
    """The power of two that is the density of one component at a point."""
    peak, x, y, xx, yx, yy = frame
    first, second = x + xx * east, y + yx * east + yy * north
    return peak - first * first - second * second


@fusing
def _add_plane(inverse: Array, shift: Array, peak: float, points: Array, sums: Array) -> None:
    """Add the densities of one component, two to the power of what is computed."""
    frame = frame_of_powers(inverse, shift, peak)
    for p in range(BLOCK):
        below = power_at(frame, points[0, p], points[1, p])
        # what is not a number stays so
        sums[p] += roughly_power_of_two(LEAST_POWER if below < LEAST_POWER else below)


@borrowing
def find_highest(values: Array, highest: Array) -> None:
    """The highest of the components' values at each point, or `ABSENT`."""
    for p in range(BLOCK):
        highest[p] = ABSENT
    for k in range(len(values)):
        row = values[k]
        for p in range(BLOCK):
            highest[p] = row[p] if row[p] > highest[p] else highest[p]


@borrowing
def relative_to(highest: Array, values: Array, argument: Array) -> bool:
    """Fill `argument` with what an exponential is needed of; whether any point of the block has more than nothing."""
    near = 0
    for p in range(BLOCK):
        value = values[p] - highest[p]
        # negated, so that what is not a number stays so
        near += not value <= NEGLIGIBLE
        argument[p] = UNDERFLOW if value < UNDERFLOW else value
    return near > 0


@fusing
def add_exponential(argument: Array, total: Array) -> None:
    """Add the exponential of `argument` to `total`."""
    for p in range(BLOCK):
        total[p] += exponential(argument[p])
