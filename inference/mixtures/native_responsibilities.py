"""Shares of points among the components of a mixture in the plane, for the fit of `native_fitting`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing, fusing
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    FAINTEST,
    ROOT,
    Block,
    add_exponential,
    fill,
    find_highest,
    frame_of_powers,
    power_at,
    relative_to,
)
from beliefstream.inference.mixtures.native_exponential import logarithm, roughly_power_of_two

Array = NDArray[np.float64]

LEAST_POWER = -400.0  # of two; products and squares of less are no normal numbers
FAINT = 2.0**-300  # of a sum of densities beside the highest peak, below which their logs are taken first
NOTHING = 1e-20  # part of a point


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
