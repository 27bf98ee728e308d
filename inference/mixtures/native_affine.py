"""Linear change of mixtures for the processor, without a tensor operator."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import native
from beliefstream.inference.mixtures.native_arrays import array

Array = NDArray[np.float64]


def prepare() -> None:
    """Compile the change, or load it from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    affine(GaussianMixture(one[0].log(), one, one[..., None]), one, one[0], one)


def affine(mixture: GaussianMixture, matrix: Tensor, shift: Tensor, covariance: Tensor) -> GaussianMixture:
    """The mixture of ``matrix x + shift`` plus Gaussian noise, of tensors in double precision.

    `matrix` ``(B, E, D)``, `shift` ``(B, E)``, `covariance` ``(B, E, E)``. As `GaussianMixture.affine`, which has no
    shift.
    """
    batch, count, size = *mixture.means.shape[:2], matrix.shape[1]
    means, covariances = np.empty((batch, count, size)), np.empty((batch, count, size, size))
    given = (array(mixture.means), array(mixture.covariances))
    affine_all(given, (array(matrix), array(shift), array(covariance)), means, covariances)
    return GaussianMixture(mixture.log_weights, torch.from_numpy(means), torch.from_numpy(covariances))


@native
def affine_all(
    given: tuple[Array, Array], change: tuple[Array, Array, Array], means: Array, covariances: Array
) -> None:
    given_means, given_covariances = given
    matrices, shifts, noises = change
    size, wide = matrices.shape[1:]
    product = np.empty((size, wide))
    for b in range(len(matrices)):
        matrix, noise = matrices[b], noises[b]
        for k in range(given_means.shape[1]):
            mean, covariance = given_means[b, k], given_covariances[b, k]
            for i in range(size):
                value = 0.0
                for j in range(wide):
                    value += matrix[i, j] * mean[j]
                    product[i, j] = 0.0
                    for m in range(wide):
                        product[i, j] += matrix[i, m] * 0.5 * (covariance[m, j] + covariance[j, m])
                means[b, k, i] = value + shifts[b, i]
            for i in range(size):
                for j in range(i + 1):
                    entry = 0.5 * (noise[i, j] + noise[j, i])
                    for m in range(wide):
                        entry += product[i, m] * matrix[j, m]
                    covariances[b, k, i, j] = covariances[b, k, j, i] = entry
