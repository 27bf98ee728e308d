"""Linear-Gaussian problems have a closed form: a Kalman filter a component, weighted by its evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.training.families import Mixed, Problems
from research.evaluation.problems import in_double
from tests.inference.plain_models import generator
from tests.inference.problems import HELD_OUT, updater

COUNT, POINTS = 100, 2000


def linear_problems(dimension: int, components: int) -> Problems:
    """One to six linear sensors each, of noise 1 and without outliers."""
    family = Mixed(components=components, kinds=("vector", "row"))
    problems = in_double(family.sample(COUNT, dimension, generator(HELD_OUT)))
    seen = problems.observations
    exact = la.times(seen.matrix, problems.state[:, None])
    noise = torch.randn(exact.shape, generator=generator(1), dtype=exact.dtype)
    value = exact + noise * (seen.matrix != 0).any(-1)
    plain = replace(seen, value=value, outlier_probability=torch.zeros_like(seen.outlier_probability))
    return problems._replace(observations=plain)


def kalman(problems: Problems) -> GaussianMixture:
    """All rows of a problem at once, in the form of the gain."""
    prior, seen = problems.prior, problems.observations
    used = seen.mask[..., None].expand_as(seen.value).flatten(1)[:, None]
    matrix = (seen.matrix.flatten(1, 2) * used[:, 0, :, None])[:, None]
    value = (seen.value.flatten(1) * used[:, 0])[:, None]
    predicted = (matrix @ prior.means[..., None])[..., 0]
    innovation = matrix @ prior.covariances @ matrix.mT + torch.eye(value.shape[-1], dtype=torch.float64)
    gain = prior.covariances @ matrix.mT @ torch.linalg.inv(innovation)
    means = prior.means + (gain @ (value - predicted)[..., None])[..., 0]
    predictive = MultivariateNormal(predicted, la.symmetrise(innovation), validate_args=False)
    evidence = predictive.log_prob(value)  # type: ignore[no-untyped-call]
    covariances = prior.covariances - gain @ matrix @ prior.covariances
    return GaussianMixture(prior.log_weights + evidence, means, la.symmetrise(covariances)).normalised()


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 6])
def test_a_gaussian_prior_is_within_a_thousandth_of_a_nat_of_kalman(dimension: int) -> None:
    problems = linear_problems(dimension, 1)
    exact, found = kalman(problems), updater().update(problems.prior, problems.observations).posterior
    assert found.present.sum(1).tolist() == [1] * COUNT
    here = MultivariateNormal(exact.means[:, 0], exact.covariances[:, 0])
    there = MultivariateNormal(*found.moments())
    assert float(kl_divergence(here, there).abs().max()) < 1e-6


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 6])
def test_a_mixture_is_within_a_thousandth_of_a_nat_of_kalman_in_spite_of_the_merges(dimension: int) -> None:
    problems = linear_problems(dimension, 8)
    exact, found = kalman(problems), updater().update(problems.prior, problems.observations).posterior
    points = exact.sample(POINTS, generator(2))
    difference = exact.log_density(points) - found.log_density(points)
    assert float(difference.mean()) < 1e-3
    assert float(difference.mean(1).max()) < 5e-3
