"""Gauss-Newton images of the prior, for the processor; see `inference.update.importance.prior_images`.

Everything is computed in double precision, one problem after another. It takes observations with plain noise and
without functions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import (
    Seen,
    Space,
    linearise_at,
    new_space,
    relative_to,
    smallest,
    terms,
)
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_one,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.network.native_tokens import Given, given_of
from beliefstream.inference.network.transformer import Tokens, duplicate_components

Array = NDArray[np.float64]

SMALLEST = 1e-12  # added to a squared curvature


class Work(NamedTuple):
    """Space for one image."""

    factor: Array
    inverse: Array
    prior: Array
    precision: Array
    identity: Array
    pull: Array
    step: Array
    gradient: Array
    information: Array
    curvature: Array
    slope: Array


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    seen, point, factor = smallest()
    prior = GaussianMixture(point[..., 0].log(), point, factor)
    images(duplicate_components(prior, 1), point[0], seen, 2, 1, 1.0)


def images(
    tokens: Tokens, any_way: Tensor, seen: Seen, each: int, rounds: int, farther: float
) -> tuple[Tensor, Tensor]:
    """Means and covariances of `each` image per token, in the precision of the tokens.

    `any_way` ``(K, d)`` are offsets of the second starts of tokens without one of their own, and `farther` is how much
    farther the second starts are.
    """
    batch, count, size = tokens.means.shape
    found = np.empty((batch, each * count, size)), np.empty((batch, each * count, size, size))
    _images(given_of(tokens), array(any_way), seen, rounds, farther, found)
    means, covariances = (torch.from_numpy(part).to(tokens.means.dtype) for part in found)
    return means, covariances


@native
def _images(
    tokens: Given, any_way: Array, seen: Seen, rounds: int, farther: float, found: tuple[Array, Array]
) -> None:
    batch, count, size = tokens.means.shape
    number = seen.kind.shape[1]
    work, sight = _new_work(size), new_space(seen)
    used, size_of, near = np.empty(number), np.empty(number), np.empty(size)
    turn_of = np.empty(number, np.int64)
    for b in range(batch):
        several = 0
        for n in range(number):
            several += seen.mask[b, n]
        _rank(tokens, seen, b, sight, near, size_of, turn_of)
        for place in range(found[0].shape[1]):
            k, second = place % count, place >= count
            factorise(tokens.covariances[b, k], LEAST_PIVOT, ROUNDING, work.factor)
            turn = k % (several + 1) if second and several > 1 else 0
            for n in range(number):
                out = turn == turn_of[n] + 1 and seen.log_outlier[b, n] > -math.inf
                used[n] = 1.0 if seen.mask[b, n] and not out else 0.0
            _start(tokens, any_way, b, k, farther if second else 0.0, work, found[0][b, place])
            point, covariance = found[0][b, place], found[1][b, place]
            _walk(tokens, seen, b, k, used, rounds, work, sight, point)
            # a step from where a function is flat may diverge: use the prior's component instead
            if not _spread(seen, b, used, work, sight, point, covariance):
                put_vector(point, tokens.means[b, k])
                put_matrix(covariance, tokens.covariances[b, k])


@inner
def _new_work(size: int) -> Work:
    squares, vectors = np.zeros((7, size, size)), np.zeros((4, size))
    for i in range(size):
        squares[4, i, i] = 1.0
    return Work(
        squares[0], squares[1], squares[2], squares[3], squares[4],
        vectors[0], vectors[1], vectors[2], squares[5], squares[6], vectors[3],
    )  # fmt: skip


@borrowing
def _rank(
    tokens: Given, seen: Seen, b: int, sight: Space, near: Array, squares: Array, turn: NDArray[np.int64]
) -> None:
    """Fill the places of the observations in falling order of their residuals at the prior's mean."""
    for i in range(len(near)):
        near[i] = 0.0
        for k in range(tokens.means.shape[1]):
            near[i] += math.exp(tokens.log_weights[b, k]) * tokens.means[b, k, i]
    for n in range(len(squares)):
        squares[n] = -1.0
        if seen.mask[b, n]:
            distance = relative_to(seen, b, n, near, sight.relative)
            squares[n] = terms(seen, b, n, near, sight.relative, distance)[1]
    for n in range(len(squares)):
        turn[n] = 0
        for other in range(len(squares)):
            before = squares[other] > squares[n] or (squares[other] == squares[n] and other < n)
            turn[n] += 1 if before else 0


@borrowing
def _start(tokens: Given, any_way: Array, b: int, k: int, farther: float, work: Work, point: Array) -> None:
    """Fill the start: at the token's offset, or `farther` out on the opposite side."""
    for i in range(len(point)):
        point[i] = tokens.means[b, k, i]
        for j in range(i + 1):
            offset = tokens.spread[b, k, j]
            if farther > 0:
                offset = farther * (-offset if tokens.rank[b, k] > 0 else any_way[k, j])
            point[i] += work.factor[i, j] * offset


@borrowing
def _walk(
    tokens: Given,
    seen: Seen,
    b: int,
    k: int,
    used: Array,
    rounds: int,
    work: Work,
    sight: Space,
    point: Array,
) -> None:
    """Take Gauss-Newton steps from a start; `work.precision` is the precision of the last one."""
    size = len(point)
    factorise(tokens.covariances[b, k], TINY, ROUNDING, work.factor)
    invert_product(work.factor, work.inverse, work.prior)
    into = (work.gradient, work.information, work.curvature, work.slope)
    for _ in range(rounds):
        for i in range(size):
            work.pull[i] = 0.0
            for j in range(size):
                work.precision[i, j] = work.prior[i, j]
                work.pull[i] += work.prior[i, j] * (tokens.means[b, k, j] - point[j])
        for n in range(len(used)):
            if used[n] == 0.0:
                continue
            linearise_at(seen, b, n, point, work.identity, sight, into)
            for i in range(size):
                work.pull[i] += work.gradient[i]
                for j in range(size):
                    work.precision[i, j] += work.information[i, j]
        _step(work, point)


@borrowing
def _step(work: Work, point: Array) -> None:
    """Add the inverse of the precision times the pull."""
    size = len(point)
    factorise(work.precision, TINY, ROUNDING, work.factor)
    invert_one(work.factor, work.inverse)
    for i in range(size):
        work.step[i] = 0.0
        for j in range(i + 1):
            work.step[i] += work.inverse[i, j] * work.pull[j]
    for i in range(size):
        for j in range(i, size):
            point[i] += work.inverse[j, i] * work.step[j]


@borrowing
def _spread(
    seen: Seen, b: int, used: Array, work: Work, sight: Space, point: Array, covariance: Array
) -> bool:
    """Fill the covariance after `_walk`, limited to where the linearisation holds; returns whether all is finite."""
    size, into = len(point), (work.gradient, work.information, work.curvature, work.slope)
    bend = 0.0
    for n in range(len(used)):
        if used[n] == 0.0:
            continue
        linearise_at(seen, b, n, point, work.identity, sight, into)
        squared = SMALLEST
        for i in range(size):
            for j in range(size):
                squared += work.curvature[i, j] * work.curvature[i, j]
        bend += math.sqrt(squared)
    for i in range(size):
        work.precision[i, i] += bend
    factorise(work.precision, TINY, ROUNDING, work.factor)
    invert_product(work.factor, work.inverse, covariance)
    total = 0.0
    for i in range(size):
        total += abs(point[i])
        for j in range(size):
            total += abs(covariance[i, j])
    return math.isfinite(total)
