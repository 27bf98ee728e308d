"""Exact samples stand for the posterior: known divergences, files that are read again, modes that are counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.training.families import Problems
from research.evaluation.exact import reference as module
from research.evaluation.exact.modes import count_modes
from research.evaluation.exact.reference import Reference, references
from research.evaluation.problems import HELD_OUT_SEED, held_out_problems, kinds
from tests.inference.plain_models import distance, linear, numbers, observe, random_covariances, random_normal


def linear_problem(dimension: int) -> tuple[Problems, torch.distributions.MultivariateNormal]:
    """A Gaussian seen by a linear sensor, and its posterior."""
    mean, covariance = random_normal(1, dimension), random_covariances(2, dimension=dimension)
    matrix, value = torch.eye(dimension, dtype=torch.float64), random_normal(3, dimension)
    precision = torch.linalg.inv(covariance) + torch.eye(dimension).double() / 0.25
    posterior = torch.linalg.inv(precision)
    centre = posterior @ (torch.linalg.solve(covariance, mean) + value / 0.25)
    prior = GaussianMixture.gaussian(mean[None], covariance[None])
    problems = Problems(prior, torch.zeros(1).long(), mean[None], observe([linear(matrix, value, 0.5)]))
    return problems, torch.distributions.MultivariateNormal(centre, posterior)


@pytest.mark.parametrize("dimension", [1, 2, 3, 5])
def test_the_divergence_of_a_known_wrong_answer_is_the_closed_form(dimension: int) -> None:
    problems, posterior = linear_problem(dimension)
    reference = Reference.of(problems)
    wrong_mean = posterior.mean + 0.2 * random_normal(4, dimension)
    wrong = posterior.covariance_matrix * 1.5
    expected = torch.distributions.kl_divergence(
        posterior, torch.distributions.MultivariateNormal(wrong_mean, wrong)
    )
    found = reference.divergence(GaussianMixture.gaussian(wrong_mean[None], wrong[None]).log_density)
    assert float(found) == pytest.approx(float(expected), rel=0.04)
    right = GaussianMixture.gaussian(posterior.mean[None], posterior.covariance_matrix[None])
    assert float(reference.divergence(right.log_density)) == pytest.approx(0.0, abs=0.01)


def test_a_file_is_read_again_for_the_same_problems_and_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "exact.pt"
    _, first = references("mixed", 1, 6, cache=cache)
    before = cache.read_bytes()
    monkeypatch.setattr(module, "grid_posterior", lambda *_: pytest.fail("computed again"))
    _, again = references("mixed", 1, 4, cache=cache)
    torch.testing.assert_close(again.points, first.points[:4], rtol=0, atol=0)
    monkeypatch.undo()
    references("mixed", 1, 4, seed=1, cache=cache)
    assert cache.read_bytes() != before


def test_fewer_problems_are_the_first_of_more() -> None:
    # PyTorch uses the low 32 bits of a CPU generator's seed; a training step's seed is the step itself
    assert 10_000_000 < HELD_OUT_SEED + 100 * 1_000_003 + 10 * 10_007 < 2**32
    more, fewer = held_out_problems("mixed", 2, 70), held_out_problems("mixed", 2, 5)
    torch.testing.assert_close(more.state[:5], fewer.state, rtol=0, atol=0)
    torch.testing.assert_close(more.observations.value[:5], fewer.observations.value, rtol=0, atol=0)
    assert not torch.equal(held_out_problems("mixed", 2, 5, seed=1).state, fewer.state)


@pytest.mark.parametrize(
    ("family", "count", "seed", "part"),
    [("cubic", 1, 0, "cubic"), ("mixed", 0, 0, "count"), ("mixed", 1, 100, "seed")],
)
def test_a_list_that_does_not_exist_is_refused(family: str, count: int, seed: int, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        held_out_problems(family, 2, count, seed)


def test_kinds_count_what_is_used() -> None:
    ring, other = (
        distance(numbers(1.0, 0.0), 2.0, 0.1),
        linear(numbers(1.0, 0.0)[None], numbers(0.3), 0.5, 0.2),
    )
    prior = GaussianMixture.gaussian(torch.zeros(2, 2).double(), torch.eye(2).double().expand(2, 2, 2))
    found = kinds(prior, observe([ring], [ring, other]))
    assert found["one range only"].tolist() == [True, False]
    assert found["with outliers"].tolist() == [False, True]
    assert found["2 observations"].tolist() == [False, True]
    assert found["Gaussian prior"].all()


@pytest.mark.parametrize(("distance_apart", "expected"), [(0.0, 1), (1.0, 1), (8.0, 2)])
def test_two_gaussians_are_two_modes_when_they_are_far_apart(distance_apart: float, expected: int) -> None:
    means = torch.zeros(1, 2, 3, dtype=torch.float64)
    means[0, 1, 0] = distance_apart
    eye = torch.eye(3, dtype=torch.float64).expand(1, 2, 3, 3)
    mixture = GaussianMixture.from_weights(torch.full((1, 2), 0.5).double(), means, eye)
    points = mixture.sample(400, torch.Generator().manual_seed(1))
    assert count_modes(points, mixture.log_density).tolist() == [expected]


def test_a_ring_is_one_mode() -> None:
    angle = torch.linspace(0, 6.28, 300, dtype=torch.float64)
    points = torch.stack([angle.cos(), angle.sin()], -1)[None]
    ring = count_modes(points, lambda x: -0.5 * ((x.square().sum(-1).sqrt() - 1) / 0.05).square())
    assert ring.tolist() == [1]
