"""Moments of weighted expectation-maximisation, against their formulas in PyTorch."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures import native_maximisation
from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_densities
from tests.inference.mixtures.test_native_reduction import drawn


def problem(
    batch: int, components: int, size: int, count: int, seed: int
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """A mixture, and weighted points of it and around it."""
    generator = torch.Generator().manual_seed(seed)
    mixture = drawn(batch, components, size, generator)
    points = 4 * torch.randn(batch, count, size, generator=generator, dtype=torch.float64)
    return mixture, points, (3 * torch.randn(batch, count, generator=generator).double()).softmax(1)


def moments(
    answer: GaussianMixture, factors: Tensor, points: Tensor, share: Tensor, old_points: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mass, kept share of the old shape, mean and scatter of each component."""
    responsibility = torch.softmax(component_log_densities(answer, factors, points), 1) * share[:, None]
    mass = responsibility.sum(2)
    effective = mass.square() / responsibility.square().sum(2).clamp_min(native_maximisation.SMALLEST)
    old = torch.where(mass < native_maximisation.LEAST_MASS, 1.0, old_points / (effective + old_points))
    found = (responsibility @ points) / mass.clamp_min(native_maximisation.SMALLEST)[..., None]
    means = found + old[..., None] * (answer.means - found)
    offset = points.mT[:, None] - means[..., None]
    return mass, old, means, (offset * responsibility[:, :, None]) @ offset.mT


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    components=st.integers(1, 30),
    size=st.integers(1, 6),
    count=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_moments_are_those_of_the_formulas(
    batch: int, components: int, size: int, count: int, seed: int
) -> None:
    mixture, points, share = problem(batch, components, size, count, seed)
    given = mixture, mixture.factors(), points, share, 12.0
    for found, expected in zip(native_maximisation.moments(*given), moments(*given), strict=True):
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
