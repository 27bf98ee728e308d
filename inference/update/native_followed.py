"""Which components of a prior those of an answer follow in the coordinates that no sensor touches, and how.

See `unseen_coordinates`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_product

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


class Regression(NamedTuple):
    """Of each component of the prior on the seen coordinates."""

    gain: Array  # (K, D, d)
    rest: Array  # (K, D, D), the remaining covariance
    inverse: Array  # (K, d, d), of the factor of the seen covariance
    peak: Array  # (K,), log of weight × highest density of the seen coordinates


class Work(NamedTuple):
    """Space for one component of the answer."""

    factor: Array  # (d, d)
    square: Array  # (d, d)
    across: Array  # (D, d)
    point: Array  # (d,)
    offset: Array  # (d,)
    logs: Array  # (K,)
    shares: Array  # (K,)
    order: Counts  # (K,)
    means: Array  # (K, D), of the extended sources
    covariances: Array  # (K, D, D)
    mean: Array  # (D,), of all of them
    covariance: Array  # (D, D)
    whole: Array  # (D, D), factor


@inner
def new_work(sources: int, size: int, seen: int) -> tuple[Regression, Work]:
    regression = Regression(
        np.empty((sources, size, seen)), np.empty((sources, size, size)),
        np.zeros((sources, seen, seen)), np.empty(sources),
    )  # fmt: skip
    small, large, of_each = np.empty((2, seen, seen)), np.empty((2, size, size)), np.empty((2, sources))
    work = Work(
        small[0], small[1],
        np.empty((size, seen)), np.empty(seen), np.empty(seen),
        of_each[0], of_each[1], np.empty(sources, np.int64),
        np.empty((sources, size)), np.empty((sources, size, size)),
        np.empty(size), large[0], large[1],
    )  # fmt: skip
    return regression, work


@borrowing
def regress(whole: Numbers, b: int, k: int, axes: Counts, found: Regression, work: Work) -> None:
    """Fill the regression of one component of the prior."""
    log_weights, _, covariances = whole
    size, seen = work.across.shape
    covariance, gain = covariances[b, k], found.gain[k]
    for i in range(seen):
        for j in range(seen):
            work.square[i, j] = covariance[axes[i], axes[j]]
    factorise(work.square, TINY, ROUNDING, work.factor)
    found.peak[k] = log_weights[b, k]
    for i in range(seen):
        found.peak[k] -= math.log(work.factor[i, i])
    invert_product(work.factor, found.inverse[k], work.square)
    for i in range(size):
        for j in range(seen):
            gain[i, j] = 0.0
            for m in range(seen):
                gain[i, j] += covariance[i, axes[m]] * work.square[m, j]
    # seen coordinates follow exactly, so that rounding makes no variance negative
    for i in range(seen):
        for j in range(seen):
            gain[axes[i], j] = 1.0 if i == j else 0.0
    for i in range(size):
        for j in range(size):
            total = covariance[i, j]
            for m in range(seen):
                for n in range(seen):
                    total -= gain[i, m] * covariance[axes[m], axes[n]] * gain[j, n]
            found.rest[k, i, j] = total
    for i in range(size):
        for j in range(i):
            mean = 0.5 * (found.rest[k, i, j] + found.rest[k, j, i])
            found.rest[k, i, j] = found.rest[k, j, i] = mean
    for i in range(seen):
        for j in range(size):
            found.rest[k, axes[i], j] = found.rest[k, j, axes[i]] = 0.0


@borrowing
def responsible(
    answer: Numbers,
    whole: Numbers,
    b: int,
    j: int,
    axes: Counts,
    regression: Regression,
    least: float,
    work: Work,
) -> int:
    """Fill the shares of the prior's components and their order; returns how many count."""
    count, seen = len(work.shares), len(work.point)
    factorise(answer[2][b, j], TINY, ROUNDING, work.factor)
    for k in range(count):
        work.shares[k] = 0.0
    step = math.sqrt(seen)
    for place in range(2 * seen if count > 1 else 0):
        side, column = (step, place) if place < seen else (-step, place - seen)
        for i in range(seen):
            work.point[i] = answer[1][b, j, i] + side * work.factor[i, column]
        _add_shares(whole, b, axes, regression, work, 1 / (2 * seen))
    total = 0.0
    for k in range(count):
        work.shares[k] = 0.0 if work.shares[k] < least else work.shares[k]
        total += work.shares[k]
    used = 0
    for k in range(count):
        work.shares[k] = work.shares[k] / total if total > 0 else 1.0 / count
        work.order[k] = k
        used += 1 if work.shares[k] > 0 else 0
    for k in range(1, count):  # sorted by falling share; equal ones stay in order
        place = k
        while place > 0 and work.shares[work.order[place]] > work.shares[work.order[place - 1]]:
            work.order[place], work.order[place - 1] = work.order[place - 1], work.order[place]
            place -= 1
    return max(1, used)


@borrowing
def _add_shares(
    whole: Numbers, b: int, axes: Counts, regression: Regression, work: Work, part: float
) -> None:
    """Add the responsibilities of the prior's components at `work.point`, times a part."""
    highest, total = -math.inf, 0.0
    for k in range(len(work.logs)):
        log = regression.peak[k]
        for i in range(len(work.point)):
            offset = 0.0
            for m in range(i + 1):
                offset += regression.inverse[k, i, m] * (work.point[m] - whole[1][b, k, axes[m]])
            log -= 0.5 * offset * offset
        work.logs[k] = log
        highest = max(highest, log)
    for k in range(len(work.logs)):
        work.logs[k] = math.exp(work.logs[k] - highest)
        total += work.logs[k]
    for k in range(len(work.logs)):
        work.shares[k] += part * work.logs[k] / total
