"""The native forms of likelihoods and linearisations against PyTorch's operators."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.likelihood.native_derivatives import BENT
from beliefstream.inference.likelihood.observations import Linearisation, Observations
from tests.inference.likelihood.test_observations import sensors
from tests.inference.plain_models import observe, random_covariances, random_normal

few = settings(max_examples=40, deadline=None)
seeds, sizes = st.integers(0, 10_000), st.integers(1, 6)
probabilities = st.sampled_from([0.0, 1e-9, 0.1, 1.0])


def problem(
    seed: int, size: int, probability: float, spread: float = 2.0
) -> tuple[Observations, Tensor, Tensor]:
    """Observations of every kind for two entities, one of which has fewer, with 70 points."""
    seen = observe(sensors(seed, size, probability), sensors(seed + 1, size, probability)[:2])
    points = spread * random_normal(seed + 2, 2, 70, size)
    return seen, points, torch.linalg.cholesky(random_covariances(seed + 3, 2, 70, dimension=size))


def parts(found: Linearisation) -> list[Tensor]:
    return [*found[:4], *found.residuals]


def used(seen: Observations, part: Tensor) -> Tensor:
    """The part, with zeros for the observations that the mask leaves out."""
    mask = seen.mask[:, None].reshape(len(seen.mask), 1, -1, *[1] * (part.dim() - 3))
    return torch.where(mask, part, 0.0)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    # rounding is beside the largest terms of a sum
    largest = max([1.0, *expected[expected.isfinite()].abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * largest, equal_nan=True)


@few
@given(seed=seeds, size=sizes, probability=probabilities, spread=st.sampled_from([0.1, 2.0, 1e4]))
def test_native_and_operators_linearise_alike(
    seed: int, size: int, probability: float, spread: float
) -> None:
    seen, points, factors = problem(seed, size, probability, spread)
    expected = seen.linearise_by_operators(points, factors)
    for one, other in zip(parts(seen.linearise(points, factors)), parts(expected), strict=True):
        assert_equal(used(seen, one), used(seen, other))
    for one, other in zip(seen.residuals(points), expected.residuals, strict=True):
        assert_equal(used(seen, one), used(seen, other))
    total = (expected.residuals.log_likelihood * seen.mask[:, None]).sum(-1)
    assert_equal(seen.log_likelihood(points), total)


@few
@given(seed=seeds, size=sizes)
def test_single_precision_is_rounded_only_at_the_end(seed: int, size: int) -> None:
    double, points, factors = problem(seed, size, 0.1)
    seen, points, factors = double.to(dtype=torch.float32), points.float(), factors.float()
    expected = seen.to(dtype=torch.float64).linearise_by_operators(points.double(), factors.double())
    for one, other in zip(parts(seen.linearise(points, factors)), parts(expected), strict=True):
        assert one.dtype == torch.float32
        assert_equal(used(seen, one), used(seen, other).float(), 1e-6)


def test_an_entity_alone_has_the_same_numbers_as_in_a_batch() -> None:
    seen, points, factors = problem(5, 3, 0.1)
    together = parts(seen.linearise(points, factors))
    for row, place in ((0, 7), (1, 69)):
        one, some = slice(row, row + 1), slice(place, place + 1)
        alone = parts(seen.rows_of(one).linearise(points[one, some], factors[one, some]))
        for found, expected in zip(alone[:-1], together[:-1], strict=True):
            assert torch.equal(found[0, 0], expected[row, place])
        assert torch.equal(
            seen.rows_of(one).log_likelihood(points[one, some]), seen.log_likelihood(points)[one, some]
        )


def test_a_number_that_is_none_stays_with_its_point() -> None:
    seen, points, factors = problem(6, 2, 0.1)
    points[0, 3, 0] = math.nan
    found, expected = seen.linearise(points, factors), seen.linearise_by_operators(points, factors)
    for one, other in zip(parts(found), parts(expected), strict=True):
        assert torch.equal(used(seen, one).isnan(), used(seen, other).isnan())


def test_what_the_mask_leaves_out_is_zero() -> None:
    seen, points, factors = problem(7, 2, 0.1)
    assert not bool(seen.mask.all())
    for part in parts(seen.linearise(points, factors))[:-1]:
        assert float(part.movedim(2, 1)[~seen.mask].abs().amax()) == 0.0


def test_gradients_are_left_to_operators() -> None:
    seen, points, factors = problem(8, 2, 0.1)
    points.requires_grad_(True)
    for found in (seen.linearise(points, factors).gradient, seen.log_likelihood(points)):
        assert found.requires_grad


def test_curvature_is_bounded_at_a_sensor() -> None:
    seen, points, factors = problem(9, 2, 0.0)
    points[0, 0] = torch.linalg.solve(seen.matrix[0, 2], seen.origin[0, 2])
    assert float(seen.linearise(points, factors).curvature.abs().amax()) <= BENT
