"""The unrolled algebra agrees with LAPACK."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures import linear_algebra as la
from tests.inference.plain_models import random_covariances, random_normal

seeds, sizes = st.integers(0, 10_000), st.integers(1, 6)
few = settings(max_examples=25, deadline=None)


@few
@given(seeds, sizes)
def test_cholesky_is_that_of_lapack(seed: int, size: int) -> None:
    matrix = random_covariances(seed, 3, 2, dimension=size)
    torch.testing.assert_close(la.cholesky(matrix), torch.linalg.cholesky(matrix))


@few
@given(seeds, sizes)
def test_inverses_are_those_of_lapack(seed: int, size: int) -> None:
    matrix = random_covariances(seed, 4, dimension=size)
    factor = torch.linalg.cholesky(matrix)
    expected = torch.linalg.inv(matrix)
    torch.testing.assert_close(la.invert(matrix), expected)
    torch.testing.assert_close(la.invert_from_factor(factor), expected)
    torch.testing.assert_close(la.invert_lower(factor), torch.linalg.inv(factor))


@few
@given(seeds, sizes)
def test_inverse_cholesky_is_a_lower_factor_of_the_inverse(seed: int, size: int) -> None:
    precision = random_covariances(seed, 4, dimension=size)
    factor = la.inverse_cholesky(precision)
    torch.testing.assert_close(factor, torch.linalg.cholesky(torch.linalg.inv(precision)))


@few
@given(seeds, sizes, sizes)
def test_products_are_those_of_einsum(seed: int, size: int, other: int) -> None:
    matrix, vector, image = (
        random_normal(seed, 3, size, other),
        random_normal(seed + 1, 3, other),
        random_normal(seed + 2, 3, size),
    )
    torch.testing.assert_close(la.times(matrix, vector), torch.einsum("bij,bj->bi", matrix, vector))
    torch.testing.assert_close(la.transpose_times(matrix, image), torch.einsum("bij,bi->bj", matrix, image))
    torch.testing.assert_close(la.outer(image, vector), torch.einsum("bi,bj->bij", image, vector))
    expected = torch.einsum("bi,bij,bj->b", image, matrix, vector)
    torch.testing.assert_close(la.quadratic(matrix, image, vector), expected)


@few
@given(seeds, sizes)
def test_trace_and_determinant_are_those_of_lapack(seed: int, size: int) -> None:
    matrix = random_covariances(seed, 3, dimension=size)
    torch.testing.assert_close(la.trace(matrix), torch.einsum("bii->b", matrix))
    torch.testing.assert_close(2 * la.log_diagonal(la.cholesky(matrix)), torch.linalg.slogdet(matrix)[1])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_pivots_below_the_floor_are_raised_to_it(size: int) -> None:
    factor = la.cholesky(torch.zeros(size, size, dtype=torch.float64), floor=1e-4)
    torch.testing.assert_close(factor, 1e-2 * torch.eye(size, dtype=torch.float64))


def test_norm_has_a_gradient_at_zero() -> None:
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(la.norm(vector), vector)
    torch.testing.assert_close(gradient, torch.zeros(3, dtype=torch.float64))


def test_gradients_flow_through_the_factor() -> None:
    matrix = random_covariances(3, 2, dimension=3).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: la.cholesky(la.symmetrise(m)), (matrix,))


def test_an_inverse_in_single_precision_stays_bounded_where_pivots_are_lost_to_rounding() -> None:
    # a range of half a millimetre in units of the prior: its information drowns what the prior says across
    angles = torch.linspace(0.1, 1.4, 50)
    along = torch.stack([angles.cos(), angles.sin()], 1)
    precision = torch.eye(2) + 4e7 * la.outer(along, along)
    across = torch.stack([-along[:, 1], along[:, 0]], 1)
    spread = la.quadratic(la.invert(precision), across, across)
    assert float(spread.max()) < 3.0  # exactly 1
    assert float(spread.min()) > 0.0
