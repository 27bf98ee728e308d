"""Joint log likelihoods at many points, for the processor.

Points are taken a block at a time, one number of each in a row, so that the compiler vectorises all loops. An
observation that may be an outlier has a sum of two exponentials. Its logarithm is taken once for all observations of a
point: of the product of ``1 + exp(-|log odds|)``, which lies between 1 and a power of two.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_angles import arctangent, within_half_a_turn
from beliefstream.inference.likelihood.native_derivatives import SOFT
from beliefstream.inference.likelihood.native_terms import LOG_WIDE, WIDE_OUTLIER, Array, Seen, smallest
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_density import BLOCK, Block, add_exponential, new_block
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, logarithm

SEVERAL = (
    256  # observations, after which the product is taken into the sum: 2 to this power is a finite number
)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    seen, point, _ = smallest()
    log_likelihood(seen, point)


def log_likelihood(observations: Seen, points: Tensor) -> Tensor:
    """Joint log likelihood ``(B, P)``, as `Observations.log_likelihood`."""
    found = np.empty(points.shape[:2])
    _log_likelihood(observations, array(points), found)
    return torch.from_numpy(found).to(points.dtype)


@native
def _log_likelihood(seen: Seen, points: Array, found: Array) -> None:
    number, rows, size = seen.matrix.shape[1:]
    block = new_block(1, size)
    relative, product, total = np.empty((rows, BLOCK)), np.empty(BLOCK), np.empty(BLOCK)
    for b in range(len(points)):
        for start in range(0, points.shape[1], BLOCK):
            some = min(BLOCK, points.shape[1] - start)
            for i in range(size):
                for p in range(some):
                    block.points[i, p] = points[b, start + p, i]
            for p in range(BLOCK):
                product[p], total[p] = 1.0, 0.0
            since = 0
            for n in range(number):
                if not seen.mask[b, n]:
                    continue
                fill_relative(seen, b, n, block, relative)
                fill_squared(seen, b, n, block, relative)
                add_observation(seen, b, n, block, product, total)
                since += 1
                if since == SEVERAL:
                    close(product, total)
                    since = 0
            close(product, total)
            for p in range(some):
                found[b, start + p] = total[p]


@borrowing
def fill_relative(seen: Seen, b: int, n: int, block: Block, relative: Array) -> None:
    """Coordinates of the points relative to the sensor."""
    for r in range(len(relative)):
        origin = seen.origin[b, n, r]
        for p in range(BLOCK):
            relative[r, p] = -origin
        for j in range(len(block.points)):
            entry = seen.matrix[b, n, r, j]
            for p in range(BLOCK):
                relative[r, p] += entry * block.points[j, p]


@borrowing
def fill_squared(seen: Seen, b: int, n: int, block: Block, relative: Array) -> None:
    """Squared residuals, into `block.offset`."""
    squared, rows = block.offset, len(relative)
    if seen.kind[b, n] == LINEAR:
        for p in range(BLOCK):
            squared[p] = 0.0
        for r in range(rows):
            value = seen.value[b, n, r]
            for p in range(BLOCK):
                squared[p] += (value - relative[r, p]) * (value - relative[r, p])
        return
    value, deviation = seen.value[b, n, 0], seen.deviation[b, n]
    if seen.kind[b, n] == ANGLE and rows > 1:
        for p in range(BLOCK):
            squared[p] = value
        for j in range(len(block.points)):
            turn = seen.heading[b, n, j]
            for p in range(BLOCK):
                squared[p] += turn * block.points[j, p]
        for p in range(BLOCK):
            off = within_half_a_turn(squared[p] - arctangent(relative[1, p], relative[0, p])) / deviation
            squared[p] = off * off
        return
    for p in range(BLOCK):
        squared[p] = SOFT
    for r in range(rows):
        for p in range(BLOCK):
            squared[p] += relative[r, p] * relative[r, p]
    for p in range(BLOCK):
        off = (value - math.sqrt(squared[p])) / deviation
        squared[p] = off * off


@borrowing
def add_observation(seen: Seen, b: int, n: int, block: Block, product: Array, total: Array) -> None:
    """Add the larger of an inlier's and an outlier's log density to the total, and multiply the rest in."""
    squared = block.offset
    best, constant = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n]
    if constant == -math.inf:
        for p in range(BLOCK):
            total[p] += best - 0.5 * squared[p]
        return
    slope = 0.0
    if seen.kind[b, n] == LINEAR:
        slope = -0.5 / WIDE_OUTLIER**2
        constant -= seen.constant[b, n] + seen.rows[b, n] * LOG_WIDE
    else:
        constant += seen.outlier[b, n]
    for p in range(BLOCK):
        inlier, outlier = best - 0.5 * squared[p], constant + slope * squared[p]
        total[p] += inlier if inlier > outlier else outlier
        odds = -abs(inlier - outlier)
        block.argument[p] = UNDERFLOW if odds < UNDERFLOW else odds
        block.total[p] = 1.0
    add_exponential(block.argument, block.total)
    for p in range(BLOCK):
        product[p] *= block.total[p]


@borrowing
def close(product: Array, total: Array) -> None:
    """Take the product into the total."""
    for p in range(BLOCK):
        total[p] += logarithm(product[p])
        product[p] = 1.0
