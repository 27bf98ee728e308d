from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from research.paper.exact.particles import (
    as_gaussian,
    as_kernels,
    gaussian_log_density,
    log_sum,
    moments,
    normalised,
    resampled,
)


def test_a_normal_log_density_is_that_of_scipy() -> None:
    numbers = np.random.default_rng(0)
    root = numbers.normal(size=(3, 3))
    covariance = root @ root.T + np.eye(3)
    points, mean = numbers.normal(size=(5, 3)), numbers.normal(size=3)
    expected = scipy.stats.multivariate_normal.logpdf(points, mean, covariance)
    np.testing.assert_allclose(gaussian_log_density(points, mean, covariance), expected)


def test_resampling_copies_each_particle_about_as_often_as_its_weight_says() -> None:
    numbers = np.random.default_rng(1)
    weights = normalised(numbers.normal(size=(2, 50)))
    points = np.tile(np.arange(50.0)[:, None], (2, 1, 1))
    for row, weight in zip(resampled(points, weights, numbers)[..., 0], weights, strict=True):
        counts = np.bincount(row.astype(int), minlength=50)
        assert np.abs(counts - 50 * weight).max() < 1


@pytest.mark.parametrize("form", [as_gaussian, as_kernels])
def test_particles_of_a_normal_distribution_have_its_density(form: object) -> None:
    """Weighted draws of a wider one."""
    numbers = np.random.default_rng(2)
    points = 2 * numbers.normal(size=(1, 40_000, 2))
    weights = normalised(-0.5 * (points**2).sum(-1) * (1 - 1 / 4))
    truth = np.array([[0.5, -1.0]])
    expected = scipy.stats.multivariate_normal.logpdf(truth[0], np.zeros(2), np.eye(2))
    assert form(points, weights, truth)[0] == pytest.approx(expected, abs=0.03)  # type: ignore[operator]


def test_moments_and_sums_are_weighted() -> None:
    points, weights = np.array([[[0.0], [4.0]]]), np.array([[0.25, 0.75]])
    mean, covariance = moments(points, weights)
    assert (mean[0, 0], covariance[0, 0, 0]) == (3.0, 3.0)
    assert log_sum(np.log(weights))[0] == pytest.approx(0, abs=1e-12)
