"""Extension of an answer to the coordinates that no sensor touches, for the processor; see `unseen_coordinates`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    put_matrix,
    put_vector,
)
from beliefstream.inference.update.native_followed import Regression, Work, new_work, regress, responsible

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


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
    batch, _, seen = answer[1].shape
    sources, size = whole[1].shape[1:]
    (regression, work), most = new_work(sources, size, seen), 1
    for b in range(batch):
        most = max(most, _extend_one(answer, whole, b, axes, limits, found, regression, work))
    return most


@borrowing
def _extend_one(
    answer: Numbers,
    whole: Numbers,
    b: int,
    axes: Counts,
    limits: tuple[float, float],
    found: tuple[Array, Array, Array],
    regression: Regression,
    work: Work,
) -> int:
    count, (sources, size), most = answer[1].shape[1], whole[1].shape[1:], 1
    for k in range(sources):
        regress(whole, b, k, axes, regression, work)
    for j in range(count):
        used = responsible(answer, whole, b, j, axes, regression, limits[0], work)
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
