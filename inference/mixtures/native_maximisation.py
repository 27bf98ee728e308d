"""Weighted expectation-maximisation, compiled for the processor.

Points are taken a block at a time, as in `native_density`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import (
    ABSENT,
    BLOCK,
    FAINTEST,
    Block,
    fill,
    find_highest,
    new_block,
    whiten,
)
from beliefstream.inference.mixtures.native_exponential import roughly_exponential
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]

LEAST_MASS = 1e-6  # below it, a component stays as it is
SMALLEST = 1e-20  # divisor
LEAST_SHARE = -30.0  # log of a component's share of a point; of less, a block of points has none


class Room(NamedTuple):
    """Space for the steps of one mixture of ``K`` components, on ``M`` blocks of points."""

    factors: Array  # (K, D, D)
    inverse: Array  # (K, D, D)
    shift: Array  # (K, D)
    peaks: Array  # (K,)
    points: Array  # (D, M, BLOCK)
    weights: Array  # (M, BLOCK)
    responsibility: Array  # (K, M, BLOCK)
    active: NDArray[np.bool_]  # (K, M), whether any point of the block is a component's
    mean: Array  # (D,)
    block: Block


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    maximised(GaussianMixture(one[0].log(), one, one[..., None]), one, one[0], 1.0, 1)


def maximised(
    answer: GaussianMixture, points: Tensor, log_weights: Tensor, old_points: float, steps: int
) -> GaussianMixture:
    """An answer after so many steps of expectation-maximisation.

    Args:
        answer: of ``K`` components.
        points: ``(B, P, d)``, with importance weights of these logs ``(B, P)``, which need not be normalised.
        old_points: how many effective points a component's old shape counts for.
        steps: how many.
    """
    given = Numbers(*(part.copy() for part in answer.numbers))
    _maximise(given, array(points), array(log_weights), old_points, steps)
    return GaussianMixture(*map(torch.from_numpy, given))


@native
def _maximise(given: Numbers, points: Array, log_weights: Array, old_points: float, steps: int) -> None:
    count, size = given.means.shape[1:]
    room = _new_room(count, size, (points.shape[1] + BLOCK - 1) // BLOCK)
    for row in range(len(points)):
        _take(points[row], log_weights[row], room)
        one = Numbers(given.log_weights[row], given.means[row], given.covariances[row])
        for _ in range(steps):
            _step(one, points.shape[1], old_points, room)


@inner
def _new_room(count: int, size: int, blocks: int) -> Room:
    return Room(
        np.empty((count, size, size)),
        np.empty((count, size, size)),
        np.empty((count, size)),
        np.empty(count),
        np.zeros((size, blocks, BLOCK)),
        np.zeros((blocks, BLOCK)),
        np.empty((count, blocks, BLOCK)),
        np.empty((count, blocks), np.bool_),
        np.empty(size),
        new_block(count, size),
    )


@borrowing
def _take(points: Array, log_weights: Array, room: Room) -> None:
    """Put one problem's points in blocks, with weights that sum to one."""
    highest, total = -math.inf, 0.0
    for p in range(len(points)):
        highest = log_weights[p] if log_weights[p] > highest else highest
    for p in range(len(points)):
        weight = math.exp(log_weights[p] - highest)
        room.weights[p // BLOCK, p % BLOCK] = weight
        total += weight
        for i in range(points.shape[1]):
            room.points[i, p // BLOCK, p % BLOCK] = points[p, i]
    for number in range(len(room.weights)):
        for p in range(BLOCK):
            room.weights[number, p] /= total


@borrowing
def _step(answer: Numbers, number: int, old_points: float, room: Room) -> None:
    """One step for one problem of that `number` of points."""
    log_weights, means, covariances = answer
    count, size = means.shape
    for k in range(count):
        factorise(covariances[k], TINY, ROUNDING, room.factors[k])
    whiten(log_weights, means, room.factors, room.inverse, room.shift, room.peaks)
    for at in range(len(room.weights)):
        for i in range(size):
            for p in range(BLOCK):
                room.block.points[i, p] = room.points[i, at, p]
        fill(room.inverse, room.shift, room.peaks, room.block)
        _share(room, at)
    total = 0.0
    for k in range(count):
        mass = _move(room, k, old_points, means[k], covariances[k])
        log_weights[k] = mass + 0.5 / number * math.exp(log_weights[k]) + 1e-9
        total += log_weights[k]
    for k in range(count):
        log_weights[k] = math.log(log_weights[k] / total)


@borrowing
def _move(room: Room, k: int, old_points: float, old: Array, covariance: Array) -> float:
    """Replace mean and covariance of a component by those of its points and its old shape; returns its mass."""
    mean, scatter = room.mean, room.factors[k]
    mass, kept = _mean(room, k, old, old_points, mean)
    _scatter(room, k, mean, scatter)
    for i in range(len(mean)):
        for j in range(i + 1):
            was = 0.5 * (covariance[i, j] + covariance[j, i]) + (old[i] - mean[i]) * (old[j] - mean[j])
            value = (1 - kept) * scatter[i, j] / max(mass, SMALLEST) + kept * was
            covariance[i, j] = covariance[j, i] = value
    for i in range(len(mean)):
        old[i] = mean[i]
    return mass


@borrowing
def _share(room: Room, at: int) -> None:
    """Share the weight of each point of a block among the components."""
    values, highest, argument, factor = (
        room.block.values,
        room.block.highest,
        room.block.argument,
        room.block.offset,
    )
    find_highest(values, highest)
    none = 0  # points without any component, whose shares are no numbers
    for p in range(BLOCK):
        factor[p] = 0.0
        none += not highest[p] > ABSENT
    for k in range(len(values)):
        density, near = room.responsibility[k, at], none
        for p in range(BLOCK):
            value = values[k, p] - highest[p]
            near += not value <= LEAST_SHARE  # negated, so that what is not a number stays so
            argument[p] = FAINTEST if value < FAINTEST else value
        room.active[k, at] = near > 0
        if near > 0:
            _fill_exponential(argument, density)
            for p in range(BLOCK):
                factor[p] += density[p]
    for p in range(BLOCK):
        whole = factor[p] if highest[p] > ABSENT else math.nan
        factor[p] = room.weights[at, p] / whole
    for k in range(len(values)):
        density = room.responsibility[k, at]
        for p in range(BLOCK if room.active[k, at] else 0):
            density[p] *= factor[p]


@fusing
def _fill_exponential(argument: Array, value: Array) -> None:
    for p in range(BLOCK):
        value[p] = roughly_exponential(argument[p])


@adding
def _mean(room: Room, k: int, old: Array, old_points: float, mean: Array) -> tuple[float, float]:
    """Find the new mean of a component; returns its mass, and the part of its old shape that it keeps."""
    mass, squares = 0.0, 0.0
    for i in range(len(old)):
        mean[i] = 0.0
    for at in range(len(room.weights)):
        if not room.active[k, at]:
            continue
        shares = room.responsibility[k, at]
        for p in range(BLOCK):
            mass += shares[p]
            squares += shares[p] * shares[p]
        for i in range(len(old)):
            total, coordinate = 0.0, room.points[i, at]
            for p in range(BLOCK):
                total += shares[p] * coordinate[p]
            mean[i] += total
    kept = 1.0 if mass < LEAST_MASS else old_points / (mass * mass / max(squares, SMALLEST) + old_points)
    for i in range(len(old)):
        average = mean[i] / max(mass, SMALLEST)
        mean[i] = average + kept * (old[i] - average)
    return mass, kept


@adding
def _scatter(room: Room, k: int, mean: Array, scatter: Array) -> None:
    """Scatter of the points of a component about its new mean."""
    size = len(mean)
    for i in range(size):
        for j in range(i + 1):
            scatter[i, j] = 0.0
    for at in range(len(room.weights)):
        if not room.active[k, at]:
            continue
        shares = room.responsibility[k, at]
        for i in range(size):
            one = room.points[i, at]
            for j in range(i + 1):
                total, other = 0.0, room.points[j, at]
                for p in range(BLOCK):
                    total += shares[p] * (one[p] - mean[i]) * (other[p] - mean[j])
                scatter[i, j] += total
