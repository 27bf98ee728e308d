"""`inference.tracking.accumulated_error` for the processor, without a tensor operator."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_product,
)

Array = NDArray[np.float64]
Work = tuple[Array, Array, Array, Array, Array, Array]


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0].log(), one, one[..., None])
    share_of_noise(one, mixture)
    share_of_posterior(mixture, mixture)


def share_of_noise(noise: Tensor, predicted: GaussianMixture) -> tuple[Tensor, Tensor]:
    """As `accumulated_error.share`, of the noise ``(B, D, D)`` in the covariance of `predicted`."""
    found = np.empty((2, predicted.batch))
    _of_noise(array(noise), numbers_of(predicted), found)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


def share_of_posterior(posterior: GaussianMixture, prior: GaussianMixture) -> tuple[Tensor, Tensor]:
    """As `accumulated_error.share`, of the covariance of `posterior` in that of `prior`."""
    found = np.empty((2, prior.batch))
    _of_posterior(numbers_of(posterior), numbers_of(prior), found)
    return torch.from_numpy(found[0]), torch.from_numpy(found[1])


@native
def _of_noise(noise: Array, predicted: Numbers, found: Array) -> None:
    work = space_for(noise.shape[1])
    for b in range(len(noise)):
        covariance_of(predicted[0][b], predicted[1][b], predicted[2][b], work[0], work[1])
        found[0, b], found[1, b] = share_of(noise[b], work)


@native
def _of_posterior(posterior: Numbers, prior: Numbers, found: Array) -> None:
    size = prior[1].shape[2]
    work, part = space_for(size), np.empty((size, size))
    for b in range(len(prior[1])):
        covariance_of(posterior[0][b], posterior[1][b], posterior[2][b], part, work[1])
        covariance_of(prior[0][b], prior[1][b], prior[2][b], work[0], work[1])
        found[0, b], found[1, b] = share_of(part, work)


@inner
def space_for(size: int) -> Work:
    matrices = np.empty((5, size, size))
    return matrices[0], np.empty(size), matrices[1], matrices[2], matrices[3], matrices[4]


@borrowing
def covariance_of(log_weights: Array, means: Array, covariances: Array, into: Array, mean: Array) -> None:
    """Fill the covariance of a whole mixture; `mean` is space to work in."""
    size = len(mean)
    for i in range(size):
        mean[i] = 0.0
        for j in range(size):
            into[i, j] = 0.0
    for k in range(len(log_weights)):
        weight = math.exp(log_weights[k])
        for i in range(size):
            mean[i] += weight * means[k, i]
    for k in range(len(log_weights)):
        weight = math.exp(log_weights[k])
        for i in range(size):
            for j in range(i + 1):
                offset = (means[k, i] - mean[i]) * (means[k, j] - mean[j])
                entry = 0.5 * (covariances[k, i, j] + covariances[k, j, i])
                into[i, j] += weight * (entry + offset)
    for i in range(size):
        for j in range(i):
            into[j, i] = into[i, j]


@borrowing
def share_of(part: Array, work: Work) -> tuple[float, float]:
    """As `accumulated_error.share`, of one entity, whose whole covariance is the first of `work`."""
    whole, scale, scaled, factor, lower, inverse = work
    size = len(scale)
    for i in range(size):
        scale[i] = 1 / math.sqrt(max(whole[i, i], 1e-300))
    for i in range(size):
        for j in range(size):
            scaled[i, j] = whole[i, j] * scale[i] * scale[j]
    factorise(scaled, LEAST_PIVOT, ROUNDING, factor)
    invert_product(factor, lower, inverse)
    trace = learnt = 0.0
    for i in range(size):
        learnt += math.log(factor[i, i])
        for j in range(size):
            scaled[i, j] = part[i, j] * scale[i] * scale[j]
            trace += inverse[i, j] * scaled[i, j]
    factorise(scaled, TINY, ROUNDING, factor)
    for i in range(size):
        learnt -= math.log(factor[i, i])
    share = trace / size
    if math.isnan(share) or share == math.inf:
        share = 1.0
    return (0.0 if share < 0 else share), (learnt if math.isfinite(learnt) else 0.0)
