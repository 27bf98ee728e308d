"""The native form of log densities against PyTorch's operators."""

from __future__ import annotations

import math

import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_density
from beliefstream.inference.mixtures.native_density import component_log_densities, log_density
from tests.inference.mixtures.test_native_reduction import drawn


def by_operators(mixture: GaussianMixture, points: Tensor) -> tuple[Tensor, Tensor]:
    logs = component_log_density(points, mixture.means, mixture.factors())
    components = mixture.log_weights[..., None] + logs
    return components, torch.logsumexp(components, 1)


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 4),
    components=st.integers(1, 40),
    size=st.integers(1, 9),
    count=st.integers(1, 200),
    spread=st.sampled_from([0.01, 1.0, 100.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_native_and_operators_find_the_same_densities(
    batch: int, components: int, size: int, count: int, spread: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mixture = drawn(batch, components, size, generator)
    points = spread * torch.randn(batch, count, size, generator=generator, dtype=torch.float64)
    parts, total = component_log_densities(mixture, mixture.factors(), points)
    expected_parts, expected = by_operators(mixture, points)
    for found, right in (
        (parts, expected_parts),
        (total, expected),
        (log_density(mixture, mixture.factors(), points), expected),
    ):
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)


def test_without_components_the_density_is_zero_and_nan_stays() -> None:
    mixture = drawn(3, 4, 2, torch.Generator().manual_seed(0))
    mixture.log_weights[0] = -math.inf
    mixture.means[1, 0] = math.nan
    points = torch.zeros(3, 100, 2, dtype=torch.float64)
    found = log_density(mixture, mixture.factors(), points)
    assert bool((found[0] == -math.inf).all())
    assert bool(found[1].isnan().all())
    torch.testing.assert_close(found[2], by_operators(mixture, points)[1][2], rtol=1e-12, atol=1e-12)
