"""The compiled linear algebra against LAPACK, and against PyTorch's operators, which have gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from numba import njit
from numpy.typing import NDArray

from beliefstream.inference.mixtures import linear_algebra as la, native_linear_algebra as native
from tests.inference.plain_models import random_covariances


@njit(error_model="numpy")
def is_definite(matrix: NDArray[np.float64], factor: NDArray[np.float64]) -> bool:
    """Only native functions call the other."""
    return native.is_definite(matrix, factor)


few = settings(max_examples=60, deadline=None)
seeds, sizes, counts = st.integers(0, 10_000), st.integers(1, 9), st.integers(0, 70)


@few
@given(seed=seeds, size=sizes, count=counts, scale=st.sampled_from([1e-9, 1.0, 1e9]))
def test_factors_and_inverses_are_those_of_lapack_and_of_operators(
    seed: int, size: int, count: int, scale: float
) -> None:
    matrix = scale * random_covariances(seed, count, 3, dimension=size)
    factor, inverse = (
        native.cholesky(matrix, 1e-12),
        native.invert_from_factor(native.cholesky(matrix, 1e-12)),
    )
    needs_gradients = matrix.clone().requires_grad_()
    for expected in (torch.linalg.cholesky(matrix), la.cholesky(needs_gradients).detach()):
        torch.testing.assert_close(factor, expected, rtol=1e-9, atol=1e-12)
    identity = torch.eye(size, dtype=torch.float64).expand_as(matrix)
    torch.testing.assert_close(native.invert_lower(factor) @ factor, identity, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse @ matrix, identity, rtol=1e-9, atol=1e-9)
    lower = la.invert_lower(factor.clone().requires_grad_()).detach()
    torch.testing.assert_close(native.invert_lower(factor), lower, rtol=1e-12, atol=1e-12)


@few
@given(seed=seeds, size=sizes, shift=st.sampled_from([0.0, -1e-3, -1.0, math.nan]))
def test_a_matrix_is_definite_where_numpy_finds_its_factor(seed: int, size: int, shift: float) -> None:
    matrix = random_covariances(seed, 1, dimension=size)[0].numpy() + shift * np.eye(size)
    factor = np.zeros((size, size))
    found = is_definite(matrix, factor)
    try:
        expected = np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        assert not found
        return
    assert found == bool(np.isfinite(expected).all())
    if found:
        np.testing.assert_allclose(factor, expected, rtol=1e-10, atol=1e-12)


@few
@given(seed=seeds, size=sizes)
def test_pivots_have_the_same_bounds(seed: int, size: int) -> None:
    flat = random_covariances(seed, 4, dimension=size)
    flat[..., -1, :] = flat[..., 0, :]
    flat[..., :, -1] = flat[..., :, 0]  # singular
    flat[0] = 0.0
    flat[1, 0, 0] = -1.0
    for floor in (1e-12, 1e-300, 0.5):
        expected = la.cholesky(flat[:2].clone().requires_grad_(), floor).detach()
        found = native.cholesky(flat[:2], floor), expected
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
        # the last pivot is rounding: only its bound is the same
        last = native.cholesky(flat[2:], floor)[..., -1, -1]
        least = (torch.finfo(torch.float64).eps * flat[2:, -1, -1]).clamp_min(floor).sqrt()
        assert bool((last >= (1 - 1e-9) * least).all())


def test_an_answer_does_not_depend_on_the_batch_or_the_layout() -> None:
    matrix = random_covariances(3, 100, dimension=4)
    factor = native.cholesky(matrix, 1e-12)
    turned = matrix.mT.contiguous().mT
    for row in range(100):
        assert torch.equal(native.cholesky(turned[row], 1e-12), factor[row])
        assert torch.equal(native.invert_lower(factor[row]), native.invert_lower(factor)[row])
        assert torch.equal(native.invert_from_factor(factor[row]), native.invert_from_factor(factor)[row])
    wide = matrix[:1].expand(5, 4, 4)
    assert torch.equal(native.cholesky(wide, 1e-12), factor[:1].expand(5, 4, 4))


def test_a_number_that_is_none_stays_in_its_matrix() -> None:
    matrix = random_covariances(5, 3, dimension=3)
    matrix[1, 2, 0] = math.nan
    factor = native.cholesky(matrix, 1e-12)
    assert bool(factor[1, 2, 2].isnan())
    assert not bool(factor[[0, 2]].isnan().any())


@pytest.mark.parametrize(("dtype", "grad"), [(torch.float32, False), (torch.float64, True)])
def test_single_precision_and_gradients_are_left_to_operators(dtype: torch.dtype, grad: bool) -> None:
    matrix = random_covariances(7, 3, dimension=3).to(dtype).requires_grad_(grad)
    for found in (la.cholesky(matrix), la.invert_lower(matrix), la.invert_from_factor(matrix)):
        assert found.dtype == dtype
        assert found.requires_grad == grad
