from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from tests.inference.problems import sampled


@settings(max_examples=25, deadline=None)
@given(components=st.integers(1, 8), threshold=st.floats(0, 2), seed=st.integers(0, 1000))
def test_mean_and_covariance_stay_and_no_more_components_are_left(
    components: int, threshold: float, seed: int
) -> None:
    mixture, _, _ = sampled(8, dimension=3, seed=seed)
    reduced = reduce(mixture, components, threshold)
    assert int(reduced.present.sum(1).max()) <= components
    mean, covariance = mixture.moments()
    new_mean, new_covariance = reduced.moments()
    # components of weight below 1e-5 of the heaviest are dropped, hence the tolerance
    np.testing.assert_allclose(new_mean, mean, atol=1e-3)
    np.testing.assert_allclose(new_covariance, covariance, atol=5e-3)
    weights = reduced.log_weights.exp()
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-9)
    assert bool((weights[:, :-1] >= weights[:, 1:]).all())


def test_identical_components_become_one() -> None:
    mean = torch.zeros(1, 4, 2, dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64).expand(1, 4, 2, 2)
    mixture = GaussianMixture(torch.full((1, 4), 0.25, dtype=torch.float64).log(), mean, eye)
    reduced = reduce(mixture, 8, 1e-6)
    assert reduced.components == 1
    np.testing.assert_allclose(reduced.covariances[0, 0], np.eye(2))


def test_far_components_stay_apart() -> None:
    means = torch.tensor([[[0.0], [50.0]]], dtype=torch.float64)
    eye = torch.ones(1, 2, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(torch.tensor([[0.5, 0.5]], dtype=torch.float64).log(), means, eye)
    assert reduce(mixture, 8, 0.05).components == 2


def test_the_loss_stays_near_the_threshold_a_merge() -> None:
    mixture, _, _ = sampled(32, seed=3)
    reduced = reduce(mixture, 8, 0.01)
    points = mixture.sample(4000, torch.Generator().manual_seed(0))
    loss = (mixture.log_density(points) - reduced.log_density(points)).mean(1)
    assert float(loss.max()) < 7 * 0.01 + 0.02  # at most seven merges, each bounded; sampling error


def along_a_line(log_weights: list[float], places: list[float]) -> GaussianMixture:
    """Components of variance 1."""
    weights = torch.tensor([log_weights], dtype=torch.float64).log_softmax(1)
    means = torch.tensor(places, dtype=torch.float64)[None, :, None]
    return GaussianMixture(weights, means, torch.ones(1, len(places), 1, 1, dtype=torch.float64))


def test_a_power_keeps_what_is_far_and_light_rather_than_what_is_near_and_heavy() -> None:
    mixture = along_a_line([math.log(0.6), math.log(0.4), -30.0], [0.0, 0.5, 20.0])
    plain, tempered = reduce(mixture, 2, 0.0), reduce(mixture, 2, 0.0, 0.2)
    np.testing.assert_allclose(plain.means[0, :, 0], [0.0, 0.5])
    np.testing.assert_allclose(tempered.means[0, :, 0], [0.2, 20.0])
    np.testing.assert_allclose(tempered.covariances[0, :, 0, 0], [1 + 0.6 * 0.4 * 0.5**2, 1.0])
    np.testing.assert_allclose(tempered.log_weights[0], [0.0, -30.0], atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    log_weights=st.lists(st.floats(-40, 0), min_size=2, max_size=10),
    components=st.integers(1, 6),
    power=st.floats(0.05, 0.25),
    seed=st.integers(0, 1000),
)
def test_with_a_power_the_moments_stay(
    log_weights: list[float], components: int, power: float, seed: int
) -> None:
    places = (3 * np.random.default_rng(seed).standard_normal(len(log_weights))).tolist()
    mixture = along_a_line(log_weights, places)
    reduced = reduce(mixture, components, 0.0, power)
    assert int(reduced.present.sum()) <= components
    # nothing is negligible: e⁻⁴⁰ to a quarter is above it
    assert float(reduced.log_weights.logsumexp(1)) == pytest.approx(0, abs=1e-12)
    for found, expected in zip(reduced.moments(), mixture.moments(), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
