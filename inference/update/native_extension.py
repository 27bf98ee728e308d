"""Extension of an answer to the coordinates that no sensor touches, for the processor; see `unseen_coordinates`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)

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


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0].log(), one, one[..., None])
    extend(mixture, mixture, [0], 1e-3, 2e-3)


def extend(
    answer: GaussianMixture, whole: GaussianMixture, axes: Sequence[int], least: float, merged_below: float
) -> GaussianMixture:
    """As `unseen_coordinates.extend` with the responsibilities that `unseen_coordinates.responsibilities` finds.

    Responsibilities below `least` do not count, and sources are merged where that costs less than `merged_below` nats.
    """
    (batch, count, _), (_, sources, size) = answer.means.shape, whole.means.shape
    shape = batch, count, sources
    found = np.full(shape, -math.inf), np.zeros((*shape, size)), np.zeros((*shape, size, size))
    limits = least, merged_below
    most = extend_all(numbers_of(answer), numbers_of(whole), np.array(axes, np.int64), limits, found)
    log_weights, means, covariances = (torch.from_numpy(part)[:, :, :most].flatten(1, 2) for part in found)
    return GaussianMixture(log_weights, means, covariances)


@native
def extend_all(
    answer: Numbers,
    whole: Numbers,
    axes: Counts,
    limits: tuple[float, float],
    found: tuple[Array, Array, Array],
) -> int:
    """Fill the extended components; returns the largest number of places that one component of the answer takes."""
    batch, count, seen = answer[1].shape
    sources, size = whole[1].shape[1:]
    (regression, work), most = new_work(sources, size, seen), 1
    for b in range(batch):
        for k in range(sources):
            regress(whole, b, k, axes, regression, work)
        for j in range(count):
            used = _responsible(answer, whole, b, j, axes, regression, limits[0], work)
            for s in range(used):
                _follow(answer, whole, b, j, work.order[s], s, axes, regression, work)
            if used > 1 and _merge(math.exp(answer[0][b, j]), used, limits[1], work):
                used = 1
            most = max(most, used if answer[0][b, j] > -math.inf else 1)
            for s in range(used):
                share = 1.0 if used == 1 else work.shares[work.order[s]]
                found[0][b, j, s] = answer[0][b, j] + math.log(share)
                for i in range(size):
                    found[1][b, j, s, i] = work.means[s, i]
                    for other in range(size):
                        found[2][b, j, s, i, other] = work.covariances[s, i, other]
            for s in range(used, sources):  # filler of places without weight
                put_vector(found[1][b, j, s], found[1][b, j, 0])
                put_matrix(found[2][b, j, s], found[2][b, j, 0])
    return most


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
def _responsible(
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


@borrowing
def _follow(
    answer: Numbers,
    whole: Numbers,
    b: int,
    j: int,
    k: int,
    s: int,
    axes: Counts,
    regression: Regression,
    work: Work,
) -> None:
    """Fill the mean and covariance of a component of the answer as one of the prior extends it."""
    gain, rest, covariance = regression.gain[k], regression.rest[k], answer[2][b, j]
    size, seen = gain.shape
    for i in range(seen):
        work.offset[i] = answer[1][b, j, i] - whole[1][b, k, axes[i]]
    for i in range(size):
        work.means[s, i] = whole[1][b, k, i]
        for m in range(seen):
            work.means[s, i] += gain[i, m] * work.offset[m]
            work.across[i, m] = 0.0
            for n in range(seen):
                work.across[i, m] += gain[i, n] * covariance[n, m]
    for i in range(size):
        for other in range(i + 1):
            total = 0.0
            for m in range(seen):
                total += work.across[i, m] * gain[other, m] + work.across[other, m] * gain[i, m]
            found = rest[i, other] + 0.5 * total
            work.covariances[s, i, other] = work.covariances[s, other, i] = found


@borrowing
def _merge(weight: float, used: int, below: float, work: Work) -> bool:
    """Merge the sources into the first place, if that costs little; returns whether it did."""
    mean, covariance, size = work.mean, work.covariance, len(work.mean)
    for i in range(size):
        mean[i] = 0.0
        for s in range(used):
            mean[i] += work.shares[work.order[s]] * work.means[s, i]
    apart = 0.0
    for s in range(used):
        apart += work.shares[work.order[s]] * _volume(work.covariances[s], work.whole)
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for s in range(used):
                spread = (work.means[s, i] - mean[i]) * (work.means[s, j] - mean[j])
                total += work.shares[work.order[s]] * (work.covariances[s, i, j] + spread)
            covariance[i, j] = covariance[j, i] = total
    # Runnalls' bound, as in `inference.mixtures.reduction`
    if not weight * (_volume(covariance, work.whole) - apart) < below:
        return False
    for i in range(size):
        work.means[0, i] = mean[i]
        for j in range(size):
            work.covariances[0, i, j] = covariance[i, j]
    return True


@borrowing
def _volume(covariance: Array, factor: Array) -> float:
    """Half the log determinant."""
    factorise(covariance, TINY, ROUNDING, factor)
    total = 0.0
    for i in range(len(factor)):
        total += math.log(factor[i, i])
    return total
