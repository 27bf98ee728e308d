"""The Gaussian sum: exact on linear problems, by closed form with outliers, near the truth on curved ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters import ExtendedKalmanFilter
from research.evaluation.baselines import gaussian_sum_update
from research.evaluation.exact.grid import grid_posterior
from tests.inference.plain_models import (
    distance,
    linear,
    numbers,
    observe,
    random_covariances,
    random_mixture,
    random_normal,
)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_linear_without_outliers_it_is_the_product(seed: int, components: int, dimension: int) -> None:
    prior = random_mixture(seed, 2, components, dimension)
    matrix = random_covariances(seed + 5, dimension=dimension)  # invertible: the likelihood is a Gaussian
    value = matrix @ prior.means[0, 0] + 0.3 * random_normal(seed + 6, dimension)
    found = gaussian_sum_update(prior, observe(*[[linear(matrix, value, 0.5)]] * 2))
    inverse = torch.linalg.inv(matrix)
    covariance = 0.25 * inverse @ inverse.mT
    likelihood = GaussianMixture.gaussian((inverse @ value).expand(2, -1), covariance.expand(2, -1, -1))
    expected = prior.product(likelihood)
    # outliers of probability zero count as 1e-12, which shows in the log weight of hopeless components
    torch.testing.assert_close(
        found.log_weights[0].exp(), expected.log_weights[0].exp(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(found.means[0, 0], expected.means[0, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.covariances[0, 0], expected.covariances[0, 0], rtol=1e-6, atol=1e-6)


def test_one_gaussian_is_the_kalman_filter() -> None:
    mean, covariance = random_normal(1, 3, 4), random_covariances(2, 3, dimension=4)
    sensors = [linear(random_normal(n, 2, 4), random_normal(9 + n, 2), 0.6) for n in range(3)]
    kalman = ExtendedKalmanFilter(mean, covariance, gate=None)
    kalman.update(observe(sensors, sensors[:2], sensors[1:]))
    found = gaussian_sum_update(kalman_prior(mean, covariance), observe(sensors, sensors[:2], sensors[1:]))
    torch.testing.assert_close(found.means[:, 0], kalman.mean, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found.covariances[:, 0], kalman.covariance, rtol=1e-7, atol=1e-7)


def kalman_prior(mean: torch.Tensor, covariance: torch.Tensor) -> GaussianMixture:
    return GaussianMixture.gaussian(mean, covariance)


@pytest.mark.parametrize("innovation", [0.5, 3.0, 6.0])
def test_a_linear_outlier_gives_the_moments_of_both_hypotheses(innovation: float) -> None:
    prior = GaussianMixture.gaussian(numbers(0.0, 0.0)[None], torch.eye(2, dtype=torch.float64)[None])
    observations = observe([linear(torch.eye(2, dtype=torch.float64), numbers(innovation, 0.0), 0.5, 0.2)])
    found = gaussian_sum_update(prior, observations)
    exact = grid_posterior(prior, observations)
    mean, covariance = exact.moments()
    torch.testing.assert_close(found.means[0, 0], mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.covariances[0, 0], covariance, rtol=1e-3, atol=1e-3)


def test_a_hopeless_range_leaves_the_prior_as_it_is() -> None:
    prior = random_mixture(3, 1, 3, 2)
    found = gaussian_sum_update(prior, observe([distance(numbers(0.0, 0.0), 49.0, 0.1, 0.2)]))
    torch.testing.assert_close(found.log_weights, prior.log_weights, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.means, prior.means, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.covariances, prior.covariances, rtol=1e-6, atol=1e-6)


def test_weights_follow_the_evidence_and_are_close_to_the_exact_posterior() -> None:
    means = numbers(0.0, 0.0, 4.0, 0.0).view(1, 2, 2)
    covariances = 0.05 * torch.eye(2, dtype=torch.float64).expand(1, 2, 2, 2)
    prior = GaussianMixture(numbers(0.5, 0.5).log()[None], means, covariances)
    observations = observe(
        [distance(numbers(20.0, 3.0), 16.3, 0.2), distance(numbers(3.0, -20.0), 20.1, 0.3)]
    )
    found = gaussian_sum_update(prior, observations)
    assert float(found.log_weights[0, 1]) > -1e-3
    assert grid_posterior(prior, observations).divergence(found) < 1e-3


def test_places_without_a_component_stay_empty() -> None:
    prior = random_mixture(3, 2, 3, 2).padded(5)
    sensor = distance(numbers(0.0, 0.0), 2.0, 0.1, 0.2)
    found = gaussian_sum_update(prior, observe([sensor], [sensor]))
    assert found.present.tolist() == prior.present.tolist()
    assert bool(found.means.isfinite().all() and found.covariances.isfinite().all())


def test_no_observation_changes_nothing() -> None:
    prior = random_mixture(3, 2, 3, 2)
    observations = observe(*[[distance(numbers(0.0, 0.0), 2.0, 0.1)]] * 2)
    observations.mask[:] = False
    found = gaussian_sum_update(prior, observations)
    torch.testing.assert_close(found.log_weights, prior.log_weights)
    torch.testing.assert_close(found.covariances, prior.covariances)
    assert math.isclose(float(found.log_weights.exp().sum()), 2.0)
