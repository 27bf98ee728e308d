"""Annealed samples are exact: against closed forms in 3 to 6 dimensions and the grid in 1 and 2."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_density
from research.evaluation.exact.annealed import AnnealedPosterior, annealed_posterior, bridge
from research.evaluation.exact.grid import grid_posterior
from research.evaluation.problems import held_out_problems
from tests.inference.plain_models import (
    distance,
    generator,
    linear,
    numbers,
    observe,
    random_mixture,
    random_normal,
)

PARTICLES = 1024


def closed_form(
    prior: GaussianMixture, matrix: Tensor, value: Tensor, noise: float
) -> tuple[GaussianMixture, Tensor]:
    """Posterior and log evidence of a mixture seen by one linear sensor, component by component."""
    spread = matrix @ prior.covariances @ matrix.mT + noise**2 * torch.eye(len(value), dtype=torch.float64)
    gain = prior.covariances @ matrix.mT @ torch.linalg.inv(spread)
    offset = value - prior.means @ matrix.mT
    seen = GaussianMixture(prior.log_weights, torch.zeros_like(offset), spread)
    joint = prior.log_weights + component_log_density(offset, seen.means, seen.factors()).diagonal(0, 2, 1)
    means = prior.means + (gain @ offset[..., None])[..., 0]
    covariances = prior.covariances - gain @ matrix @ prior.covariances
    evidence = torch.logsumexp(joint, 1)
    return GaussianMixture(joint - evidence[:, None], means, covariances), evidence


@pytest.mark.parametrize("dimension", [3, 4, 6])
def test_a_mixture_seen_by_linear_sensors_has_the_closed_form(dimension: int) -> None:
    prior = random_mixture(dimension, 1, 3, dimension)
    matrix = random_normal(dimension + 1, 2, dimension)
    value = matrix @ prior.means[0, 1] + random_normal(dimension + 2, 2)
    posterior, evidence = closed_form(prior, matrix, value, 0.3)
    found = annealed_posterior(prior, observe([linear(matrix, value, 0.3)]), PARTICLES, generator(1))
    assert abs(float(found.log_evidence - evidence)) < 0.08  # its standard deviation is 0.02
    expected = posterior.log_density(found.points)
    torch.testing.assert_close(found.log_density, expected, rtol=0, atol=0.08)
    mean, covariance = posterior.moments()
    error = (covariance[0].diagonal() / PARTICLES).sqrt()
    assert bool(((found.points[0].mean(0) - mean[0]).abs() < 6 * error).all())
    # the share of each component's mass among the samples
    logs = component_log_density(found.points, posterior.means, posterior.factors())
    mass = torch.softmax(logs + posterior.log_weights[..., None], 1)[0].mean(1)
    torch.testing.assert_close(mass, posterior.log_weights[0].exp(), rtol=0, atol=0.06)


@pytest.mark.parametrize("dimension", [1, 2])
def test_the_grid_agrees_on_held_out_problems(dimension: int) -> None:
    count = 8
    problems = held_out_problems("mixed", dimension, count, seed=7)
    found = annealed_posterior(problems.prior, problems.observations, PARTICLES, generator(2))
    for row in range(count):
        one = slice(row, row + 1)
        exact = grid_posterior(problems.prior.rows(one), problems.observations.rows_of(one))
        assert abs(float(found.log_evidence[row]) - exact.log_evidence) < 0.03
        mean, covariance = exact.moments()
        error = (covariance.diagonal() / PARTICLES).sqrt()
        assert bool(((found.points[row].mean(0) - mean).abs() < 8 * error).all())


def ring(particles: int, seed: int) -> AnnealedPosterior:
    """Four runs' worth of two sharp ranges that meet in two places."""
    prior = GaussianMixture.gaussian(torch.zeros(1, 3).double(), 4 * torch.eye(3).double()[None])
    sensors = [distance(numbers(3.0, 0.0, 0.0), 3.2, 0.05), distance(numbers(0.0, 3.0, 0.0), 3.2, 0.05)]
    sensors.append(distance(numbers(-3.0, 0.0, 0.0), 3.2, 0.05))
    return annealed_posterior(prior, observe(sensors), particles, generator(seed))


def test_both_mirror_images_hold_half_of_the_samples() -> None:
    # all sensors lie in the plane of the first two axes, and the prior is symmetric about it
    upper = (ring(PARTICLES, 3).points[0, :, 2] > 0).double().mean()
    assert abs(float(upper) - 0.5) < 0.08


def test_the_error_estimate_is_of_the_size_of_the_error() -> None:
    runs = [ring(512, seed) for seed in range(8)]
    spread = float(torch.cat([run.log_evidence for run in runs]).std())
    stated = float(torch.cat([run.standard_error for run in runs]).square().mean().sqrt())
    assert 0.3 * spread < stated < 3 * spread


def test_the_same_generator_gives_the_same_samples() -> None:
    torch.testing.assert_close(ring(256, 5).points, ring(256, 5).points, rtol=0, atol=0)


def test_a_bridge_between_gaussians_finds_the_ratio_of_their_constants() -> None:
    here, there = random_normal(1, 4000), 0.5 + 1.3 * random_normal(2, 16000)

    def log_ratio(x: Tensor) -> Tensor:
        q = -0.5 * ((x - 0.5) / 1.3).square() - math.log(1.3 * math.sqrt(2 * math.pi))
        return -0.5 * x.square() + 2.0 - q

    expected = 2.0 + 0.5 * math.log(2 * math.pi)
    assert float(bridge(log_ratio(here), log_ratio(there))) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("particles", [1023, 128])
def test_a_number_that_does_not_make_runs_is_refused(particles: int) -> None:
    with pytest.raises(ValueError, match="particles"):
        ring(particles, 1)
