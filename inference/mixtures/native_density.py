"""Log densities of mixtures at many points, for the processor: no intermediate result leaves its cache.

Points are taken a block at a time, one number of each in a row, so that the compiler vectorises all loops over a block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native import fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import array

Array = NDArray[np.float64]
Bits = NDArray[np.int64]

BLOCK = 64  # points
ABSENT = -1e300  # below every finite log density
UNDERFLOW = -708.0  # the exponential of less is no normal number
LOG2_E = 1 / math.log(2)
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # ln 2 in two parts
ROUND = 1.5 * 2.0**52  # once added, the lowest bits are the nearest integer
COEFFICIENTS = tuple(1 / math.factorial(power) for power in range(12, -1, -1))
NEGLIGIBLE = -45.0  # below the highest component: less than rounding, whatever the number of components


class Block(NamedTuple):
    """Space for one block of points; the last two arrays are `power` and `scale` seen as integers."""

    points: Array  # (D, BLOCK)
    values: Array  # (K, BLOCK)
    offset: Array  # (BLOCK,), as all below
    highest: Array
    total: Array
    argument: Array
    power: Array
    scale: Array
    power_bits: Bits
    scale_bits: Bits


def prepare() -> None:
    """Compile the densities, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    log_density(GaussianMixture(one[0].log(), one, one[..., None]), one[..., None], one)


def log_density(mixture: GaussianMixture, factors: Tensor, points: Tensor) -> Tensor:
    """Log density ``(B, P)`` at `points` ``(B, P, D)``, from the covariances' lower factors."""
    return _densities(mixture, factors, points, np.empty((0, 0, 0)))


def component_log_densities(
    mixture: GaussianMixture, factors: Tensor, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Log of weight × density of each component ``(B, K, P)``, and log density of the mixture ``(B, P)``."""
    components = np.empty((mixture.batch, mixture.components, points.shape[1]))
    total = _densities(mixture, factors, points, components)
    return torch.from_numpy(components), total


def _densities(mixture: GaussianMixture, factors: Tensor, points: Tensor, components: Array) -> Tensor:
    total = np.empty(points.shape[:2])
    log_weights, means = array(mixture.log_weights), array(mixture.means)
    _evaluate(log_weights, means, array(factors), array(points), total, components)
    return torch.from_numpy(total)


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
    power, scale = np.empty(BLOCK), np.empty(BLOCK)
    return Block(
        np.zeros((size, BLOCK)),
        np.empty((count, BLOCK)),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty(BLOCK),
        power,
        scale,
        power.view(np.int64),
        scale.view(np.int64),
    )


@inner
def whiten(
    log_weights: Array, means: Array, factors: Array, inverse: Array, shift: Array, peaks: Array
) -> None:
    """Fill the inverse factors, the whitened means with their sign changed, and the log of weight × peak density."""
    count, size = means.shape
    for k in range(count):
        _invert(factors[k], inverse[k])
        peaks[k] = log_weights[k] - 0.5 * size * LOG_TWO_PI
        for i in range(size):
            peaks[k] -= math.log(factors[k, i, i])
            shift[k, i] = 0.0
            for j in range(i + 1):
                shift[k, i] -= inverse[k, i, j] * means[k, j]


@inner
def _invert(factor: Array, inverse: Array) -> None:
    """Inverse of a lower-triangular factor."""
    for j in range(len(factor)):
        inverse[j, j] = 1 / factor[j, j]
        for i in range(j + 1, len(factor)):
            total = 0.0
            for k in range(j, i):
                total += factor[i, k] * inverse[k, j]
            inverse[i, j] = -total / factor[i, i]


@fusing
def fill(inverse: Array, shift: Array, peaks: Array, block: Block) -> None:
    """Log of weight × density of every component at a block's points."""
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


@inner
def sum_components(block: Block, total: Array) -> None:
    """Log of the sum over components, into `total`."""
    count = len(block.values)
    for p in range(BLOCK):
        block.highest[p] = ABSENT
        block.total[p] = 0.0
    for k in range(count):
        for p in range(BLOCK):
            value = block.values[k, p]
            block.highest[p] = value if value > block.highest[p] else block.highest[p]
    for k in range(count):
        near = 0
        for p in range(BLOCK):
            value = block.values[k, p] - block.highest[p]
            # negated, so that what is not a number stays so
            near += not value <= NEGLIGIBLE
            block.argument[p] = UNDERFLOW if value < UNDERFLOW else value
        if near:
            add_exponential(block)
    for p in range(len(total)):
        found = block.highest[p] + math.log(block.total[p])
        total[p] = -math.inf if found <= ABSENT else found


@fusing
def add_exponential(block: Block) -> None:
    """Add the exponential of `argument` to `total`: two to a whole power, times a series."""
    for p in range(BLOCK):
        block.power[p] = block.argument[p] * LOG2_E + ROUND
    for p in range(BLOCK):
        block.scale_bits[p] = (block.power_bits[p] + 1023) << 52
    for p in range(BLOCK):
        whole = block.power[p] - ROUND
        rest = block.argument[p] - whole * LN2_HIGH - whole * LN2_LOW
        series = COEFFICIENTS[0]
        for coefficient in COEFFICIENTS[1:]:
            series = series * rest + coefficient
        block.total[p] += series * block.scale[p]
