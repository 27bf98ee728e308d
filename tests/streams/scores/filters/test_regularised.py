"""The regularised particle filter: right in the limit, no copies, moments kept, and it finds what is sharp."""

from __future__ import annotations

import pytest
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters import (
    ExtendedKalmanFilter,
    ParticleFilter,
    RegularisedParticleFilter,
)
from beliefstream.streams.scores.filters.particle import sample_efficiency
from tests.inference.plain_models import (
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
from tests.research.evaluation.baselines.exact_plane import Raster

EYE = torch.eye(2, dtype=torch.float64)


def test_linear_gaussian_chains_agree_with_the_kalman_filter() -> None:
    mean, covariance = torch.zeros(2, 2, dtype=torch.float64), random_covariances(1, 2, dimension=2)
    motion = fixed_step(numbers(1.0, 0.5, 0.0, 0.9).view(2, 2), 0.02 * random_covariances(2, dimension=2))
    kalman = ExtendedKalmanFilter(mean, covariance, gate=None)
    particles = RegularisedParticleFilter(GaussianMixture.gaussian(mean, covariance), 30_000, generator(3))
    for step in range(12):
        sensors = [linear(numbers(1.0, 0.3)[None], 0.3 * random_normal(step, 1), 0.1)]
        kalman.move(motion, torch.ones(2))
        particles.move(motion, torch.ones(2))
        kalman.update(observe(sensors, sensors))
        particles.update(observe(sensors, sensors))
    found_mean, found = particles.density().moments()
    deviation = kalman.covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    assert bool(((found_mean - kalman.mean).abs() < 0.05 * deviation).all())
    torch.testing.assert_close(found, kalman.covariance, rtol=0.1, atol=0.002)


def test_two_places_with_outliers_are_those_of_a_raster() -> None:
    # two anchors leave a place and its mirror image; the prior is denser at one
    prior = GaussianMixture.gaussian(numbers(0.0, 1.0)[None], 16 * EYE[None])
    anchors = [numbers(-5.0, 0.0), numbers(5.0, 0.0)]
    noise, truth = 0.8 * random_normal(5, 24), numbers(1.0, 4.0)
    sensors = [
        distance(anchors[n % 2], float((truth - anchors[n % 2]).norm() + noise[n]), 0.8, 0.05)
        for n in range(len(noise))
    ]
    exact = Raster(prior, sensors, (0.0, 0.0), 16.0)
    belief = RegularisedParticleFilter(prior, 20_000, generator(1))
    for sensor in sensors:
        belief.resample()
        belief.update(observe([sensor]))
    weights, above = belief.log_weights[0].exp(), belief.particles[0, :, 1] > 0
    assert float(weights[above].sum()) == pytest.approx(exact.share(exact.points[:, 1] > 0), abs=0.05)
    assert 0.55 < exact.share(exact.points[:, 1] > 0) < 0.8
    mean, covariance = exact.moments()
    torch.testing.assert_close(belief.density().moments()[0][0], mean, rtol=0, atol=0.4)
    torch.testing.assert_close(belief.density().moments()[1][0], covariance, rtol=0.1, atol=0.1)


def test_one_update_with_outliers_has_the_moments_of_a_raster() -> None:
    prior = random_mixture(11, 1, 3, 2)
    sensors = [distance(numbers(3.0, -2.0), 3.2, 0.3, 0.2), bearing(numbers(-6.0, 1.0), 0.1, 0.1, 0.1)]
    mean, covariance = Raster(prior, sensors, (0.0, 0.0), 16.0).moments()
    belief = RegularisedParticleFilter(prior, 50_000, generator(2))
    belief.update(observe(sensors))
    torch.testing.assert_close(belief.density().moments()[0][0], mean, rtol=0, atol=0.05)
    torch.testing.assert_close(belief.density().moments()[1][0], covariance, rtol=0.05, atol=0.03)


@pytest.mark.parametrize("away", [0.0, 3.0])
def test_a_sharp_sensor_in_the_tail_is_found(away: float) -> None:
    prior = GaussianMixture.gaussian(torch.zeros(1, 2), EYE[None])
    sensor = linear(EYE, numbers(away, 0.0), 1e-3)
    exact = ExtendedKalmanFilter(*prior.moments(), gate=None)
    exact.update(observe([sensor]))
    belief = RegularisedParticleFilter(prior, 5_000, generator(1))
    belief.update(observe([sensor]))
    mean, covariance = belief.density().moments()
    assert float(sample_efficiency(belief.log_weights)) > 400
    torch.testing.assert_close(mean, exact.mean, rtol=0, atol=3e-4)
    torch.testing.assert_close(covariance, exact.covariance, rtol=0.25, atol=2e-7)
    plain = ParticleFilter(prior, 5_000, generator(1))
    plain.update(observe([sensor]))
    assert float(sample_efficiency(plain.log_weights)) < 10


def test_redrawing_leaves_no_copies_and_keeps_the_moments() -> None:
    prior = random_mixture(1, 2, 3, 2)
    belief, plain = (
        make(prior, 20_000, generator(2)) for make in (RegularisedParticleFilter, ParticleFilter)
    )
    weights = torch.log_softmax(2 * prior.log_density(belief.particles) + belief.particles[..., 0], -1)
    belief.log_weights, plain.log_weights = weights, weights
    mean, covariance = belief.density().moments()
    for one in (belief, plain):
        one.resample()
    assert len(set(belief.particles[0, :, 0].tolist())) == 20_000
    assert len(set(plain.particles[0, :, 0].tolist())) < 15_000
    torch.testing.assert_close(belief.density().moments()[0], mean, rtol=0, atol=0.03)
    torch.testing.assert_close(belief.density().moments()[1], covariance, rtol=0.05, atol=0.02)


def test_only_entities_with_a_poor_sample_are_drawn_again() -> None:
    belief = RegularisedParticleFilter(random_mixture(1, 2, 3, 2), 500, generator(2))
    belief.log_weights[1] = torch.log_softmax(3 * random_normal(5, 500), -1)
    before = belief.particles.clone()
    belief.resample()
    assert torch.equal(belief.particles[0], before[0])
    assert not torch.equal(belief.particles[1], before[1])


def test_a_sharp_observation_of_one_entity_leaves_the_others_weighed_once() -> None:
    prior = GaussianMixture.gaussian(torch.zeros(2, 2), EYE.expand(2, 2, 2))
    mild = distance(numbers(3.0, -2.0), 3.2, 1.0)
    belief, plain = (make(prior, 2_000, generator(2)) for make in (RegularisedParticleFilter, ParticleFilter))
    for one in (belief, plain):
        one.update(observe([mild], [linear(EYE, numbers(2.0, 0.0), 1e-3)]))
    torch.testing.assert_close(belief.particles[0], plain.particles[0])
    torch.testing.assert_close(belief.log_weights[0], plain.log_weights[0])


def test_it_is_a_function_of_the_generator() -> None:
    prior, sensor = random_mixture(1, 1, 3, 2), linear(EYE, numbers(2.0, 0.0), 0.01)
    first, second = (RegularisedParticleFilter(prior, 200, generator(7)) for _ in range(2))
    for one in (first, second):
        one.update(observe([sensor]))
        one.resample()
    assert torch.equal(first.particles, second.particles)
