"""`inference.mixtures.linear_algebra` for the processor: one small matrix after another, without a tensor operator.

Functions here have the names of their counterparts there, which say what they compute.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import inner, native

Array = NDArray[np.float64]

ROUNDING = float(np.finfo(np.float64).eps)


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.eye(1, dtype=torch.float64)
    cholesky(one, 0.0)
    invert_lower(one)
    invert_from_factor(one)


def cholesky(matrix: Tensor, floor: float) -> Tensor:
    """As `linear_algebra.cholesky`, of a tensor in double precision on the CPU."""
    given = _flat(matrix)
    factor = np.empty_like(given)
    _factorise(given, floor, factor)
    return torch.from_numpy(factor).view(matrix.shape)


def invert_lower(factor: Tensor) -> Tensor:
    """As `linear_algebra.invert_lower`."""
    given = _flat(factor)
    inverse = np.empty_like(given)
    _invert_lower(given, inverse)
    return torch.from_numpy(inverse).view(factor.shape)


def invert_from_factor(factor: Tensor) -> Tensor:
    """As `linear_algebra.invert_from_factor`."""
    given = _flat(factor)
    inverse = np.empty_like(given)
    _invert_from_factor(given, inverse)
    return torch.from_numpy(inverse).view(factor.shape)


def _flat(matrix: Tensor) -> Array:
    array: Array = matrix.contiguous().view(-1, *matrix.shape[-2:]).numpy()
    return array


@native
def _factorise(matrices: Array, floor: float, factors: Array) -> None:
    for place in range(len(matrices)):
        _factorise_one(matrices[place], floor, factors[place])


@inner
def _factorise_one(matrix: Array, floor: float, factor: Array) -> None:
    for column in range(len(matrix)):
        entire = pivot = matrix[column, column]
        for k in range(column):
            pivot -= factor[column, k] * factor[column, k]
            factor[k, column] = 0.0
        # comparisons that keep a pivot that is not a number
        pivot = ROUNDING * entire if pivot < ROUNDING * entire else pivot
        diagonal = math.sqrt(floor if pivot < floor else pivot)
        factor[column, column] = diagonal
        for row in range(column + 1, len(matrix)):
            value = matrix[row, column]
            for k in range(column):
                value -= factor[row, k] * factor[column, k]
            factor[row, column] = value / diagonal


@native
def _invert_lower(factors: Array, inverses: Array) -> None:
    for place in range(len(factors)):
        _invert_one(factors[place], inverses[place])


@inner
def _invert_one(factor: Array, inverse: Array) -> None:
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
    size = factors.shape[1]
    lower = np.empty((size, size))
    for place in range(len(factors)):
        _invert_one(factors[place], lower)
        for row in range(size):
            for column in range(row + 1):
                total = 0.0
                for k in range(row, size):
                    total += lower[k, row] * lower[k, column]
                inverses[place, row, column] = inverses[place, column, row] = total
