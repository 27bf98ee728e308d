"""Weighted expectation-maximisation, against its formulas in PyTorch."""

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


def stepped(
    answer: GaussianMixture, points: Tensor, share: Tensor, old_points: float, steps: int
) -> GaussianMixture:
    """An answer after so many steps."""
    for _ in range(steps):
        densities = component_log_densities(answer, answer.factors(), points)
        responsibility = torch.softmax(densities, 1) * share[:, None]
        mass = responsibility.sum(2)
        effective = mass.square() / responsibility.square().sum(2).clamp_min(native_maximisation.SMALLEST)
        old = torch.where(mass < native_maximisation.LEAST_MASS, 1.0, old_points / (effective + old_points))
        divisor = mass.clamp_min(native_maximisation.SMALLEST)[..., None]
        found = (responsibility @ points) / divisor
        means = found + old[..., None] * (answer.means - found)
        offset, apart = points.mT[:, None] - means[..., None], (answer.means - means)[..., None]
        scatter = (offset * responsibility[:, :, None]) @ offset.mT / divisor[..., None]
        kept = answer.covariances + apart @ apart.mT
        covariances = torch.lerp(scatter, kept, old[..., None, None])
        weights = mass + 0.5 / points.shape[1] * answer.log_weights.exp() + 1e-9
        answer = GaussianMixture((weights / weights.sum(1, keepdim=True)).log(), means, covariances)
    return answer


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    components=st.integers(1, 30),
    size=st.integers(1, 6),
    count=st.integers(1, 200),
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 3),
)
def test_the_steps_are_those_of_the_formulas(
    batch: int, components: int, size: int, count: int, seed: int, steps: int
) -> None:
    mixture, points, share = problem(batch, components, size, count, seed)
    found = native_maximisation.maximised(mixture, points, share.log() + 7.0, 12.0, steps)
    for part, expected in zip(found.parts, stepped(mixture, points, share, 12.0, steps).parts, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-6)


def test_a_problem_alone_has_the_same_steps_as_in_a_batch() -> None:
    mixture, points, share = problem(4, 20, 2, 300, seed=3)
    points[1, 299] = math.nan
    together = native_maximisation.maximised(mixture, points, share.log(), 12.0, 2)
    for row in (0, 2, 3):
        one = mixture.rows(slice(row, row + 1))
        alone = native_maximisation.maximised(one, points[row, None], share[row, None].log(), 12.0, 2)
        for part, whole in zip(alone.parts, together.parts, strict=True):
            assert torch.equal(part[0], whole[row])
    assert bool(together.means[1].isnan().all())


def test_without_components_the_answer_is_no_number() -> None:
    mixture, points, share = problem(1, 3, 2, 50, seed=4)
    mixture.log_weights[:] = -math.inf
    found = native_maximisation.maximised(mixture, points, share.log(), 12.0, 1)
    assert bool(found.means.isnan().all())
