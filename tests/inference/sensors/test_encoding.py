from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from beliefstream.inference import sensors
from beliefstream.inference.sensors import Reading, encode, sensor_table


def log_density(reading: Reading, state: list[float]) -> float:
    observations = encode([[reading]], len(state))
    return float(observations.log_likelihood(torch.tensor([[state]], dtype=torch.float64))[0, 0])


def normal(residual: float, deviation: float) -> float:
    return -0.5 * (residual / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))


def test_a_calibrated_range_has_the_density_of_the_value_as_reported() -> None:
    sensor = sensors.range_to([0, 1], 2, [1.0, 2.0], 0.5, scale=1.069, bias=0.03)
    state = [4.0, 6.0]  # 5 away
    value = 1.069 * 5 + 0.03 + 0.2
    assert log_density(Reading(sensor, np.array([value])), state) == pytest.approx(normal(0.2, 0.5))


def test_an_outlier_of_a_range_is_uniform_up_to_its_maximum() -> None:
    sensor = sensors.range_to([0, 1], 2, [0.0, 0.0], 0.1, outlier_probability=0.2, maximum_range=50.0)
    density = log_density(Reading(sensor, np.array([40.0])), [3.0, 4.0])
    assert density == pytest.approx(math.log(0.2 / 50))


def test_an_outlier_of_a_position_is_ten_times_as_wide() -> None:
    sensor = sensors.position([0], 1, [[0.25]], outlier_probability=0.3)
    density = log_density(Reading(sensor, np.array([9.0])), [0.0])
    assert density == pytest.approx(math.log(0.3) + normal(9.0, 5.0))


def test_a_bearing_wraps() -> None:
    sensor = sensors.bearing([0, 1], 2, [0.0, 0.0], 0.1)
    density = log_density(Reading(sensor, np.array([-math.pi + 0.05])), [-1.0, 0.0])
    assert density == pytest.approx(normal(0.05, 0.1))


def test_a_full_covariance_is_whitened() -> None:
    covariance = np.array([[1.0, 0.6], [0.6, 2.0]])
    sensor = sensors.position([1, 0], 2, covariance)
    residual = np.array([0.5, -1.0])
    expected = -0.5 * residual @ np.linalg.solve(covariance, residual)
    expected -= 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    reading = Reading(sensor, np.array([7.0, 3.0]) + residual)
    assert log_density(reading, [3.0, 7.0]) == pytest.approx(expected)


def test_a_covariance_of_its_own_replaces_the_sensors() -> None:
    sensor = sensors.position([0], 1, [[1.0]])
    reading = Reading(sensor, np.array([2.0]), covariance=np.array([[9.0]]))
    assert log_density(reading, [0.0]) == pytest.approx(normal(2.0, 3.0))


def test_entities_with_fewer_readings_have_unused_places() -> None:
    sensor = sensors.position([0], 1, [[1.0]])
    observations = encode([[Reading(sensor, np.array([1.0]))] * 3, [Reading(sensor, np.array([2.0]))]], 1)
    assert observations.mask.tolist() == [[True, True, True], [True, False, False]]
    densities = observations.log_likelihood(torch.zeros(2, 1, 1, dtype=torch.float64))
    assert densities[:, 0].tolist() == pytest.approx([3 * normal(1.0, 1.0), normal(2.0, 1.0)])


def test_sensors_in_another_order_are_encoded_alike_with_the_table_that_was_kept() -> None:
    anchors = [sensors.range_to([0, 1], 2, [1.0 * i, 2.0], 0.1 * (i + 1)) for i in range(20)]
    readings = [[Reading(anchor, np.array([1.0 + i]))] for i, anchor in enumerate(anchors)]
    order = np.random.default_rng(0).permutation(len(anchors))
    expected = encode(readings, 2)
    kept = sensor_table._kept_table.cache_info()
    found = encode([readings[i] for i in order], 2)
    assert torch.equal(found.origin, expected.origin[order])
    assert torch.equal(found.standard_deviation, expected.standard_deviation[order])
    assert torch.equal(found.value, expected.value[order])
    assert sensor_table._kept_table.cache_info().hits == kept.hits + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sensors.position([0, 2], 2, np.eye(2)), "axes"),
        (lambda: sensors.bearing([0], 2, [0.0], 0.1), "axes: a bearing needs 2, got 1"),
        (lambda: sensors.range_to([0, 1], 2, [0.0], 0.1), "origin"),
        (lambda: sensors.position([0], 1, [[-1.0]]), "covariance: not positive definite"),
        (lambda: sensors.position([0], 1, [[1.0]], outlier_probability=1.0), "outlier_probability"),
        (lambda: sensors.position([0], 1, [[1.0]], scale=0.0), "scale"),
    ],
)
def test_a_sensor_that_cannot_be_is_refused_with_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
