"""The native fits against PyTorch's operators, which share no code with them."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.mixtures import native_forms
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors import Reading, bearing, position, range_to
from beliefstream.inference.tracking.health import fits as fits_module
from beliefstream.inference.tracking.health.columns import Array, Fit
from beliefstream.inference.tracking.health.fits import fits
from tests.inference.plain_models import random_mixture, random_normal

few = settings(max_examples=60, deadline=None)


def readings_of(seed: int, size: int, outliers: float) -> list[Reading]:
    """A reading of each plain kind, two of one sensor, one with a covariance of its own."""
    place = (3 * random_normal(seed, size)).numpy()
    value = random_normal(seed + 1, size).numpy()
    covariance = np.eye(size) + 0.3
    vector = position(list(range(size)), size, covariance, outlier_probability=outliers)
    distance = range_to(list(range(size)), size, place, 0.4, outliers, 90.0, scale=-1.1, bias=0.2)
    found = [
        Reading(vector, value),
        Reading(vector, value + 0.5, 2 * covariance),
        Reading(distance, np.array([-abs(value[0]) - 1])),
    ]
    if size > 1:
        direction = bearing([0, 1], size, place[:2], 0.2, outlier_probability=outliers)
        found.append(Reading(direction, value[:1]))
    return found


def by_operators(readings: list[list[Reading]], prior: GaussianMixture) -> list[Array]:
    with mock.patch.object(native_forms, "_module", return_value=None):
        return fits(readings, prior)


@few
@given(
    st.integers(0, 10_000),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.01, 0.3, 5.0]),
)
def test_native_fits_equal_those_of_operators(
    seed: int, size: int, count: int, outliers: float, spread: float
) -> None:
    mixture = random_mixture(seed, 3, count, size)
    log_weights = mixture.log_weights.clone()
    log_weights[0, 1:] = -torch.inf
    covariances = spread**2 * mixture.covariances
    prior = GaussianMixture(log_weights.log_softmax(1), mixture.means, covariances)
    readings = [readings_of(seed + row, size, outliers)[: row + 2] for row in range(3)]
    for found, expected in zip(fits(readings, prior), by_operators(readings, prior), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_the_native_form_is_used_where_noise_is_plain() -> None:
    prior = random_mixture(0, 1, 2, 2)
    with mock.patch.object(fits_module, "_by_operators", side_effect=AssertionError("by operators")):
        (found,) = fits([readings_of(0, 2, 0.1)], prior)
    assert (found[:, Fit.DEVIATION] > 0).all()


def test_a_value_that_is_not_a_number_is_not_judged() -> None:
    sensor = position([0], 1, [[1.0]])
    (found,) = fits([[Reading(sensor, np.array([np.nan]))]], random_mixture(1, 1, 2, 1))
    assert found[0, Fit.SHARE] == 0
    assert np.isfinite(found).all()


@pytest.mark.parametrize("count", [1, 3])
def test_readings_far_out_have_a_finite_score(count: int) -> None:
    sensor = position([0], 1, [[1.0]])
    readings = [[Reading(sensor, np.array([1e9]))]]
    prior = random_mixture(2, 1, count, 1)
    (found,), (expected,) = fits(readings, prior), by_operators(readings, prior)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert np.isfinite(found).all()
