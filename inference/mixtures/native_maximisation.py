"""Moments for a step of weighted expectation-maximisation, for the processor.

Points are taken a block at a time, as in `native_density`.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_density import (
    ABSENT,
    BLOCK,
    NEGLIGIBLE,
    UNDERFLOW,
    Block,
    add_exponential,
    fill,
    new_block,
    whiten,
)

Array = NDArray[np.float64]

LEAST_MASS = 1e-6  # below it, a component stays as it is
SMALLEST = 1e-20  # divisor


def prepare() -> None:
    """Compile the moments, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    moments(GaussianMixture(one[0].log(), one, one[..., None]), one[..., None], one, one[0], 1.0)


def moments(
    answer: GaussianMixture, factors: Tensor, points: Tensor, share: Tensor, old_points: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `inference.update.refinement.moments`, of tensors in double precision on the CPU."""
    batch, count, size = answer.means.shape
    mass, kept = np.empty((batch, count)), np.empty((batch, count))
    means, scatter = np.empty((batch, count, size)), np.empty((batch, count, size, size))
    given = (
        array(answer.log_weights),
        array(answer.means),
        array(factors),
        array(points),
        array(share),
    )
    _moments_of_all(given, old_points, (mass, kept, means, scatter))
    return (
        torch.from_numpy(mass),
        torch.from_numpy(kept),
        torch.from_numpy(means),
        torch.from_numpy(scatter),
    )


@native
def _moments_of_all(
    given: tuple[Array, Array, Array, Array, Array],
    old_points: float,
    found: tuple[Array, Array, Array, Array],
) -> None:
    log_weights, means, factors, points, share = given
    mass, kept, new_means, scatter = found
    count, size = means.shape[1:]
    places = (points.shape[1] + BLOCK - 1) // BLOCK * BLOCK
    block = new_block(count, size)
    inverse, shift, peaks = np.empty((count, size, size)), np.empty((count, size)), np.empty(count)
    at, weight, responsibility = np.zeros((size, places)), np.zeros(places), np.empty((count, places))
    lanes = np.empty(BLOCK)
    for row in range(len(means)):
        whiten(log_weights[row], means[row], factors[row], inverse, shift, peaks)
        for p in range(points.shape[1]):
            weight[p] = share[row, p]
            for i in range(size):
                at[i, p] = points[row, p, i]
        for start in range(0, places, BLOCK):
            for i in range(size):
                for p in range(BLOCK):
                    block.points[i, p] = at[i, start + p]
            fill(inverse, shift, peaks, block)
            _share(block, weight[start : start + BLOCK], responsibility[:, start : start + BLOCK])
        for k in range(count):
            mean = new_means[row, k]
            mass[row, k], kept[row, k] = _mean(responsibility[k], at, means[row, k], old_points, lanes, mean)
            _scatter(responsibility[k], at, mean, lanes, scatter[row, k])


@inner
def _share(block: Block, weight: Array, responsibility: Array) -> None:
    """Share the weight of each point of a block among the components."""
    count = len(block.values)
    for p in range(BLOCK):
        block.highest[p] = ABSENT
        block.offset[p] = 0.0
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
            block.total[p] = 0.0
        if near:
            add_exponential(block)
        for p in range(BLOCK):
            responsibility[k, p] = block.total[p]
            block.offset[p] += block.total[p]
    for p in range(BLOCK):
        whole = block.offset[p] if block.highest[p] > ABSENT else math.nan
        block.offset[p] = weight[p] / whole
    for k in range(count):
        for p in range(BLOCK):
            responsibility[k, p] *= block.offset[p]


@fusing
def _mean(
    responsibility: Array, at: Array, old: Array, old_points: float, lanes: Array, mean: Array
) -> tuple[float, float]:
    """Find the new mean of a component; returns its mass, and the part of its old shape that it keeps."""
    for p in range(BLOCK):
        lanes[p] = 0.0
    for start in range(0, len(responsibility), BLOCK):
        for p in range(BLOCK):
            lanes[p] += responsibility[start + p]
    mass = lanes.sum()
    for p in range(BLOCK):
        lanes[p] = 0.0
    for start in range(0, len(responsibility), BLOCK):
        for p in range(BLOCK):
            lanes[p] += responsibility[start + p] * responsibility[start + p]
    squares = max(lanes.sum(), SMALLEST)
    kept = 1.0 if mass < LEAST_MASS else old_points / (mass * mass / squares + old_points)
    for i in range(len(old)):
        for p in range(BLOCK):
            lanes[p] = 0.0
        for start in range(0, len(responsibility), BLOCK):
            for p in range(BLOCK):
                lanes[p] += responsibility[start + p] * at[i, start + p]
        found = lanes.sum() / max(mass, SMALLEST)
        mean[i] = found + kept * (old[i] - found)
    return mass, kept


@fusing
def _scatter(responsibility: Array, at: Array, mean: Array, lanes: Array, scatter: Array) -> None:
    """Scatter of the points of a component about its new mean."""
    for i in range(len(mean)):
        for j in range(i + 1):
            for p in range(BLOCK):
                lanes[p] = 0.0
            for start in range(0, len(responsibility), BLOCK):
                for p in range(BLOCK):
                    offset = (at[i, start + p] - mean[i]) * (at[j, start + p] - mean[j])
                    lanes[p] += responsibility[start + p] * offset
            scatter[i, j] = scatter[j, i] = lanes.sum()
