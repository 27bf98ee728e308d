"""Dense linear algebra on many small matrices, unrolled over the (static) dimension.

A batched LAPACK call has an overhead per matrix. For the 1 to 9 coordinates of a state, unrolled recurrences are
faster, with one tensor operation per entry. Under `torch.compile` they fuse into one loop. Without gradients, on the
processor, `native_linear_algebra` runs the same recurrences. All functions broadcast over the leading dimensions; ``d``
is the size of the last two.
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures import native_linear_algebra as native


def on_processor(*tensors: Tensor) -> bool:
    """Whether compiled code may take these tensors: on the processor, without gradients, not under `torch.compile`."""
    if torch.compiler.is_compiling():
        return False
    return all(tensor.is_cpu and not tensor.requires_grad for tensor in tensors)


def _zeros(like: Tensor) -> list[list[Tensor]]:
    """The entries of a matrix of zeros, row by row."""
    zero, size = torch.zeros_like(like[..., 0, 0]), like.shape[-1]
    return [[zero] * size for _ in range(size)]


def _matrix(entries: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in entries], -2)


def cholesky(matrix: Tensor, floor: float = 1e-12) -> Tensor:
    """Lower Cholesky factor of a symmetric positive definite ``(..., d, d)``.

    Pivots below `floor` are raised to it. So are pivots that are only rounding beside their diagonal entry: otherwise
    an inverse could have any size.
    """
    if on_processor(matrix):
        return native.cholesky(matrix, floor)
    factor, rounding = _zeros(matrix), torch.finfo(matrix.dtype).eps
    for column in range(len(factor)):
        entire = pivot = matrix[..., column, column]
        for k in range(column):
            pivot = pivot - factor[column][k].square()
        diagonal = torch.maximum(pivot, rounding * entire).clamp_min(floor).sqrt()
        factor[column][column] = diagonal
        for row in range(column + 1, len(factor)):
            value = matrix[..., row, column]
            for k in range(column):
                value = value - factor[row][k] * factor[column][k]
            factor[row][column] = value / diagonal
    return _matrix(factor)


def invert_lower(factor: Tensor) -> Tensor:
    """Inverse of a lower-triangular ``(..., d, d)``; above its diagonal nothing is read."""
    if on_processor(factor):
        return native.invert_lower(factor)
    inverse = _zeros(factor)
    for column in range(len(inverse)):
        inverse[column][column] = 1.0 / factor[..., column, column]
        for row in range(column + 1, len(inverse)):
            total = torch.zeros_like(factor[..., 0, 0])
            for k in range(column, row):
                total = total + factor[..., row, k] * inverse[k][column]
            inverse[row][column] = -total / factor[..., row, row]
    return _matrix(inverse)


def invert(matrix: Tensor, floor: float = 1e-12) -> Tensor:
    """Inverse of a symmetric positive definite ``(..., d, d)``."""
    return invert_from_factor(cholesky(matrix, floor))


def invert_from_factor(factor: Tensor) -> Tensor:
    """Inverse of ``factor factorᵀ``, from the lower factor ``(..., d, d)``."""
    if on_processor(factor):
        return native.invert_from_factor(factor)
    return gram(invert_lower(factor))


def inverse_cholesky(precision: Tensor, floor: float = 1e-12) -> Tensor:
    """Lower factor ``C`` with ``C Cᵀ`` the inverse of `precision` ``(..., d, d)``."""
    # precision = R Rᵀ with R upper, once flipped back
    reversed_factor = cholesky(precision.flip(-1, -2), floor)
    return invert_lower(reversed_factor).flip(-1, -2).mT


def times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrix @ vector`` over ``(..., d, e)`` and ``(..., e)``."""
    return (matrix @ vector[..., None])[..., 0]


def transpose_times(matrix: Tensor, vector: Tensor) -> Tensor:
    """``matrixᵀ @ vector`` over ``(..., e, d)`` and ``(..., e)``."""
    return times(matrix.mT, vector)


def gram(matrix: Tensor) -> Tensor:
    """``matrixᵀ matrix`` over ``(..., e, d)``."""
    return matrix.mT @ matrix


def outer(left: Tensor, right: Tensor) -> Tensor:
    return left[..., :, None] * right[..., None, :]


def quadratic(matrix: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``leftᵀ matrix right``."""
    return (left * times(matrix, right)).sum(-1)


def squared_norm(vector: Tensor) -> Tensor:
    """Sum of squares over the last dimension."""
    return vector.square().sum(-1)


def norm(vector: Tensor, keepdim: bool = False) -> Tensor:
    """Euclidean norm, smooth at zero: a plain square root would make every gradient NaN there."""
    length = (squared_norm(vector) + 1e-8).sqrt()
    return length[..., None] if keepdim else length


def trace(matrix: Tensor) -> Tensor:
    return matrix.diagonal(dim1=-2, dim2=-1).sum(-1)


def log_diagonal(factor: Tensor) -> Tensor:
    """Sum of the logs of the diagonal: half the log determinant of ``factor factorᵀ``."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def symmetrise(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.mT)
