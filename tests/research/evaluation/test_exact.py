"""The grid is the exact posterior: against closed forms, brute force and random search."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Noise
from research.evaluation.exact import grid as exact
from research.evaluation.exact.grid import best_log_density, grid_posterior
from research.evaluation.problems import held_out_problems
from tests.inference.likelihood.test_noise import BIASED, PUBLISHED, range_with
from tests.inference.plain_models import (
    bearing,
    distance,
    generator,
    linear,
    numbers,
    observe,
    random_covariances,
    random_mixture,
    random_normal,
)
from tests.inference.reports import at, report


def closed_form(
    mean: Tensor, covariance: Tensor, matrix: Tensor, value: Tensor, noise: float
) -> tuple[Tensor, Tensor, float]:
    """Mean, covariance and log evidence of a Gaussian seen by one linear sensor."""
    spread = matrix @ covariance @ matrix.mT + noise**2 * torch.eye(len(value), dtype=torch.float64)
    gain = covariance @ matrix.mT @ torch.linalg.inv(spread)
    offset = value - matrix @ mean
    squared = offset @ torch.linalg.solve(spread, offset)
    evidence = -0.5 * (squared + torch.logdet(2 * math.pi * spread))
    return mean + gain @ offset, covariance - gain @ matrix @ covariance, float(evidence)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 2))
def test_linear_gaussian_problems_have_the_closed_form(seed: int, dimension: int) -> None:
    mean, covariance = random_normal(seed, dimension), random_covariances(seed + 1, dimension=dimension)
    matrix = random_normal(seed + 2, dimension, dimension)
    value = matrix @ mean + random_normal(seed + 3, dimension)
    expected = closed_form(mean, covariance, matrix, value, 0.4)
    prior = GaussianMixture.gaussian(mean[None], covariance[None])
    posterior = grid_posterior(prior, observe([linear(matrix, value, 0.4)]))
    found_mean, found_covariance = posterior.moments()
    assert posterior.resolved
    torch.testing.assert_close(found_mean, expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_covariance, expected[1], rtol=1e-4, atol=1e-5)
    assert posterior.log_evidence == pytest.approx(expected[2], abs=1e-5)
    answer = GaussianMixture.gaussian(expected[0][None], expected[1][None])
    assert posterior.divergence(answer) == pytest.approx(0.0, abs=1e-5)


def test_divergence_is_that_between_gaussians() -> None:
    mean, covariance = random_normal(1, 2), random_covariances(2, dimension=2)
    prior = GaussianMixture.gaussian(mean[None], covariance[None])
    nothing = observe([linear(numbers(1.0, 0.0)[None], numbers(0.0), 1.0)])
    nothing.mask[:] = False
    other_mean, other = random_normal(3, 2), random_covariances(4, dimension=2)
    answer = GaussianMixture.gaussian(other_mean[None], other[None])
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(normal(mean, covariance), normal(other_mean, other))
    found = grid_posterior(prior, nothing).divergence(answer)
    assert found == pytest.approx(float(expected), rel=1e-4)


def brute_force(prior: GaussianMixture, observations: Observations, width: float, count: int) -> Tensor:
    """Log density at the points of one dense, uniform grid and the points, ``(P, 3)``."""
    axis = torch.linspace(-width, width, count, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    joint = torch.cat(
        [
            prior.log_density(chunk[None])[0] + observations.log_likelihood(chunk[None])[0]
            for chunk in torch.split(points, 50_000)
        ]
    )
    step = 2 * width / (count - 1)
    evidence = torch.logsumexp(joint, 0) + 2 * math.log(step)
    return torch.cat([points, (joint - evidence)[:, None], evidence.expand(len(points), 1)], 1)


def test_rings_rays_and_outliers_are_those_of_brute_force() -> None:
    prior = random_mixture(11, 1, 3, 2)
    observations = observe(
        [
            distance(numbers(3.0, -2.0), 3.2, 0.1, 0.2),
            bearing(numbers(-6.0, 1.0), 0.1, 0.05, 0.1),
            linear(numbers(1.0, 1.0)[None], numbers(0.5), 0.6, 0.2),
        ]
    )
    dense = brute_force(prior, observations, 9.0, 1201)
    posterior = grid_posterior(prior, observations)
    assert posterior.resolved
    assert posterior.log_evidence == pytest.approx(float(dense[0, 3]), abs=1e-4)
    mass = dense[:, 2].softmax(0)
    mean = (mass[:, None] * dense[:, :2]).sum(0)
    torch.testing.assert_close(posterior.moments()[0], mean, rtol=1e-4, atol=1e-4)
    answer = random_mixture(12, 1, 2, 2)
    difference = dense[:, 2] - answer.log_density(dense[None, :, :2])[0]
    assert posterior.divergence(answer) == pytest.approx(float((mass * difference).sum()), abs=1e-3)


def test_a_mode_far_narrower_than_the_first_cells_is_found() -> None:
    prior = GaussianMixture.gaussian(numbers(0.0, 0.0)[None], torch.eye(2, dtype=torch.float64)[None])
    matrix, value = torch.eye(2, dtype=torch.float64), numbers(1.2345, -0.789)
    posterior = grid_posterior(prior, observe([linear(matrix, value, 1e-3)]))
    mean, _, evidence = closed_form(prior.means[0, 0], prior.covariances[0, 0], matrix, value, 1e-3)
    torch.testing.assert_close(posterior.moments()[0], mean, rtol=1e-6, atol=1e-6)
    assert posterior.log_evidence == pytest.approx(evidence, abs=1e-5)


def test_no_point_of_a_cell_beats_the_bound_on_the_cell() -> None:
    problems = held_out_problems("planar", 2, 24, seed=23)
    for index in range(24):
        one = slice(index, index + 1)
        prior, observations = problems.prior.rows(one), problems.observations.rows_of(one)
        prior, observations = exact._only_used(prior, observations)
        near_sensors = observations.origin[0, :, :2]
        points = torch.cat([prior.sample(60, generator(index))[0], near_sensors, near_sensors + 0.02])
        for cell in (0.5, 0.05):
            offset = torch.rand((40, 2), generator=generator(index), dtype=torch.float64) - 0.5
            inside = (points[:, None] + cell * offset).reshape(-1, 2)
            joint = exact._log_joint(prior, observations, inside).view(len(points), -1).amax(1)
            assert bool((joint <= exact._upper_bound(prior, observations, points, cell) + 1e-9).all())


def test_places_without_a_component_are_ignored() -> None:
    prior = random_mixture(5, 1, 2, 2)
    log_weights = torch.cat([prior.log_weights, numbers(-math.inf)[None]], 1)
    far = torch.full((1, 1, 2), 1e6, dtype=torch.float64)
    padded = GaussianMixture(
        log_weights,
        torch.cat([prior.means, far], 1),
        torch.cat([prior.covariances, prior.covariances[:, :1]], 1),
    )
    observations = observe([distance(numbers(3.0, -2.0), 3.2, 0.3)])
    expected = grid_posterior(prior, observations).log_evidence
    assert grid_posterior(padded, observations).log_evidence == pytest.approx(expected, abs=1e-12)


def test_equal_mass_cells_stand_for_the_whole_grid() -> None:
    observations = observe([distance(numbers(3.0, -2.0), 3.2, 0.1)])
    posterior = grid_posterior(random_mixture(11, 1, 3, 2), observations)
    answer = random_mixture(12, 1, 2, 2)
    chosen = posterior.representatives(4096)
    difference = posterior.log_density[chosen] - answer.log_density(posterior.points[chosen][None])[0]
    assert float(difference.mean()) == pytest.approx(posterior.divergence(answer), abs=5e-3)


def test_samples_have_the_moments_of_the_posterior() -> None:
    observations = observe([distance(numbers(3.0, -2.0), 3.2, 0.3)])
    posterior = grid_posterior(random_mixture(11, 1, 3, 2), observations)
    points, index = posterior.sample(50_000, generator(1))
    mean, covariance = posterior.moments()
    assert bool(((points - posterior.points[index]).abs() <= posterior.cell / 2).all())
    error = (covariance.diagonal() / 50_000).sqrt()
    assert bool(((points.mean(0) - mean).abs() < 5 * error).all())


def test_a_grid_that_ran_out_of_cells_says_so() -> None:
    prior = random_mixture(11, 1, 3, 2)
    observations = observe([distance(numbers(3.0, -2.0), 3.2, 0.001)])
    assert not grid_posterior(prior, observations, most_cells=20_000).resolved


def test_three_dimensions_are_refused() -> None:
    observations = observe([linear(numbers(1.0, 0.0, 0.0)[None], numbers(0.0), 1.0)])
    with pytest.raises(ValueError, match="dimension: expected 1 or 2 coordinates, got 3"):
        grid_posterior(random_mixture(1, 1, 2, 3), observations)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 3.0))
def test_no_density_within_reach_is_above_its_bound(seed: int, reach: float) -> None:
    generator = np.random.default_rng(seed)
    for noise in (BIASED, PUBLISHED, Noise((0.5, 0.5), (0.0, 1.0), (1.0, 2.0), 0.3)):
        value = float(generator.uniform(0, 8))
        observations = report(range_with(noise), value)
        distance = float(generator.uniform(0.1, 8))
        center = at(np.array([distance, 0.0]))
        near = torch.linspace(max(0.0, distance - reach), distance + reach, 101, dtype=torch.float64)
        around = torch.stack([near, torch.zeros_like(near)], -1)[None]
        difference = observations.difference(center)
        magnitude, span = observations.magnitude(difference), torch.full_like(difference, reach)
        bounds = (
            observations.deviation((magnitude - span).clamp_min(0)).expand_as(span),
            observations.deviation(magnitude + span).expand_as(span),
        )
        base = observations.standard_deviation[:, None]
        bound = best_log_density(difference, span, base, bounds, observations.mixture, observations.wraps)
        residuals = observations.residuals(around)
        inlier = residuals.log_likelihood + torch.nn.functional.logsigmoid(residuals.log_odds)
        inlier = inlier - torch.log1p(-observations.outlier_probability) + observations.log_normaliser
        assert float(inlier.max()) <= float(bound) + 1e-6
