"""Many components as a few: what it costs is measured, and kept low."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.check.importance import Seed, systematic
from beliefstream.inference.update.closed.reduction_cost import (
    POINTS,
    condense,
    counts_and_bounds,
    divergence,
)
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater


def many(count: int, components: int, seed: int) -> GaussianMixture:
    generator = torch.Generator().manual_seed(seed)
    means = 3 * torch.randn(count, components, 2, generator=generator, dtype=torch.float64)
    weights = torch.rand(count, components, generator=generator, dtype=torch.float64) + 0.1
    covariances = 0.2 * torch.eye(2, dtype=torch.float64).expand(count, components, 2, 2)
    return GaussianMixture.from_weights(weights / weights.sum(1, keepdim=True), means, covariances)


def sampled(whole: GaussianMixture, few: GaussianMixture) -> torch.Tensor:
    """KL(whole ‖ few) by independent points."""
    points = whole.sample(40_000, torch.Generator().manual_seed(9))
    return (whole.log_density(points) - few.log_density(points)).mean(1)


def test_what_forty_components_lose_as_sixteen_is_stated() -> None:
    whole = many(6, 40, seed=1)
    few, loss = condense(whole, 16, 0.002)
    assert few.components <= 16
    torch.testing.assert_close(loss, sampled(whole, few), atol=0.02, rtol=0.1)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 16), st.floats(-700.0, 700.0))
def test_the_cost_is_a_mean_over_points(seed: int, size: int, components: int, offset: float) -> None:
    whole = random_mixture(seed, 1, components, size)
    few = reduce(whole, components // 2, 0.0)
    points = systematic(whole, whole.factors(), POINTS, Seed.REDUCTION)
    expected = float((whole.log_density(points) - few.log_density(points)).mean().clamp_min(0))
    scaled = GaussianMixture(whole.log_weights + offset, whole.means, whole.covariances)
    assert float(divergence(scaled, few)) == pytest.approx(expected, rel=1e-9, abs=1e-11)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 16))
def test_the_bound_is_that_of_runnalls(seed: int, size: int, components: int) -> None:
    """``½ Σ w log det P`` of the result minus that of the mixture, in NumPy."""
    whole = random_mixture(seed, 3, components, size)
    few = reduce(whole, max(1, components // 2), 0.0)
    _, found = counts_and_bounds(whole, few)
    sums = [
        (each.log_weights.exp().numpy() * np.linalg.slogdet(each.covariances.numpy())[1]).sum(1)
        for each in (few, whole)
    ]
    np.testing.assert_allclose(found, np.maximum(0.5 * (sums[0] - sums[1]), 0.0), rtol=1e-9, atol=2e-9)


def test_what_fits_is_left_as_it_is_at_no_loss() -> None:
    whole = many(3, 8, seed=2)
    few, loss = condense(whole, 16, 0.0)
    assert float(loss.abs().max()) == 0.0
    assert float(divergence(whole, few).max()) == pytest.approx(0.0, abs=1e-12)


def test_a_closed_form_of_forty_components_says_what_reducing_it_cost() -> None:
    prior = many(4, 40, seed=3)
    reading = Reading(sensors.position([0, 1], 2, 4 * np.eye(2)), np.array([0.5, -0.5]))
    found = updater().update(prior, encode([[reading]] * 4, 2))
    exact = GaussianMixture(prior.log_weights, prior.means, prior.covariances).product(
        GaussianMixture.gaussian(
            torch.tensor([[0.5, -0.5]], dtype=torch.float64).expand(4, 2),
            4 * torch.eye(2).double().expand(4, 2, 2),
        )
    )
    torch.testing.assert_close(found.lost, sampled(exact, found.posterior), atol=0.02, rtol=0.15)
    assert float(sampled(exact, found.posterior).max()) < 0.25
