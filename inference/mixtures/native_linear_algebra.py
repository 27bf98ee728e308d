"""Linear algebra on small matrices, one after another, compiled for the processor.

Functions of tensors have the names of their counterparts in `linear_algebra`, which say what they compute. All compute
in double precision; those return the precision that they were given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import borrowing, native

Array = NDArray[np.float64]

# of `factorise`, in double precision: the least pivot where none is needed but a positive one, the usual one of
# `linear_algebra.cholesky`, and what is only rounding beside a diagonal entry
TINY, LEAST_PIVOT, ROUNDING = float(np.finfo(np.float64).tiny), 1e-12, float(np.finfo(np.float64).eps)


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.eye(1, dtype=torch.float64)
    cholesky(one, 0.0)
    invert_lower(one)
    invert_from_factor(one)
    few = np.ones((1, 1, 1, 1))
    affine_all((few[0], few), (few[0], few[0, 0], few[0]), np.empty((1, 1, 1)), np.empty((1, 1, 1, 1)))


def cholesky(matrix: Tensor, floor: float) -> Tensor:
    """As `linear_algebra.cholesky`, of a tensor on the CPU."""
    return _of_each(_factorise, matrix, floor, torch.finfo(matrix.dtype).eps)


def invert_lower(factor: Tensor) -> Tensor:
    """As `linear_algebra.invert_lower`."""
    return _of_each(_invert_lower, factor)


def invert_from_factor(factor: Tensor) -> Tensor:
    """As `linear_algebra.invert_from_factor`."""
    return _of_each(_invert_from_factor, factor)


def _of_each(fill: Callable[..., None], matrix: Tensor, *more: float) -> Tensor:
    """What `fill` makes of each matrix, in the shape and the precision of the given ones."""
    given: Array = matrix.double().contiguous().view(-1, *matrix.shape[-2:]).numpy()
    made = np.empty_like(given)
    fill(given, *more, made)
    return torch.from_numpy(made).view(matrix.shape).to(matrix.dtype)


@borrowing
def put_vector(into: Array, given: Array) -> None:
    """Copy numbers; an assignment to a slice also checks shapes, and takes Numba seconds for its message."""
    for i in range(len(given)):
        into[i] = given[i]


@borrowing
def put_matrix(into: Array, given: Array) -> None:
    """As `put_vector`, of a matrix."""
    for i in range(given.shape[0]):
        for j in range(given.shape[1]):
            into[i, j] = given[i, j]


@native
def _factorise(matrices: Array, floor: float, rounding: float, factors: Array) -> None:
    for place in range(len(matrices)):
        factorise(matrices[place], floor, rounding, factors[place])


@borrowing
def factorise(matrix: Array, floor: float, rounding: float, factor: Array) -> None:
    """Fill the lower factor of one matrix."""
    for column in range(len(matrix)):
        entire = pivot = matrix[column, column]
        for k in range(column):
            pivot -= factor[column, k] * factor[column, k]
            factor[k, column] = 0.0
        # comparisons that keep a pivot that is not a number
        pivot = rounding * entire if pivot < rounding * entire else pivot
        diagonal = math.sqrt(floor if pivot < floor else pivot)
        factor[column, column] = diagonal
        for row in range(column + 1, len(matrix)):
            value = matrix[row, column]
            for k in range(column):
                value -= factor[row, k] * factor[column, k]
            factor[row, column] = value / diagonal


@borrowing
def is_definite(matrix: Array, factor: Array) -> bool:
    """Whether a matrix is positive definite, as `numpy.linalg.cholesky` finds it; fills the lower factor if it is."""
    factorise(matrix, 0.0, 0.0, factor)  # without a floor, a pivot that is not positive becomes zero
    definite = True
    for i in range(len(matrix)):
        definite &= factor[i, i] > 0  # not so of what is not a number
    return definite


@native
def _invert_lower(factors: Array, inverses: Array) -> None:
    for place in range(len(factors)):
        invert_one(factors[place], inverses[place])


@borrowing
def invert_one(factor: Array, inverse: Array) -> None:
    """Fill the inverse of a lower factor."""
    for column in range(len(factor)):
        inverse[column, column] = 1 / factor[column, column]
        for row in range(column + 1, len(factor)):
            inverse[column, row] = 0.0
            total = 0.0
            for k in range(column, row):
                total += factor[row, k] * inverse[k, column]
            inverse[row, column] = -total / factor[row, row]


@native
def _invert_from_factor(factors: Array, inverses: Array) -> None:
    lower = np.empty(factors.shape[1:])
    for place in range(len(factors)):
        invert_product(factors[place], lower, inverses[place])


@borrowing
def invert_product(factor: Array, lower: Array, inverse: Array) -> None:
    """Fill the inverse of ``factor factorᵀ``; `lower` is space to work in."""
    invert_one(factor, lower)
    for row in range(len(factor)):
        for column in range(row + 1):
            total = 0.0
            for k in range(row, len(factor)):
                total += lower[k, row] * lower[k, column]
            inverse[row, column] = inverse[column, row] = total


@native
def affine_all(
    given: tuple[Array, Array], change: tuple[Array, Array, Array], means: Array, covariances: Array
) -> None:
    """Fill means and covariances of ``A x + c`` plus noise: ``A m + c`` and ``A P Aᵀ + Q``.

    `given` are means ``(B, K, D)`` and covariances of x; `change` is A ``(B, E, D)``, c ``(B, E)`` and Q ``(B, E, E)``.
    """
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
                means[b, k, i] = value + shifts[b, i]
                for m in range(wide):
                    if matrix[i, m] != 0:  # most are zero where there are hidden coordinates
                        for j in range(wide):
                            product[i, j] += matrix[i, m] * 0.5 * (covariance[m, j] + covariance[j, m])
            for j in range(size):
                for i in range(j, size):
                    covariances[b, k, i, j] = 0.5 * (noise[i, j] + noise[j, i])
                for m in range(wide):
                    if matrix[j, m] != 0:
                        for i in range(j, size):
                            covariances[b, k, i, j] += product[i, m] * matrix[j, m]
                for i in range(j, size):
                    covariances[b, k, j, i] = covariances[b, k, i, j]
