"""The particle filter: right in the limit, a kernel density like SciPy's, systematic where it resamples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters import ExtendedKalmanFilter, ParticleFilter
from beliefstream.streams.scores.filters.particle import sample_efficiency
from research.evaluation.exact.grid import grid_posterior
from tests.inference.plain_models import (
    assert_near,
    bearing,
    distance,
    fixed_step,
    generator,
    linear,
    numbers,
    observe,
    random_covariances,
    random_mixture,
    random_normal,
)


def weighted(batch: int = 2, particles: int = 300, dimension: int = 3) -> ParticleFilter:
    """A filter with weights that differ, of effective size above half."""
    belief = ParticleFilter(random_mixture(1, batch, 3, dimension), particles, generator(2))
    belief.log_weights = torch.log_softmax(0.5 * random_normal(3, batch, particles), -1)
    return belief


def test_linear_gaussian_chains_agree_with_the_kalman_filter() -> None:
    mean, covariance = torch.zeros(2, 2, dtype=torch.float64), random_covariances(1, 2, dimension=2)
    motion = fixed_step(numbers(1.0, 0.5, 0.0, 0.9).view(2, 2), 0.3 * random_covariances(2, dimension=2))
    kalman = ExtendedKalmanFilter(mean, covariance, gate=None)
    particles = ParticleFilter(GaussianMixture.gaussian(mean, covariance), 50_000, generator(3))
    for step in range(5):
        sensors = [linear(numbers(1.0, 0.3)[None], random_normal(step, 1), 0.5)]
        kalman.move(motion, torch.ones(2))
        particles.move(motion, torch.ones(2))
        kalman.update(observe(sensors, sensors))
        particles.update(observe(sensors, sensors))
    found_mean, found = particles.density().moments()
    torch.testing.assert_close(found_mean, kalman.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(found, kalman.covariance, rtol=0.06, atol=0.02)
    at_mean = kalman.mean[:, None]
    torch.testing.assert_close(
        particles.density().log_density(at_mean), kalman.mixture().log_density(at_mean), rtol=0, atol=0.1
    )


def test_with_outliers_it_agrees_with_the_exact_posterior() -> None:
    prior = random_mixture(11, 1, 3, 2)
    observations = observe(
        [distance(numbers(3.0, -2.0), 3.2, 0.3, 0.2), bearing(numbers(-6.0, 1.0), 0.1, 0.1, 0.1)]
    )
    exact = grid_posterior(prior, observations)
    belief = ParticleFilter(prior, 50_000, generator(3))
    belief.update(observations)
    mean, covariance = exact.moments()
    found_mean, found = belief.density().moments()
    torch.testing.assert_close(found_mean[0], mean, rtol=0, atol=0.05)
    torch.testing.assert_close(found[0], covariance, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("axes", [None, [0], [2, 0]])
def test_the_kernel_density_is_that_of_scipy(axes: list[int] | None) -> None:
    belief = weighted()
    chosen = [0, 1, 2] if axes is None else axes
    points = random_normal(4, 2, 6, len(chosen))
    found = belief.density(axes).log_density(points)
    for row in range(2):
        kernel = stats.gaussian_kde(
            belief.particles[row][:, chosen].T.numpy(),
            "silverman",
            weights=belief.log_weights[row].exp().numpy(),
        )
        np.testing.assert_allclose(found[row].numpy(), kernel.logpdf(points[row].T.numpy()), rtol=1e-6)


def test_the_kernel_density_integrates_to_one() -> None:
    belief = weighted(dimension=2)
    axis = torch.linspace(-12, 12, 241, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis).expand(2, -1, -1)
    total = belief.density().log_density(points).exp().sum(-1) * 0.1**2
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-6)


def test_samples_are_those_of_the_kernel_density() -> None:
    belief = weighted()
    points = belief.density([1, 2]).sample(40_000)
    mean, covariance = belief.density([1, 2]).moments()
    bandwidth = (sample_efficiency(belief.log_weights) * (2 + 2) / 4) ** (-1 / 6)
    # the kernels add their covariance to that of the particles, which is biased by the sum of squared weights
    bias = 1 - 1 / sample_efficiency(belief.log_weights)
    expected = covariance * (bias + bandwidth.square())[:, None, None]
    torch.testing.assert_close(points.mean(1), mean, rtol=0, atol=0.05)
    offset = points - points.mean(1, keepdim=True)
    torch.testing.assert_close(offset.mT @ offset / 40_000, expected, rtol=0.05, atol=0.05)


def test_resampling_is_systematic_and_only_where_needed() -> None:
    belief = weighted(batch=2, particles=500)
    belief.log_weights[1] = torch.log_softmax(3 * random_normal(5, 500), -1)  # a poor one
    before, weights = belief.particles.clone(), belief.log_weights.exp()
    assert (sample_efficiency(belief.log_weights) < 250).tolist() == [False, True]
    belief.resample()
    torch.testing.assert_close(belief.particles[0], before[0], rtol=0, atol=0)
    torch.testing.assert_close(belief.log_weights[0].exp(), weights[0])
    torch.testing.assert_close(belief.log_weights[1], torch.full((500,), -math.log(500)).double())
    copies = (belief.particles[1][:, None] == before[1][None]).all(-1).sum(0)
    assert int(copies.sum()) == 500
    assert bool(((copies - 500 * weights[1]).abs() < 1).all())


def test_motion_may_have_singular_noise() -> None:
    belief = weighted(batch=1, particles=20_000, dimension=2)
    mean, covariance = belief.density().moments()
    transition, noise = (numbers(*each).view(2, 2) for each in ((1.0, 0.5, 0.0, 0.9), (1.0, 0.0, 0.0, 0.0)))
    second = belief.particles[..., 1].clone()
    belief.move(fixed_step(transition, noise), torch.ones(1))
    torch.testing.assert_close(belief.particles[..., 1], 0.9 * second)
    moved_mean, moved = belief.density().moments()
    torch.testing.assert_close(moved_mean[0], transition @ mean[0], rtol=0, atol=0.05)
    torch.testing.assert_close(
        moved[0], transition @ covariance[0] @ transition.mT + noise, rtol=0.05, atol=0.05
    )


def test_entities_without_observations_keep_their_weights() -> None:
    belief = weighted(dimension=2)
    sensor = distance(numbers(3.0, -2.0), 3.2, 0.3)
    observations = observe([sensor], [sensor])
    observations.mask[0] = False
    before = belief.log_weights.clone()
    belief.update(observations)
    torch.testing.assert_close(belief.log_weights[0], before[0])
    assert not torch.allclose(belief.log_weights[1], before[1])


def test_the_weights_are_prior_times_likelihood() -> None:
    belief = weighted(dimension=2)
    observations = observe(
        [distance(numbers(3.0, -2.0), 3.2, 0.3, 0.1), bearing(numbers(-6.0, 1.0), 0.1, 0.1)],
        [bearing(numbers(-6.0, 1.0), 0.1, 0.1)],
    )
    expected = torch.log_softmax(belief.log_weights + observations.log_likelihood(belief.particles), -1)
    belief.update(observations)
    torch.testing.assert_close(belief.log_weights, expected)


def test_one_particle_with_all_the_weight_still_has_a_density() -> None:
    belief = ParticleFilter(random_mixture(1, 1, 3, 2), 100, generator(2))
    belief.update(observe([linear(torch.eye(2, dtype=torch.float64), numbers(9.0, 9.0), 1e-4)]))
    points = torch.cat([belief.density().moments()[0][:, None], belief.density().sample(5)], 1)
    assert bool(belief.density().log_density(points).isfinite().all())


def test_it_is_a_function_of_the_generator() -> None:
    prior = random_mixture(1, 2, 3, 2)
    first, second = (ParticleFilter(prior, 50, generator(7)) for _ in range(2))
    torch.testing.assert_close(first.density().sample(5), second.density().sample(5), rtol=0, atol=0)


def test_a_single_particle_is_refused() -> None:
    with pytest.raises(ValueError, match="particles"):
        ParticleFilter(random_mixture(1, 1, 1, 2), 1, generator(0))


def test_a_density_with_noise_is_that_of_wider_kernels() -> None:
    belief, noise = weighted(), random_covariances(6, 2, dimension=2)
    points = random_normal(4, 2, 5, 2)
    _, covariance = belief.density([0, 2]).moments()
    bandwidth = (sample_efficiency(belief.log_weights) * (2 + 2) / 4) ** (-1 / 6)
    kernel = bandwidth.square()[:, None, None] * covariance + noise
    centres = belief.particles[..., [0, 2]]
    kernels = GaussianMixture(
        belief.log_weights, centres, kernel[:, None].expand(-1, centres.shape[1], -1, -1)
    )
    assert_near(belief.density([0, 2], noise).log_density(points), kernels.log_density(points), 1e-6)
    draws = belief.density([0, 2], noise).sample(20_000)
    torch.testing.assert_close(draws.mean(1), kernels.moments()[0], rtol=0, atol=0.05)
    for row in range(2):
        torch.testing.assert_close(torch.cov(draws[row].T), kernels.moments()[1][row], rtol=0.05, atol=0.05)
