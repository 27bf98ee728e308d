"""Moments by quadrature against dense sums over a grid, and where it is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings as hypothesis_settings, strategies as st
from numpy.typing import NDArray

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from beliefstream.inference.update import quadrature

Array = NDArray[np.float64]


class Exact(NamedTuple):
    """By a sum over a grid of ±7 deviations about every component."""

    points: Array  # (P, d)
    share: Array  # (P,)
    log_density: Array
    log_evidence: float

    @property
    def mean(self) -> Array:
        return self.share @ self.points

    @property
    def covariance(self) -> Array:
        offset = self.points - self.mean
        return (self.share[:, None] * offset).T @ offset

    def divergence(self, answer: GaussianMixture) -> float:
        logs = normal_log_density(self.points, answer)
        return float((self.share * (self.log_density - logs)).sum())


def normal_log_density(points: Array, mixture: GaussianMixture) -> Array:
    total = np.zeros(len(points))
    parts = zip(
        mixture.log_weights[0].numpy(), mixture.means[0].numpy(), mixture.covariances[0].numpy(), strict=True
    )
    for weight, mean, covariance in parts:
        if weight == -math.inf:
            continue
        offset = points - mean
        square = (offset @ np.linalg.inv(covariance) * offset).sum(1)
        total += np.exp(weight - square / 2) / math.sqrt(np.linalg.det(2 * math.pi * covariance))
    return np.log(np.maximum(total, 1e-300))


def exact(prior: GaussianMixture, log_likelihood: Callable[[Array], Array], each: int = 301) -> Exact:
    spread = np.sqrt(prior.covariances[0].diagonal(dim1=-2, dim2=-1).numpy())
    low, high = (prior.means[0].numpy() - 7 * spread).min(0), (prior.means[0].numpy() + 7 * spread).max(0)
    axes = [np.linspace(*pair, each) for pair in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))
    cell = float(np.prod([axis[1] - axis[0] for axis in axes]))
    logs = normal_log_density(points, prior) + log_likelihood(points)
    top = logs.max()
    mass = float(np.exp(logs - top).sum()) * cell
    evidence = top + math.log(mass)
    return Exact(points, np.exp(logs - evidence) * cell, logs - evidence, evidence)


def mixture(weights: list[float], means: list[list[float]], deviations: list[float]) -> GaussianMixture:
    size = len(means[0])
    covariances = [[d**2 * np.eye(size) for d in deviations]]
    return GaussianMixture.from_weights(
        torch.tensor([weights]).double(), torch.tensor([means]).double(), torch.tensor(np.array(covariances))
    )


def reported(sensor: Sensor, *values: float) -> Observations:
    return encode([[Reading(sensor, np.array([value])) for value in values]], sensor.dimension)


def gate(prior: GaussianMixture, observations: Observations) -> float:
    return float(quadrature.gate(prior, observations, observations.linearise(prior.means, prior.factors())))


def radio(x: float, y: float, outliers: float = 0.0) -> Sensor:
    return sensors.signal_strength([0, 1], 2, (x, y), 6.0, -59.0, 1.8, outlier_probability=outliers)


def strength(place: tuple[float, float], value: float) -> Callable[[Array], Array]:
    def log_likelihood(points: Array) -> Array:
        distance = np.hypot(points[:, 0] - place[0], points[:, 1] - place[1])
        expected = -59.0 - 18.0 * np.log10(np.maximum(distance, 1e-9))
        return -0.5 * ((value - expected) / 6.0) ** 2 - math.log(6.0 * math.sqrt(2 * math.pi))

    return log_likelihood


@hypothesis_settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_what_it_finds_is_the_exact_evidence_mean_covariance_and_divergence(seed: int) -> None:
    random = np.random.default_rng(seed)
    means = random.normal((6.0, 4.0), 1.0, (2, 2))
    prior = mixture([0.7, 0.3], means.tolist(), random.uniform(0.5, 1.2, 2).tolist())
    value = -59.0 - 18.0 * math.log10(float(np.hypot(*random.normal(means[0], 1.0)))) + random.normal(0, 6)
    observations = reported(radio(0.0, 0.0), value)
    assert gate(prior, observations) < quadrature.MOST_SPREAD
    due = exact(prior, strength((0.0, 0.0), value))
    found = quadrature.solve(prior, observations, 1e-4)
    mean, covariance = found.posterior.moments()
    assert bool(found.sound)
    assert float(found.log_evidence) == pytest.approx(due.log_evidence, abs=1e-3)
    np.testing.assert_allclose(mean[0], due.mean, atol=2e-3)
    np.testing.assert_allclose(covariance[0], due.covariance, atol=4e-3)
    divergence = due.divergence(found.posterior)
    assert divergence < 2 * float(found.divergence) + 1e-4
    assert float(found.divergence) < 2 * divergence + 1e-4
