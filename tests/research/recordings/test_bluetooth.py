"""The particles that our filter is compared with: their motion and their density have the known moments and values."""

from __future__ import annotations

import numpy as np

from research.recordings.bluetooth import _log_density, _moved


def test_particles_move_with_the_covariance_of_white_noise_acceleration() -> None:
    states = np.tile(np.array([[1.0], [2.0], [3.0], [-4.0]]), 200_000)
    moved = _moved(states, 0.5, 0.3, np.random.default_rng(1))
    np.testing.assert_allclose(moved.mean(1), [2.5, 0.0, 3.0, -4.0], atol=0.005)
    one = 0.3 * np.array([[0.125 / 3, 0.125], [0.125, 0.5]])
    np.testing.assert_allclose(np.cov(moved), np.kron(one, np.eye(2)), atol=0.002)


def test_the_density_of_weighted_particles_is_that_of_the_gaussian_they_stand_for() -> None:
    draws = 2.0 * np.random.default_rng(2).standard_normal((2, 100_000))
    # weights of a Gaussian likelihood of the same width halve the variance
    weights = np.exp(-np.square(draws).sum(0) / 8)
    weights /= weights.sum()
    for place in ([0.0, 0.0], [1.0, -1.0], [0.0, 2.0]):
        exact = -np.square(place).sum() / 4 - np.log(4 * np.pi)
        assert abs(_log_density(draws, weights, np.array(place)) - exact) < 0.1
