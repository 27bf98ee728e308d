"""Scores: against chi-square levels, hand-made numbers and calibrated beliefs."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from beliefstream.inference.evaluation.baselines import ParticleFilter
from beliefstream.inference.evaluation.scores import Score, mixture_level, mixture_points, particle_level
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from tests.inference.plain_models import generator, numbers, random_covariances, random_mixture, random_normal


@pytest.mark.parametrize("dimension", [1, 2, 4])
def test_the_level_under_a_gaussian_is_that_of_chi_square(dimension: int) -> None:
    covariance = random_covariances(1, 6, dimension=dimension)
    belief = GaussianMixture.gaussian(random_normal(2, 6, dimension), covariance)
    truth = belief.means[:, 0] + random_normal(3, 6, dimension)
    offset = truth - belief.means[:, 0]
    squared = (offset * torch.linalg.solve(covariance, offset[..., None])[..., 0]).sum(-1)
    expected = torch.from_numpy(stats.chi2(dimension).cdf(squared.numpy()))
    torch.testing.assert_close(mixture_level(belief, truth, 4096), expected, rtol=0, atol=0.02)


def test_quasi_random_points_have_the_moments_of_the_mixture() -> None:
    mixture = pad(random_mixture(4, 3, 4, 2), 6)
    points = mixture_points(mixture, 4096)
    mean, covariance = mixture.moments()
    offset = points - points.mean(1, keepdim=True)
    torch.testing.assert_close(points.mean(1), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(offset.mT @ offset / 4096, covariance, rtol=0.03, atol=0.03)
    torch.testing.assert_close(points, mixture_points(mixture, 4096), rtol=0, atol=0)


def test_truths_drawn_from_the_mixture_are_covered_at_every_level() -> None:
    mixture = random_mixture(4, 1, 4, 2)
    truths = mixture.sample(2000, generator(5))[0]
    beliefs = mixture.rows(torch.zeros(2000, dtype=torch.long))
    level = mixture_level(beliefs, truths)
    assert stats.kstest(level.numpy(), "uniform").statistic < 0.05


def test_a_narrow_belief_covers_too_little() -> None:
    mixture = random_mixture(4, 1, 4, 2)
    truths = mixture.sample(500, generator(5))[0]
    narrow = GaussianMixture(mixture.log_weights, mixture.means, mixture.covariances / 9)
    level = mixture_level(narrow.rows(torch.zeros(500, dtype=torch.long)), truths)
    assert float((level <= 0.9).double().mean()) < 0.6


def test_the_level_of_particles_is_near_that_of_their_mixture() -> None:
    mixture = random_mixture(4, 8, 1, 3)  # one component: a kernel density blurs several
    truth = mixture.sample(1, generator(5))[:, 0]
    belief = ParticleFilter(mixture, 4000, generator(6))
    axes = [0, 2]
    found = particle_level(belief, truth[:, axes], axes, count=1000)
    expected = mixture_level(mixture.marginal(axes), truth[:, axes], 4096)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.1)


def test_the_summary_is_that_of_hand_made_numbers() -> None:
    score = Score()
    zero = torch.zeros(2, 2, dtype=torch.float64)
    score.add(zero, torch.tensor([[3.0, 4.0], [0.0, 1.0]]).double(), numbers(-1.0, -3.0), numbers(0.95, 0.2))
    score.add(zero[:1], numbers(0.0, 2.0)[None], numbers(-2.0), numbers(0.9))
    summary = score.summary()
    assert summary.cases == 3
    assert summary.rmse == pytest.approx(math.sqrt(30 / 3))
    assert summary.median == pytest.approx(2.0)
    assert summary.negative_log_likelihood == pytest.approx(2.0)
    assert summary.coverage90 == pytest.approx(2 / 3)


def test_a_score_of_nothing_is_nan() -> None:
    summary = Score().summary()
    assert summary.cases == 0
    assert math.isnan(summary.rmse)
    assert math.isnan(summary.coverage90)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        Score().add(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 1), torch.zeros(2))
