"""The native form of expectation-maximisation against PyTorch's operators."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures import native_maximisation
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update import refinement
from tests.inference.mixtures.test_native_reduction import drawn


def problem(
    batch: int, components: int, size: int, count: int, seed: int
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """A mixture, and weighted points of it and around it."""
    generator = torch.Generator().manual_seed(seed)
    mixture = drawn(batch, components, size, generator)
    points = 4 * torch.randn(batch, count, size, generator=generator, dtype=torch.float64)
    return mixture, points, (3 * torch.randn(batch, count, generator=generator).double()).softmax(1)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    components=st.integers(1, 30),
    size=st.integers(1, 6),
    count=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_native_and_operators_find_the_same_moments(
    batch: int, components: int, size: int, count: int, seed: int
) -> None:
    mixture, points, share = problem(batch, components, size, count, seed)
    given = mixture, mixture.factors(), points, share, 12.0
    for found, expected in zip(native_maximisation.moments(*given), refinement.moments(*given), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_problem_alone_has_the_same_moments_as_in_a_batch() -> None:
    mixture, points, share = problem(4, 20, 2, 300, seed=3)
    points[1, 299] = math.nan
    together = native_maximisation.moments(mixture, mixture.factors(), points, share, 12.0)
    for row in (0, 2, 3):
        one = mixture.rows(slice(row, row + 1))
        alone = native_maximisation.moments(one, one.factors(), points[row, None], share[row, None], 12.0)
        for part, whole in zip(alone, together, strict=True):
            assert torch.equal(part[0], whole[row])
    assert bool(together[0][1].isnan().all())


def test_without_components_the_moments_are_no_numbers() -> None:
    mixture, points, share = problem(1, 3, 2, 50, seed=4)
    mixture.log_weights[:] = -math.inf
    mass, *_ = native_maximisation.moments(mixture, mixture.factors(), points, share, 12.0)
    assert bool(mass.isnan().all())
