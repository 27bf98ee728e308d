"""Checks of covariance matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic_core import PydanticCustomError

from beliefstream.schemas.base import Matrix

_ASYMMETRY = 1e-6  # relative to the largest entry of the matrix
_NEGATIVE = 1e-9  # largest negative eigenvalue that counts as rounding, relative to the largest entry


def checked(matrix: Matrix, size: int | None = None) -> Matrix:
    """Check a covariance, and make it exactly symmetric.

    Args:
        matrix: (D, D) numbers.
        size: the required D, if known.

    Raises:
        PydanticCustomError: of type `invalid_covariance`. The matrix is not square, has another size, is not symmetric
            within 1e-6 of its largest entry, or is not positive definite.
    """
    if _size_of(matrix, size) == 1:  # the most common case, a scalar sensor: faster without numpy
        if matrix[0][0] <= 0:
            raise _invalid("expected a positive variance")
        return matrix
    return to_matrix(checked_stack(np.asarray(matrix, dtype=np.float64)[None])[0])


def checked_stack(stack: NDArray[np.float64]) -> NDArray[np.float64]:
    """Check a (K, D, D) stack as `checked` does; an error names the invalid component."""
    symmetric = _symmetric(stack)
    if not _positive_definite(symmetric):
        worst = next(i for i in range(len(stack)) if not _positive_definite(symmetric[i : i + 1]))
        raise _invalid(f"expected a positive definite matrix{_which(stack, worst)}")
    return symmetric


def semidefinite(matrix: Matrix, size: int | None = None) -> Matrix:
    """Check a (D, D) covariance as `checked` does, but allow a singular one: some coordinates may have no noise."""
    _size_of(matrix, size)
    symmetric = _symmetric(np.asarray(matrix, dtype=np.float64)[None])[0]
    if np.linalg.eigvalsh(symmetric)[0] < -_NEGATIVE * np.abs(symmetric).max():
        raise _invalid("expected a positive semidefinite matrix")
    return to_matrix(symmetric)


def _symmetric(stack: NDArray[np.float64]) -> NDArray[np.float64]:
    if np.array_equal(stack, stack.mT):
        return stack
    largest = np.abs(stack).max(axis=(1, 2))
    asymmetry = np.abs(stack - stack.mT).max(axis=(1, 2))
    if np.any(asymmetric := ~(asymmetry <= _ASYMMETRY * largest)):
        raise _invalid(f"expected a symmetric matrix{_which(stack, int(np.argmax(asymmetric)))}")
    return stack / 2 + stack.mT / 2


def _size_of(matrix: Matrix, size: int | None) -> int:
    """Check that the matrix is square and of this size, if that is known, and return its size."""
    rows = len(matrix)
    if rows == 0 or any(len(row) != rows for row in matrix):
        raise _invalid("expected a square matrix")
    if size is not None and rows != size:
        raise _invalid(f"expected a matrix of {size} by {size}, got {rows} by {rows}")
    return rows


def to_matrix(array: NDArray[np.float64]) -> Matrix:
    """Convert a (D, D) array to nested tuples."""
    return tuple(map(tuple, array.tolist()))


def _positive_definite(stack: NDArray[np.float64]) -> bool:
    try:
        factors = np.linalg.cholesky(stack)
    except np.linalg.LinAlgError:
        return False
    return bool(np.isfinite(factors).all())


def _which(stack: NDArray[np.float64], index: int) -> str:
    return f", component {index} is not" if len(stack) > 1 else ""


def _invalid(message: str) -> PydanticCustomError:
    return PydanticCustomError("invalid_covariance", message)
