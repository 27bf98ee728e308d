"""Mixtures in the plane: their densities at points near and far."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from beliefstream.inference.update.plane.mixture_fit import (
    Mixture as Fitted,
    fill_log_density,
    new_expectation,
    new_points,
)
from research.evaluation.adversarial.mixtures import Mixture, log_density


@numba.njit
def log_densities(mixture: Any, components: int, places: Any) -> Any:
    count = len(places)
    points, found = new_points(count), np.empty(count)
    points.x[:], points.y[:] = places[:, 0], places[:, 1]
    fill_log_density(mixture, components, points, count, new_expectation(components, count), found)
    return found


def test_a_density_is_exact_where_all_components_are_far() -> None:
    """A part of the posterior that a mixture lacks costs what it does, not what the least number costs."""
    weights, means = np.array([0.999, 0.001]), np.array([[0.0, 0.0], [1.0, -2.0]])
    covariances = np.array([[[1e-4, 5e-5], [5e-5, 2e-4]], [[4e-4, 0.0], [0.0, 1e-4]]])
    places = np.array([[0.0, 0.01], [1.0, -1.99], [0.5, -1.0], [0.2, 0.3], [100.0, -50.0]])
    moments = np.concatenate([means, covariances.reshape(2, 4)[:, [0, 1, 3]]], 1)
    found = log_densities(Fitted(np.log(weights), moments, np.empty((2, 4))), 2, places)
    expected = log_density(Mixture(weights, means, covariances), places.T)
    assert expected.min() < -1e6
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
