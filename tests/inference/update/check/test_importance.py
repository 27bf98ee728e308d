from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from scipy.stats import multivariate_normal, norm

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode, position
from beliefstream.inference.update.check import importance
from beliefstream.inference.update.updater import Updater
from tests.inference.plain_models import random_mixture
from tests.inference.problems import sampled, updater


def linear_problem() -> tuple[GaussianMixture, Observations, GaussianMixture]:
    """One Gaussian prior, one position, and the exact posterior."""
    eye = torch.eye(2, dtype=torch.float64)[None]
    prior = GaussianMixture.gaussian(torch.zeros(1, 2, dtype=torch.float64), eye)
    sensor = position([0, 1], 2, 0.25 * np.eye(2))
    observations = encode([[Reading(sensor, np.array([1.0, -0.5]))]], 2)
    return prior, observations, Updater(updater().network).update(prior, observations).posterior


def weigh(
    prior: GaussianMixture, answer: GaussianMixture, observations: Observations, count: int, seed: int
) -> importance.Weighted:
    return importance.weigh(importance.Mixtures(answer, prior, prior), observations, count, seed)


def size_of(prior: GaussianMixture, answer: GaussianMixture, observations: Observations) -> float:
    weighted = weigh(prior, answer, observations, 512, seed=1)
    return float(importance.quality(weighted).sample_efficiency[0])


def test_the_exact_posterior_has_sample_efficiency_one_and_the_right_evidence() -> None:
    prior, observations, exact = linear_problem()
    weighted = weigh(prior, exact, observations, 512, seed=1)
    size, evidence, divergence, _ = importance.quality(weighted)
    assert float(divergence[0]) < 0.01
    assert abs(float(size[0]) - 1) < 0.02
    truth = updater().update(prior, observations).log_evidence
    assert abs(float(evidence[0] - truth[0])) < 0.02


def test_an_answer_too_narrow_or_displaced_has_a_small_one() -> None:
    prior, observations, exact = linear_problem()
    narrow = GaussianMixture(exact.log_weights, exact.means, exact.covariances * 0.3)
    displaced = GaussianMixture(exact.log_weights, exact.means + 0.8, exact.covariances)
    assert size_of(prior, narrow, observations) < 0.6
    assert size_of(prior, displaced, observations) < 0.4


def test_a_mode_that_the_answer_misses_is_seen() -> None:
    # two places are equally likely, the answer knows one
    means = torch.tensor([[[-5.0, 0.0], [5.0, 0.0]]], dtype=torch.float64)
    eye = torch.eye(2, dtype=torch.float64).expand(1, 2, 2, 2)
    half = torch.tensor([[0.5, 0.5]], dtype=torch.float64).log()
    prior = GaussianMixture(half, means, eye)
    _, observations, _ = linear_problem()
    nothing = Observations(
        **{name: getattr(observations, name) for name in observations.__dataclass_fields__}
        | {"mask": observations.mask & False}
    )
    one = GaussianMixture(half[:, :1] * 0, means[:, :1], eye[:, :1])
    assert size_of(prior, one, nothing) < 0.1
    assert size_of(prior, prior, nothing) > 0.95


def test_the_same_problem_gives_the_same_points() -> None:
    prior, observations, _ = sampled(3, seed=4)
    first = weigh(prior, prior, observations, 64, seed=5)
    second = weigh(prior, prior, observations, 64, seed=5)
    assert torch.equal(first.points, second.points)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.sampled_from([64, 100, 257]))
def test_points_and_densities_are_those_of_scipy(seed: int, size: int, count: int, points: int) -> None:
    prior, answer, images = (random_mixture(seed + turn, 2, count + turn, size) for turn in range(3))
    observations = encode([[Reading(position([0], size, [[0.3]]), np.array([0.2]))]] * 2, size)
    found = importance.weigh(importance.Mixtures(answer, prior, images), observations, points, 3)

    def density(mixture: GaussianMixture, b: int, widening: float = 1.0) -> Any:
        laws = [
            multivariate_normal(mixture.means[b, k].numpy(), widening * mixture.covariances[b, k].numpy())
            for k in range(mixture.components)
        ]
        weights = mixture.log_weights[b].exp().tolist()
        return sum(w * law.pdf(found.points[b].numpy()) for w, law in zip(weights, laws, strict=True))

    numbers = [round(share * points) for share in importance.SHARES[:3]]
    shares = np.array([*numbers, points - sum(numbers)]) / points
    for b in range(2):
        parts = density(answer, b), density(answer, b, 4.0), density(prior, b), density(images, b)
        likelihood = norm(0.2, math.sqrt(0.3)).logpdf(found.points[b, :, 0].numpy())
        expected = {
            "target": np.log(parts[2]) + likelihood,
            "proposal": np.log(shares @ np.array(parts).reshape(4, -1)),
            "answer": np.log(parts[0]),
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(found, name)[b], values, rtol=1e-8, atol=1e-8)
    near = found.points[:, : numbers[0]]
    np.testing.assert_allclose(near.mean(1), answer.moments()[0], atol=1.0)


def test_points_that_are_impossible_or_not_a_number_give_a_quality_that_is_none() -> None:
    finite = torch.zeros(1, 4, dtype=torch.float64)
    never, broken = torch.full_like(finite, -math.inf), torch.full_like(finite, math.nan)
    for target in (never, broken):
        size, _, divergence, _ = importance.quality(importance.Weighted(finite, target, finite, finite))
        assert bool(size.isnan().all()) and bool(divergence.isnan().all())


def test_an_impossible_point_has_no_weight() -> None:
    finite = torch.zeros(1, 4, dtype=torch.float64)
    target = finite.clone()
    target[0, 0] = -math.inf
    found = importance.quality(importance.Weighted(finite, target, finite, target))
    assert float(found.log_evidence[0]) == pytest.approx(math.log(3 / 4))
    assert float(found.divergence[0]) == pytest.approx(math.log(4 / 3))
