"""Coordinates that no sensor touches, held against samples of the prior weighed by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from scipy.stats import multivariate_normal

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, encode
from beliefstream.inference.update.check.unobserved import (
    LEAST_RESPONSIBILITY,
    MERGED_BELOW,
    extend,
    unobserved_divergence,
)
from tests.inference.plain_models import random_mixture
from tests.inference.problems import updater

Array = NDArray[np.float64]


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

    found = unobserved_divergence(merged, prior, [0], points, share)

    grid = np.linspace(-12, 13, 20_001)
    exact = (weights * np.exp(-0.5 * (grid[:, None] - velocities) ** 2) / np.sqrt(2 * np.pi)).sum(1)
    mean = float((exact * grid).sum() / exact.sum())
    variance = float((exact * (grid - mean) ** 2).sum() / exact.sum())
    answered = np.exp(-0.5 * (grid - mean) ** 2 / variance) / np.sqrt(2 * np.pi * variance)
    expected = float((exact * np.log(exact / answered)).sum() * (grid[1] - grid[0]))
    assert expected > 0.2
    assert abs(float(found) - expected) < 0.02
    assert float(unobserved_divergence(prior, prior, [0], points, share)) < 1e-12


AXES = st.sampled_from([[0], [2, 0], [1, 3], [0, 1, 2]])


def log_densities(mixture: GaussianMixture, b: int, points: Array) -> Array:
    """Log of weight × density of each component, by SciPy, ``(P, K)``."""
    laws = [
        multivariate_normal(mixture.means[b, k].numpy(), mixture.covariances[b, k].numpy())
        for k in range(mixture.components)
    ]
    logs = np.array([np.atleast_1d(law.logpdf(points)) for law in laws]).T
    found: Array = logs + mixture.log_weights[b].numpy()
    return found


def follow(whole: GaussianMixture, b: int, k: int, axes: list[int], mean: Array, covariance: Array) -> Any:
    """Mean and covariance of the whole state where the coordinates `axes` have these."""
    prior = whole.covariances[b, k].numpy()
    gain = prior[:, axes] @ np.linalg.inv(prior[np.ix_(axes, axes)])
    rest = prior - gain @ prior[axes]
    moved = whole.means[b, k].numpy() + gain @ (mean - whole.means[b, k, axes].numpy())
    return moved, rest + gain @ covariance @ gain.T


def extended(answer: GaussianMixture, whole: GaussianMixture, b: int, j: int, axes: list[int]) -> Any:
    """Shares, means and covariances of the Gaussians that follow a component of an answer, by the formulas."""
    mean, covariance = answer.means[b, j].numpy(), answer.covariances[b, j].numpy()
    steps = math.sqrt(len(axes)) * np.linalg.cholesky(covariance).T
    logs = log_densities(whole.marginal(axes), b, np.concatenate([mean + steps, mean - steps]))
    shares = np.exp(logs - logs.max(1, keepdims=True))
    shares = (shares / shares.sum(1, keepdims=True)).mean(0)
    shares = np.where(shares < LEAST_RESPONSIBILITY, 0.0, shares)
    shares /= shares.sum()
    there = np.nonzero(shares)[0]
    parts = [follow(whole, b, k, axes, mean, covariance) for k in there.tolist()]
    means, covariances = (np.array(each) for each in zip(*parts, strict=True))
    shares = shares[there]
    middle = shares @ means
    joint = np.einsum(
        "k,kij->ij", shares, covariances + np.einsum("ki,kj->kij", means - middle, means - middle)
    )
    cost = 0.5 * (np.linalg.slogdet(joint)[1] - shares @ np.linalg.slogdet(covariances)[1])
    if len(shares) > 1 and math.exp(float(answer.log_weights[b, j])) * cost < MERGED_BELOW:
        return np.ones(1), middle[None], joint[None]
    return shares, means, covariances


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5), AXES, st.sampled_from([0.01, 0.3, 3.0]))
def test_an_extension_is_that_of_the_formulas(
    seed: int, count: int, components: int, axes: list[int], spread: float
) -> None:
    whole, answer = random_mixture(seed, 3, count, 4), random_mixture(seed + 1, 3, components, len(axes))
    answer = GaussianMixture(answer.log_weights, answer.means, spread**2 * answer.covariances)
    found = extend(answer, whole, axes)
    most = found.components // components
    for b in range(3):
        for j in range(components):
            place = slice(j * most, (j + 1) * most)
            weights = (found.log_weights[b, place] - answer.log_weights[b, j]).exp().numpy()
            order = np.argsort(-weights)
            shares, means, covariances = extended(answer, whole, b, j, axes)
            by_share = np.argsort(-shares)
            assert (weights > 0).sum() == len(shares)
            chosen = order[: len(shares)]
            np.testing.assert_allclose(weights[chosen], shares[by_share], rtol=1e-8)
            np.testing.assert_allclose(found.means[b, place][chosen], means[by_share], rtol=1e-7, atol=1e-8)
            theirs = found.covariances[b, place][chosen]
            np.testing.assert_allclose(theirs, covariances[by_share], rtol=1e-7, atol=1e-8)


def test_a_component_whose_source_is_known_follows_that_alone() -> None:
    whole, answer = random_mixture(1, 2, 3, 4), random_mixture(2, 2, 2, 2)
    found = extend(answer, whole, [2, 0], torch.tensor([[2, 0], [1, 1]]))
    for (b, j), k in {(0, 0): 2, (0, 1): 0, (1, 0): 1, (1, 1): 1}.items():
        one = answer.means[b, j].numpy(), answer.covariances[b, j].numpy()
        mean, covariance = follow(whole, b, k, [2, 0], *one)
        np.testing.assert_allclose(found.means[b, j], mean, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.covariances[b, j], covariance, rtol=1e-9, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), AXES)
def test_the_divergence_of_unseen_coordinates_is_a_mean_over_samples(
    seed: int, count: int, components: int, axes: list[int]
) -> None:
    """At points of the prior, of equal share, it is KL(prior ‖ answer) less that of the seen coordinates."""
    whole, answer = random_mixture(seed, 1, count, 4), random_mixture(seed + 1, 1, components, 4)
    points = whole.sample(20_000, torch.Generator().manual_seed(seed))
    seen = points[..., axes]
    equal = torch.full(seen.shape[:2], 1 / seen.shape[1], dtype=torch.float64)
    apart = whole.log_density(points) - answer.log_density(points)
    apart -= whole.marginal(axes).log_density(seen) - answer.marginal(axes).log_density(seen)
    error = float(apart.std()) / math.sqrt(points.shape[1])
    found = float(unobserved_divergence(answer, whole, axes, seen, equal))
    assert abs(found - max(0.0, float(apart.mean()))) < 8 * error + 0.02
