from __future__ import annotations

import torch

from research.paper.form.refinement import divergence, fit, refine
from research.paper.form.whitening import whiten
from research.paper.scalar import ScalarMixture
from tests.research.paper.normal_task import NormalTask, posterior


def mixture(weights: list[float], means: list[float], scales: list[float]) -> ScalarMixture:
    parts = (torch.tensor([part], dtype=torch.float64) for part in (weights, means, scales))
    share, mean, scale = parts
    return ScalarMixture(share.log(), mean, scale.log())


def test_a_fit_finds_the_mixture_that_its_points_come_from() -> None:
    points = torch.linspace(-12, 12, 800, dtype=torch.float64)[None]
    target = mixture([0.3, 0.7], [-2.0, 1.5], [0.5, 1.2])
    weights = torch.softmax(target.log_density(points), 1)
    found = fit(points, weights, mixture([0.5, 0.5], [-1.0, 1.0], [1.0, 1.0]), 40)
    order = found.means.argsort()
    for part, expected in zip(found, target, strict=True):
        torch.testing.assert_close(part.gather(1, order), expected, atol=1e-4, rtol=0)


def test_the_estimated_divergence_is_that_of_normal_densities() -> None:
    task = NormalTask()
    problems = task.sample(40, torch.Generator().manual_seed(1))
    mean, deviation = posterior(problems)
    answer = ScalarMixture(
        *(part[:, None] for part in (0 * mean, mean + 0.5 * deviation, (2 * deviation).log()))
    )
    found = divergence(task, problems, whiten(task, problems), answer)
    expected = torch.full_like(found, 2.0).log() + (1 + 0.25) / 8 - 0.5
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_refined_answer_is_the_exact_one_where_that_is_a_mixture() -> None:
    task = NormalTask()
    problems = task.sample(30, torch.Generator().manual_seed(2))
    mean, deviation = posterior(problems)
    first = ScalarMixture(*(part[:, None] for part in (0 * mean, mean + deviation, (3 * deviation).log())))
    found = refine(task, problems, first)
    assert float(found.divergence.max()) < 1e-6
    torch.testing.assert_close(found.posterior.means[:, 0], mean, atol=1e-3, rtol=0)


def test_a_perfect_answer_is_left_as_it_is() -> None:
    task = NormalTask()
    problems = task.sample(30, torch.Generator().manual_seed(3))
    mean, deviation = posterior(problems)
    first = ScalarMixture(*(part[:, None] for part in (0 * mean, mean, deviation.log())))
    found = refine(task, problems, first).posterior
    torch.testing.assert_close(found.means, first.means, atol=1e-5, rtol=0)
