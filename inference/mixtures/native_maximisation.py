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
from beliefstream.inference.mixtures.native import adding, borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_density import (
    ABSENT,
    BLOCK,
    FAINTEST,
    Block,
    add_exponential,
    fill,
    find_highest,
    new_block,
    relative_to,
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
    """Moments of the points ``(B, P, d)`` that each component of an answer stands for.

    Args:
        answer: of ``K`` components; factors: of its covariances.
        points: weighted by `share` ``(B, P)``.
        old_points: how many effective points a component's old shape counts for.

    Returns:
        The mass ``(B, K)``, the share of its old shape that a component keeps ``(B, K)``, the new mean ``(B, K, d)``,
        and the scatter about it ``(B, K, d, d)``, not divided by the mass.
    """
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
    into: tuple[Array, Array, Array, Array],
) -> None:
    log_weights, means, factors, points, share = given
    mass, kept, new_means, scatter = into
    count, size = means.shape[1:]
    blocks = (points.shape[1] + BLOCK - 1) // BLOCK
    block = new_block(count, size)
    inverse, shift, peaks = np.empty((count, size, size)), np.empty((count, size)), np.empty(count)
    at, weight, responsibility = (
        np.zeros((size, blocks * BLOCK)),
        np.zeros(blocks * BLOCK),
        np.empty((count, blocks * BLOCK)),
    )
    # the same by blocks
    at_block, weight_block, responsibility_block = (
        at.reshape(size, blocks, BLOCK),
        weight.reshape(blocks, BLOCK),
        responsibility.reshape(count, blocks, BLOCK),
    )
    for row in range(len(means)):
        whiten(log_weights[row], means[row], factors[row], inverse, shift, peaks)
        for p in range(points.shape[1]):
            weight[p] = share[row, p]
            for i in range(size):
                at[i, p] = points[row, p, i]
        for number in range(blocks):
            for i in range(size):
                for p in range(BLOCK):
                    block.points[i, p] = at_block[i, number, p]
            fill(inverse, shift, peaks, block)
            _share(block, weight_block[number], responsibility_block, number)
        for k in range(count):
            mean = new_means[row, k]
            mass[row, k], kept[row, k] = _mean(responsibility[k], at, means[row, k], old_points, mean)
            _scatter(responsibility[k], at, mean, scatter[row, k])


@borrowing
def _share(block: Block, weight: Array, responsibility: Array, number: int) -> None:
    """Share the weight of each point of a block among the components."""
    highest, argument, factor = block.highest, block.argument, block.offset
    find_highest(block.values, highest)
    for p in range(BLOCK):
        factor[p] = 0.0
    for k in range(len(block.values)):
        density = responsibility[k, number]
        for p in range(BLOCK):
            density[p] = 0.0
        if relative_to(highest, block.values[k], argument):
            for p in range(BLOCK):
                argument[p] = max(argument[p], FAINTEST)
            add_exponential(argument, density)
        for p in range(BLOCK):
            factor[p] += density[p]
    for p in range(BLOCK):
        whole = factor[p] if highest[p] > ABSENT else math.nan
        factor[p] = weight[p] / whole
    for k in range(len(block.values)):
        density = responsibility[k, number]
        for p in range(BLOCK):
            density[p] *= factor[p]


@adding
def _mean(
    responsibility: Array, at: Array, old: Array, old_points: float, mean: Array
) -> tuple[float, float]:
    """Find the new mean of a component; returns its mass, and the part of its old shape that it keeps."""
    mass, squares = 0.0, 0.0
    for p in range(len(responsibility)):
        mass += responsibility[p]
        squares += responsibility[p] * responsibility[p]
    kept = 1.0 if mass < LEAST_MASS else old_points / (mass * mass / max(squares, SMALLEST) + old_points)
    for i in range(len(old)):
        average, coordinate = 0.0, at[i]
        for p in range(len(responsibility)):
            average += responsibility[p] * coordinate[p]
        average /= max(mass, SMALLEST)
        mean[i] = average + kept * (old[i] - average)
    return mass, kept


@adding
def _scatter(responsibility: Array, at: Array, mean: Array, scatter: Array) -> None:
    """Scatter of the points of a component about its new mean."""
    for i in range(len(mean)):
        for j in range(i + 1):
            total, one, other = 0.0, at[i], at[j]
            for p in range(len(responsibility)):
                total += responsibility[p] * (one[p] - mean[i]) * (other[p] - mean[j])
            scatter[i, j] = scatter[j, i] = total
