"""Coordinates that no sensor touches, held against samples of the prior weighed by hand."""

from __future__ import annotations

import math

import numpy as np
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update import native_extension, native_unseen
from beliefstream.inference.update.unseen_coordinates import (
    LEAST_RESPONSIBILITY,
    MERGED_BELOW,
    divergence_by_operators,
    extend,
    responsibilities,
    unseen_divergence,
)
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater
from tests.inference.update.test_native_closed_forms import assert_same_mixture


def test_which_of_two_velocities_it_is_follows_from_the_place() -> None:
    # two sources in one place with opposite velocities: a bearing tells them apart only by where it points
    weights = torch.tensor([[0.6, 0.4]], dtype=torch.float64)
    means = torch.tensor([[[0.0, 0.0, 5.0, 0.0], [0.4, 0.3, -5.0, 0.0]]], dtype=torch.float64)
    covariances = torch.diag(torch.tensor([1.0, 1.0, 0.2, 0.2], dtype=torch.float64)).expand(1, 2, 4, 4)
    prior = GaussianMixture.from_weights(weights, means, covariances)
    place, value, deviation = np.array([1.5, -1.0]), 1.2, 0.1
    reading = Reading(sensors.range_to([0, 1], 4, list(place), deviation), np.array([value]))
    posterior = updater().update(prior, encode([[reading]], 4)).posterior

    points = prior.sample(400_000, torch.Generator().manual_seed(1))[0].numpy()
    distance = np.linalg.norm(points[:, :2] - place, axis=1)
    share = np.exp(-0.5 * ((value - distance) / deviation) ** 2)
    share /= share.sum()
    forward = share[points[:, 2] > 0].sum()
    components = posterior.log_weights[0].exp().numpy()
    answered = components[posterior.means[0, :, 2].numpy() > 0].sum()
    assert abs(answered - forward) < 0.02
    mean = (share[:, None] * points).sum(0)
    np.testing.assert_allclose(posterior.moments()[0][0].numpy(), mean, atol=0.1)


def test_the_velocity_keeps_its_variance_where_the_place_is_known_to_a_millionth() -> None:
    covariance = torch.eye(4, dtype=torch.float64)
    covariance[0, 2] = covariance[2, 0] = 0.5
    prior = GaussianMixture.gaussian(torch.zeros(1, 4, dtype=torch.float64), covariance[None])
    readings = [
        Reading(sensors.range_to([0, 1], 4, place, 1e-6), np.array([np.linalg.norm(place)]))
        for place in ([3.0, 0.0], [0.0, 4.0], [-2.0, -2.0])
    ]
    found = updater().update(prior, encode([readings], 4)).posterior
    assert bool((torch.linalg.eigvalsh(found.covariances) > 0).all())
    left = found.moments()[1][0]
    np.testing.assert_allclose(left.diagonal()[2:].numpy(), [0.75, 1.0], rtol=0.02)


def test_the_divergence_of_the_unseen_coordinates_is_that_of_an_answer_that_merged_two_velocities() -> None:
    """Place and velocity in one dimension; the place tells nothing, so that the rest is one integral."""
    weights, velocities = np.array([0.7, 0.3]), np.array([-2.0, 3.0])
    means = torch.tensor([[[0.0, -2.0], [0.0, 3.0]]], dtype=torch.float64)
    prior = GaussianMixture.from_weights(
        torch.from_numpy(weights)[None], means, torch.eye(2, dtype=torch.float64).expand(1, 2, 2, 2)
    )
    merged = GaussianMixture.gaussian(*prior.moments())
    points = torch.linspace(-2, 2, 4000, dtype=torch.float64)[None, :, None]
    share = torch.full((1, 4000), 1 / 4000, dtype=torch.float64)

    found = unseen_divergence(merged, prior, [0], points, share, 5)

    grid = np.linspace(-12, 13, 20_001)
    exact = (weights * np.exp(-0.5 * (grid[:, None] - velocities) ** 2) / np.sqrt(2 * np.pi)).sum(1)
    mean = float((exact * grid).sum() / exact.sum())
    variance = float((exact * (grid - mean) ** 2).sum() / exact.sum())
    answered = np.exp(-0.5 * (grid - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    expected = float((exact * np.log(exact / answered)).sum() * (grid[1] - grid[0]))
    assert expected > 0.2
    assert abs(float(found) - expected) < 0.02
    assert float(unseen_divergence(prior, prior, [0], points, share, 5)) < 1e-12


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([[0], [2, 0], [1, 3], [0, 1, 2]]),
    st.sampled_from([0.01, 0.3, 3.0]),
)
def test_the_native_extension_is_that_of_operators(
    seed: int, count: int, components: int, axes: list[int], spread: float
) -> None:
    whole = random_mixture(seed, 3, count, 4)
    absent = torch.rand(3, count, generator=torch.Generator().manual_seed(seed)) < 0.3
    absent[:, 0] = False
    log_weights = whole.log_weights.masked_fill(absent, -math.inf).log_softmax(1)
    whole = GaussianMixture(log_weights, whole.means, whole.covariances)
    answer = random_mixture(seed + 1, 3, components, len(axes))
    answer = GaussianMixture(answer.log_weights, answer.means, spread**2 * answer.covariances)
    shares = responsibilities(answer, whole.marginal(axes))
    limits = LEAST_RESPONSIBILITY, MERGED_BELOW
    found = native_extension.extend(answer, whole, axes, *limits)
    assert_same_mixture(found, extend(answer, shares, whole, axes), 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([[0], [2, 0], [1, 3], [0, 1, 2]]),
    st.sampled_from([1, 64, 100]),
)
def test_the_native_divergence_of_unseen_coordinates_is_that_of_operators(
    seed: int, count: int, components: int, axes: list[int], points: int
) -> None:
    whole, answer = random_mixture(seed, 3, count, 4), random_mixture(seed + 1, 3, components, 4)
    generator = torch.Generator().manual_seed(seed)
    at = 2 * torch.randn(3, points, len(axes), generator=generator).double()
    share = torch.rand(3, points, generator=generator).double()
    share = torch.where(share < 0.2, 0.0, share)
    uniform = torch.rand(points, generator=generator).double()
    normal = torch.randn(points, 4 - len(axes), generator=generator).double()
    given = answer, whole, axes, at, share, uniform, normal
    found, expected = native_unseen.divergence(*given), divergence_by_operators(*given)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
