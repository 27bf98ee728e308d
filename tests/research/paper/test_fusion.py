from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import scipy.integrate

from research.paper.exact.grids import Array
from research.paper.exact.particles import as_kernels, gaussian_log_density, normalised
from research.paper.fusion import kalman as fusion_kalman, task as fusion
from research.paper.fusion.table import fusion_table, product, settings_by_name

SEEN = np.array([[1.0, 0, 0, 0], [0, 0, 1.0, 0]])  # of the linear sensors that stand in for range and bearing
DEVIATION = 0.5


def linear(states: Array, reports: Array) -> Array:
    """Log likelihood of both positions with normal noise."""
    return np.asarray(gaussian_log_density(states @ SEEN.T, reports[:, None], DEVIATION**2 * np.eye(2)))


def predictions(states: Array, reports: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
    """State, report, and the Kalman filter's mean and covariance before the report, as in textbooks."""
    mean, covariance = fusion.START, np.eye(4)
    for step, (state, report) in enumerate(zip(states, reports, strict=True)):
        if step:
            mean = fusion.MOTION @ mean
            covariance = fusion.MOTION @ covariance @ fusion.MOTION.T + fusion.NOISE
        yield state, report, mean, covariance
        mean, covariance = updated(mean, covariance, report)


def updated(mean: Array, covariance: Array, report: Array) -> tuple[Array, Array]:
    gain = covariance @ SEEN.T @ np.linalg.inv(SEEN @ covariance @ SEEN.T + DEVIATION**2 * np.eye(2))
    return mean + gain @ (report - SEEN @ mean), covariance - gain @ SEEN @ covariance


def kalman(series: fusion.Series) -> Array:
    """Log densities of the true states by the Kalman filter."""
    return np.array(
        [
            [
                gaussian_log_density(state, *updated(mean, covariance, report))
                for state, report, mean, covariance in predictions(*each)
            ]
            for each in zip(*series, strict=True)
        ]
    )


def kernels_of_exact_draws(series: fusion.Series, count: int, seed: int) -> Array:
    """Log densities by kernels over draws of the exact prediction, weighted by the likelihood."""
    numbers = np.random.default_rng(seed)

    def density(state: Array, report: Array, mean: Array, covariance: Array) -> float:
        points = numbers.multivariate_normal(mean, covariance, count)[None]
        return float(as_kernels(points, normalised(linear(points, report[None])), state[None])[0])

    return np.array([[density(*step) for step in predictions(*each)] for each in zip(*series, strict=True)])


def linear_series() -> fusion.Series:
    states = fusion.simulate(6, 12, 3).states
    noise = np.random.default_rng(4).normal(size=(6, 12, 2))
    return fusion.Series(states, states @ SEEN.T + DEVIATION * noise)


def test_the_exact_filter_is_the_kalman_filter_where_sensors_are_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two runs differ by √2 times the error of one."""
    monkeypatch.setattr(fusion, "log_likelihood", linear)
    found, again = (fusion.filtered(linear_series(), 20_000, seed) for seed in (0, 1))
    expected = kalman(linear_series())
    for form in ("exact", "gaussian"):
        one, other = getattr(found, form), getattr(again, form)
        noise = np.abs(one - other).mean()
        assert noise < 0.1  # so that the test can fail
        assert np.abs(one - expected).mean() < 2 * noise
        assert np.abs(0.5 * (one + other) - expected).mean() < 1.5 * noise


def test_kernels_over_filtered_particles_are_those_over_exact_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are too low where few particles are, as −log is convex: also over exact draws, by as much."""
    monkeypatch.setattr(fusion, "log_likelihood", linear)
    series, runs = linear_series(), range(3)
    found = np.mean([fusion.filtered(series, 20_000, seed).kernels for seed in runs], 0)
    drawn = np.mean([kernels_of_exact_draws(series, 20_000, seed) for seed in runs], 0)
    gap = found - drawn
    error = gap.std(ddof=1) / gap.size**0.5
    assert 4 * error < 0.15  # so that the test can fail
    assert abs(gap.mean()) < 4 * error
    bias = drawn - kalman(series)
    assert bias.mean() < -0.03  # what both share


def test_the_extended_filter_is_the_kalman_filter_where_sensors_are_linear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def seen(mean: Array, reports: Array) -> tuple[Array, Array, Array]:
        size = (len(mean), 1, 1)
        return reports - mean @ SEEN.T, np.tile(SEEN, size), np.tile(DEVIATION**2 * np.eye(2), size)

    monkeypatch.setattr(fusion_kalman, "seen", seen)
    np.testing.assert_allclose(fusion_kalman.filtered(linear_series()), kalman(linear_series()), atol=1e-8)


def test_the_extended_filter_knows_the_moments_of_reports() -> None:
    """Mean and variance of simulated reports at one place; far from 0, so that the clamp has no part."""
    state = np.tile([3.0, 0, 4.0, 0], (200_000, 1))
    reports = fusion.report(state, np.random.default_rng(0))
    residual, slope, noise = fusion_kalman.seen(state, reports)
    assert residual.mean(0) == pytest.approx([0, 0], abs=0.02)
    assert (residual**2).mean(0) == pytest.approx(np.diagonal(noise[0]), rel=0.02)
    moved = state[:1] + 1e-6 * np.eye(4)
    change = fusion_kalman.seen(moved, np.tile(reports[:1], (4, 1)))[0] - residual[:1]
    np.testing.assert_allclose(slope[0], -change.T / 1e-6, atol=1e-4)


def test_bearings_are_wrapped() -> None:
    state = np.array([[-1e-3, 0, -2.0, 0]])  # just beyond −π
    residual, _, _ = fusion_kalman.seen(state, np.array([[2.0, 3.13]]))
    assert abs(residual[0, 1]) < 0.02


def test_the_likelihood_of_a_range_sums_to_one_with_its_atoms() -> None:
    state = np.array([[[0.2, 0, 0.3, 0]]])

    def density(seen: float) -> float:
        """Without the bearing, which is at its mode."""
        angle = np.arctan2(0.2, 0.3)
        peak = -np.log(fusion.BEARING) - 0.5 * np.log(2 * np.pi)
        return float(np.exp(fusion.log_likelihood(state, np.array([[seen, angle]]))[0, 0] - peak))

    inside = scipy.integrate.quad(density, 1e-12, 20 - 1e-9, points=[0.3, 1.0], limit=200)[0]
    assert inside + density(0.0) + density(20.0) == pytest.approx(1, abs=1e-6)


def test_the_likelihood_is_that_of_simulated_reports() -> None:
    """Shares of ranges in bins."""
    state = np.tile([1.0, 0, 1.0, 0], (100_000, 1))
    reports = fusion.report(state, np.random.default_rng(5))
    edges = np.linspace(0.05, 4, 9)
    counted = np.histogram(reports[:, 0], edges)[0] / len(reports)
    peak = -np.log(fusion.BEARING) - 0.5 * np.log(2 * np.pi)
    fine = np.linspace(edges[0], edges[-1], 8001)
    seen = np.stack([fine, np.full_like(fine, np.pi / 4)], 1)
    density = np.exp(fusion.log_likelihood(np.tile(state[:1], (8001, 1))[:, None], seen)[:, 0] - peak)
    expected = [
        density[(fine >= a) & (fine < b)].sum() * (fine[1] - fine[0]) for a, b in itertools.pairwise(edges)
    ]
    np.testing.assert_allclose(counted, expected, atol=0.005)


def test_the_library_filters_the_task() -> None:
    """The excess over the exact filter is what the page says, within three standard errors between series."""
    series = fusion.simulate(20, 5, 0)
    found = product(series, settings_by_name()["checked and refined, K = 4"], 0)
    floor = fusion.filtered(series, 20_000, 1)
    assert found.log_density.shape == found.levels.shape == (20, 5)
    excess = (floor.exact - found.log_density).mean(1)
    error = 3 * excess.std(ddof=1) / 20**0.5
    assert error < 0.2  # so that the test can fail
    assert -error < excess.mean() < 0.04 + error


def test_the_table_has_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("research.paper.fusion.table.EXACT", 2000)
    monkeypatch.setattr("research.paper.fusion.table.PARTICLES", 1000)
    few = {"network, not refined, K = 8": settings_by_name()["network, not refined, K = 8"]}
    monkeypatch.setattr("research.paper.fusion.table.settings_by_name", lambda steps: few)
    table = fusion_table(2, 3, 0)
    assert {row.source for row in table.rows} == {"published", "exact", "baseline", "ours"}
    assert all(set(row.figures) <= set(table.columns) for row in table.rows)
