"""Time differences that share the error of their reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy.stats import multivariate_normal

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors import Reading, encode
from tests.inference.reports import at

RECEIVERS = np.array([[0.0, 0.0], [9.0, 0.0], [-4.0, 7.0], [3.0, -8.0]])
STATE = np.array([2.0, 1.5])
SPEED = 3.0


def delays(state: Array) -> Array:
    times = np.hypot(*(RECEIVERS - state).T) / SPEED
    found: Array = times[1:] - times[0]
    return found


def log_density(reading: Reading, state: Array) -> float:
    return float(encode([[reading]], 2).log_likelihood(at(state)))


@given(st.integers(0, 10_000))
def test_the_density_is_that_of_the_whole_covariance(seed: int) -> None:
    generator = np.random.default_rng(seed)
    root = generator.normal(size=(3, 3))
    covariance = root @ root.T + 0.05 * np.eye(3)
    value = delays(STATE) + generator.normal(size=3)
    expected = multivariate_normal.logpdf(value, delays(STATE), covariance)
    own = sensors.time_differences([0, 1], 2, RECEIVERS, covariance, SPEED)
    assert log_density(Reading(own, value), STATE) == pytest.approx(expected)
    other = sensors.time_differences([0, 1], 2, RECEIVERS, np.eye(3), SPEED)
    assert log_density(Reading(other, value, covariance), STATE) == pytest.approx(expected)
    assert log_density(Reading(own, value), STATE) == pytest.approx(expected)  # the sensor stays as it was


def test_errors_of_the_reference_are_in_every_difference() -> None:
    deviations = np.array([0.5, 0.1, 0.2, 0.3])
    arrivals = np.random.default_rng(3).normal(size=(200_000, 4)) * deviations
    sampled = np.cov((arrivals[:, 1:] - arrivals[:, :1]).T)
    np.testing.assert_allclose(sensors.shared_reference(deviations), sampled, rtol=0.03)


def test_one_difference_is_the_scalar_sensor() -> None:
    alone = sensors.time_difference([0, 1], 2, RECEIVERS[1], RECEIVERS[0], 0.3, SPEED)
    several = sensors.time_differences([0, 1], 2, RECEIVERS[:2], [[0.09]], SPEED)
    value = np.array([0.4])
    assert log_density(Reading(several, value), STATE) == pytest.approx(
        log_density(Reading(alone, value), STATE)
    )


def test_many_readings_are_one_function() -> None:
    sensor = sensors.time_differences([0, 1], 2, RECEIVERS, np.eye(3), SPEED)
    batch = encode([[Reading(sensor, delays(STATE))] * 5], 2)
    assert batch.mask.shape == (1, 15)
    assert batch.functions is not None and len(batch.functions.programs) == 1


@pytest.mark.parametrize(
    ("receivers", "covariance", "part"),
    [
        (RECEIVERS[:1], np.eye(1), "receivers: expected two or more, got 1"),
        (RECEIVERS[[0, 1, 1]], np.eye(2), "receivers: expected distinct positions"),
        (RECEIVERS[:3], np.eye(3), r"covariance: expected 2 rows and columns, got shape \(3, 3\)"),
        (RECEIVERS[:3], [[1.0, 2.0], [2.0, 1.0]], "covariance: not positive definite"),
        (np.ones((3, 3)), np.eye(2), "receivers: expected 2 numbers"),
    ],
)
def test_what_does_not_fit_is_named(receivers: Array, covariance: Array, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        sensors.time_differences([0, 1], 2, receivers, covariance)
