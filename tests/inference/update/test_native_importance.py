"""Native importance points, their quality, and images of the prior, against PyTorch's operators."""

from __future__ import annotations

import math
from unittest import mock

import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update import importance
from tests.inference.plain_models import random_mixture
from tests.inference.update.test_native_closed_forms import (
    BATCH,
    assert_equal,
    counts,
    fresh,
    probabilities,
    problem,
    seeds,
    sizes,
    spreads,
)

few = settings(max_examples=40, deadline=None)


@few
@given(seeds, sizes, counts, probabilities, spreads, st.sampled_from([64, 100, 257]))
def test_native_points_and_quality_are_those_of_operators(
    seed: int, size: int, count: int, probability: float, spread: float, points: int
) -> None:
    prior, observations = problem(seed, size, count, probability, spread)
    other = random_mixture(seed + 1, BATCH, 5, size)
    answer = GaussianMixture(
        other.log_weights, spread * (0.3 * other.means), 0.5 * spread**2 * other.covariances
    )
    images = GaussianMixture(
        torch.full_like(prior.log_weights, -math.log(count)), prior.means, prior.covariances
    )
    given_all = prior, answer, observations, images
    found = importance.weigh(*given_all, points, 3)
    quality = importance.quality(found)
    with mock.patch.object(importance, "is_native", return_value=False):  # as where the network ran on a GPU
        expected = importance.weigh(*given_all[:2], fresh(observations), images, points, 3)
        theirs = importance.quality(expected)
    for name in ("points", "target", "proposal", "answer"):
        assert_equal(getattr(found, name), getattr(expected, name), 1e-9)
    present = prior.present
    assert_equal(found.prior_components[present], expected.prior_components[present], 1e-9)
    for one, their in zip(quality, theirs, strict=True):
        assert_equal(one, their, 1e-7)


def test_points_that_are_impossible_or_not_a_number_give_a_quality_that_is_none() -> None:
    finite = torch.zeros(1, 4, dtype=torch.float64)
    never, broken = torch.full_like(finite, -math.inf), torch.full_like(finite, math.nan)
    for target in (never, broken):
        size, _, divergence, _ = importance.quality(
            importance.Weighted(finite, target, finite, finite, finite)
        )
        assert bool(size.isnan().all()) and bool(divergence.isnan().all())


def test_an_impossible_point_has_no_weight() -> None:
    finite = torch.zeros(1, 4, dtype=torch.float64)
    target = finite.clone()
    target[0, 0] = -math.inf
    found = importance.quality(importance.Weighted(finite, target, finite, target, finite))
    assert float(found.log_evidence[0]) == pytest.approx(math.log(3 / 4))
    assert float(found.divergence[0]) == pytest.approx(math.log(4 / 3))
