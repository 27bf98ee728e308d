"""Compiled log densities against PyTorch's operators, which have gradients."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import (
    GaussianMixture,
    component_log_densities,
    component_log_density,
    log_density,
)
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    new_block,
    sum_plane,
    whiten,
)
from tests.inference.mixtures.test_native_reduction import drawn

Array = NDArray[np.float64]


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
    parts = component_log_densities(mixture, mixture.factors(), points)
    expected_parts, expected = by_operators(mixture, points)
    for found, right in (
        (parts, expected_parts),
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


@njit(error_model="numpy")
def sums_in_the_plane(log_weights: Array, means: Array, factors: Array, points: Array) -> Array:
    count, found = len(means), np.empty(len(points))
    inverse, shift, peaks = np.empty((count, 2, 2)), np.empty((count, 2)), np.empty(count)
    block = new_block(count, 2)
    whiten(log_weights, means, factors, inverse, shift, peaks)
    for p in range(len(points)):
        block.points[0, p], block.points[1, p] = points[p, 0], points[p, 1]
    sum_plane(inverse, shift, peaks, block, found)
    return found


def in_the_plane(mixture: GaussianMixture, points: Tensor) -> Array:
    parts = mixture.log_weights[0], mixture.means[0], mixture.factors()[0], points
    found: Array = sums_in_the_plane(*(part.numpy() for part in parts))
    return found


@settings(max_examples=60, deadline=None)
@given(
    components=st.integers(1, 40),
    count=st.integers(1, BLOCK),
    spread=st.sampled_from([0.01, 1.0, 10.0, 100.0, 1e4]),
    seed=st.integers(0, 2**32 - 1),
)
def test_densities_beside_the_highest_peak_are_those_of_operators(
    components: int, count: int, spread: float, seed: int
) -> None:
    """Near components and so far from all of them that no density beside the highest peak is a number."""
    generator = torch.Generator().manual_seed(seed)
    mixture = drawn(1, components, 2, generator)
    points = spread * torch.randn(count, 2, generator=generator, dtype=torch.float64)
    expected = by_operators(mixture, points[None])[1][0].numpy()
    np.testing.assert_allclose(in_the_plane(mixture, points), expected, rtol=1e-12, atol=3e-10)


def test_in_the_plane_too_nothing_has_no_density_and_nan_stays() -> None:
    mixture, points = drawn(1, 4, 2, torch.Generator().manual_seed(0)), torch.zeros(70, 2).double()[:BLOCK]
    mixture.means[0, 0] = math.nan
    assert np.isnan(in_the_plane(mixture, points)).all()
    mixture.log_weights[0] = -math.inf
    mixture.means[0, 0] = 0.0
    assert (in_the_plane(mixture, points) == -math.inf).all()
