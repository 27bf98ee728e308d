"""Positions of which several may be outliers, against the exact mixture: one Gaussian for every set of outliers."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings, strategies as st
from numpy.typing import NDArray

from beliefstream.inference import sensors
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.update.result import Answer
from tests.inference.problems import updater

Array = NDArray[np.float64]
NOISE, OUTLIERS = 0.1, 0.05  # m; probability
WIDE = 10.0  # deviations of the noise in that of an outlier
SPREAD = 1.5  # of the prior around 0, m


class Exact(NamedTuple):
    """Isotropic Gaussians, one for each set of outliers."""

    log_weights: Array  # (H,), not normalised
    means: Array  # (H, D)
    variances: Array  # (H,)

    def log_density(self, points: Array) -> Array:
        """Unnormalised, at ``(P, D)``."""
        squared = ((points[:, None] - self.means) ** 2).sum(2)
        size = points.shape[1]
        logs = (
            self.log_weights
            - 0.5 * squared / self.variances
            - 0.5 * size * np.log(2 * math.pi * self.variances)
        )
        return np.asarray(np.logaddexp.reduce(logs, axis=1))

    @property
    def log_evidence(self) -> float:
        return float(np.logaddexp.reduce(self.log_weights))

    def sample(self, count: int) -> Array:
        random, share = np.random.default_rng(0), np.exp(self.log_weights - self.log_evidence)
        chosen = random.choice(len(share), count, p=share / share.sum())
        noise = random.standard_normal((count, self.means.shape[1]))
        return np.asarray(self.means[chosen] + np.sqrt(self.variances[chosen])[:, None] * noise)


def enumerated(reports: Array, spread: float) -> Exact:
    """Exact posterior of reports ``(N, D)`` under a prior ``N(0, spread²)``, hypothesis by hypothesis."""
    count, size = reports.shape
    logs, means, variances = [], [], []
    for outliers in itertools.product((False, True), repeat=count):
        sigma = NOISE * np.where(outliers, WIDE, 1.0)
        precision = 1 / spread**2 + (sigma**-2).sum()
        mean = (reports / sigma[:, None] ** 2).sum(0) / precision
        misfit = (reports**2).sum(1) @ sigma**-2 - precision * (mean**2).sum()
        shares = math.log(OUTLIERS) * sum(outliers) + math.log1p(-OUTLIERS) * (count - sum(outliers))
        scales = np.log(sigma).sum() + math.log(spread) + 0.5 * math.log(precision)
        logs.append(shares - size * (scales + 0.5 * count * math.log(2 * math.pi)) - 0.5 * misfit)
        means.append(mean)
        variances.append(1 / precision)
    return Exact(np.array(logs), np.array(means), np.array(variances))


def updated(reports: Array, spread: float, *others: Array) -> Answer:
    """Update with reports; the others are those of other entities of the batch."""
    size, batch = reports.shape[1], 1 + len(others)
    sensor = sensors.linear(np.eye(size), NOISE**2 * np.eye(size), OUTLIERS)
    covariance = spread**2 * torch.eye(size).double().expand(batch, size, size)
    prior = GaussianMixture.gaussian(torch.zeros(batch, size).double(), covariance)
    readings = [[Reading(sensor, report) for report in row] for row in (reports, *others)]
    return updater().update(prior, encode(readings, size))


def camps(size: int, count: int, apart: float, seed: int) -> Array:
    """Half of the reports of one place, the others of another, in turn."""
    random = np.random.default_rng(seed)
    way = random.standard_normal(size)
    places = np.array([-0.5, 0.5])[:, None] * apart * way / np.linalg.norm(way)
    return np.asarray(places[np.arange(count) % 2] + NOISE * random.standard_normal((count, size)))


def log_density(update: Answer, points: Array) -> Array:
    return update.posterior.log_density(torch.from_numpy(points)[None])[0].numpy()


@pytest.mark.parametrize("size", [1, 2, 3])
@settings(max_examples=12)
@given(count=st.integers(4, 9), apart=st.sampled_from([0.5, 1.0, 3.0, 5.0]), seed=st.integers(0, 10_000))
@example(count=8, apart=1.0, seed=3)
@example(count=9, apart=5.0, seed=528054)  # farther apart than the deviation of an outlier
@example(count=6, apart=5.0, seed=358856)
def test_two_camps_of_positions_have_the_exact_posterior(
    size: int, count: int, apart: float, seed: int
) -> None:
    reports = camps(size, count, apart, seed)
    exact, update = enumerated(reports, SPREAD), updated(reports, SPREAD)
    points = exact.sample(1000)
    lost = exact.log_density(points) - exact.log_evidence - log_density(update, points)
    assert lost.mean() < 0.05
    assert float(update.log_evidence[0]) == pytest.approx(exact.log_evidence, abs=0.1)


@pytest.mark.parametrize("size", [1, 2, 3])
@settings(max_examples=8)
@given(order=st.permutations(range(7)), seed=st.integers(0, 10_000))
def test_the_order_of_the_reports_does_not_matter(size: int, order: list[int], seed: int) -> None:
    reports = camps(size, 7, 1.0, seed)
    here, there = updated(reports, SPREAD), updated(reports[order], SPREAD)
    points = np.random.default_rng(seed).standard_normal((100, size))
    np.testing.assert_allclose(log_density(here, points), log_density(there, points), rtol=1e-9, atol=1e-9)
    assert float(here.log_evidence[0]) == pytest.approx(float(there.log_evidence[0]), abs=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_others_of_the_batch_do_not_matter(size: int) -> None:
    reports, agreeing = camps(size, 8, 1.0, 19), camps(size, 3, 0.0, 0)
    alone = updated(reports, SPREAD)
    together = updated(reports, SPREAD, camps(size, 9, 5.0, 1019), agreeing).rows(torch.tensor([0]))
    points = enumerated(reports, SPREAD).sample(100)
    np.testing.assert_allclose(log_density(alone, points), log_density(together, points), atol=1e-9)
    assert float(alone.log_evidence[0]) == pytest.approx(float(together.log_evidence[0]), abs=1e-9)


def test_the_enumeration_of_one_report_is_the_mixture_of_both_cases() -> None:
    exact = enumerated(np.array([[0.4]]), SPREAD)
    x = np.linspace(-12, 12, 20_001)
    density = {
        s: np.exp(-0.5 * ((0.4 - x) / s) ** 2) / (s * math.sqrt(2 * math.pi)) for s in (NOISE, WIDE * NOISE)
    }
    prior = np.exp(-0.5 * (x / SPREAD) ** 2) / (SPREAD * math.sqrt(2 * math.pi))
    joint = prior * ((1 - OUTLIERS) * density[NOISE] + OUTLIERS * density[WIDE * NOISE])
    np.testing.assert_allclose(np.exp(exact.log_density(x[:, None])), joint, rtol=1e-9, atol=1e-300)
