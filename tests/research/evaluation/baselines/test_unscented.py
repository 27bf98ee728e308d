"""The unscented Kalman filter: exact where it can be, gated by chi-square, better than linearising where it curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference.sensors import Reading, encode, function
from beliefstream.streams.scores.filters import ExtendedKalmanFilter
from research.evaluation.baselines import UnscentedKalmanFilter
from tests.inference.plain_models import (
    assert_near,
    bearing,
    distance,
    fixed_step,
    generator,
    linear,
    numbers,
    observe,
    random_covariances,
    random_normal,
)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_with_linear_sensors_it_is_the_kalman_filter(seed: int, dimension: int) -> None:
    mean, covariance = random_normal(seed, 2, dimension), random_covariances(seed + 1, 2, dimension=dimension)
    sensors = [
        linear(random_normal(seed + n, n, dimension), random_normal(seed + 10 * n, n), 0.3 * n)
        for n in sorted({1, min(2, dimension), dimension})
    ]
    found = UnscentedKalmanFilter(mean, covariance, gate=None)
    kalman = ExtendedKalmanFilter(mean, covariance, gate=None)
    for belief in (found, kalman):
        belief.update(observe(sensors, sensors[:1]))
    assert_near(found.mean, kalman.mean, 1e-8)
    assert_near(found.covariance, kalman.covariance, 1e-8)
    motion = fixed_step(
        random_normal(seed + 3, dimension, dimension), random_covariances(seed, dimension=dimension)
    )
    for belief in (found, kalman):
        belief.move(motion, torch.ones(2))
    assert_near(found.mean, kalman.mean, 1e-8)
    assert_near(found.covariance, kalman.covariance, 1e-8)


def test_a_range_is_predicted_with_the_mean_and_spread_of_many_draws() -> None:
    # the innovation of a range from close by: its mean is not the range from the mean
    mean, covariance = numbers(1.5, 0.0), 0.1 * torch.eye(2, dtype=torch.float64)
    draws = mean + math.sqrt(0.1) * torch.randn(200_000, 2, generator=generator(1), dtype=torch.float64)
    ranges = draws.norm(dim=1)
    noise = 0.2
    joint = torch.cov(torch.cat([draws, ranges[:, None]], 1).T)
    gain = joint[:2, 2] / (joint[2, 2] + noise**2)
    belief = UnscentedKalmanFilter(mean[None], covariance[None], gate=None)
    belief.update(observe([distance(numbers(0.0, 0.0), 2.0, noise)]))
    expected = mean + gain * (2.0 - ranges.mean())
    torch.testing.assert_close(belief.mean[0], expected, rtol=0, atol=3e-3)
    spread = covariance - torch.outer(gain, gain) * (joint[2, 2] + noise**2)
    torch.testing.assert_close(belief.covariance[0], spread, rtol=0, atol=3e-3)


def test_bearings_wrap() -> None:
    mean, covariance = numbers(-5.0, 0.1), 0.1 * torch.eye(2, dtype=torch.float64)
    belief = UnscentedKalmanFilter(mean[None], covariance[None])
    used = belief.update(observe([bearing(numbers(0.0, 0.0), -math.pi + 0.02, 0.02)]))
    assert bool(used.all())
    assert -0.2 < float(belief.mean[0, 1]) < 0.1  # it moved across the cut, by a tenth and not by a turn
    assert float(belief.mean[0, 0]) == pytest.approx(-5.0, abs=0.05)


def test_an_outlier_is_gated_and_the_rest_is_used() -> None:
    mean, covariance = numbers(0.0, 0.0), torch.eye(2, dtype=torch.float64)
    good, bad = distance(numbers(5.0, 0.0), 5.2, 0.1), distance(numbers(0.0, 5.0), 25.0, 0.1)
    belief, alone = (UnscentedKalmanFilter(mean[None], covariance[None]) for _ in range(2))
    assert belief.update(observe([bad, good])).tolist() == [[False, True]]
    alone.update(observe([good]))
    assert_near(belief.mean, alone.mean, 1e-12)
    assert_near(belief.mixture().covariances[:, 0], alone.covariance, 1e-12)


def test_covariances_stay_positive_definite_under_very_sharp_sensors() -> None:
    belief = UnscentedKalmanFilter(torch.zeros(1, 2), 1e4 * torch.eye(2)[None], gate=None)
    for place in random_normal(1, 40, 2):
        belief.update(observe([distance(10 * place, float((10 * place).norm()), 1e-3)]))
        assert bool((torch.linalg.eigvalsh(belief.covariance) > 0).all())


@pytest.mark.parametrize("gate", [0.0, 1.0, 9.0])
def test_a_gate_that_is_no_probability_is_refused(gate: float) -> None:
    with pytest.raises(ValueError, match="gate"):
        UnscentedKalmanFilter(torch.zeros(1, 2), torch.eye(2)[None], gate=gate)


def test_directions_by_a_function_wrap_too() -> None:
    def direction(state: torch.Tensor) -> torch.Tensor:
        return torch.atan2(state[1], state[0])

    sensor = function(direction, [0, 1], 2, 0.02, angle=True)
    observations = encode([[Reading(sensor, np.array([-math.pi + 0.02]))]], 2)
    mean, covariance = numbers(-5.0, 0.1), 0.1 * torch.eye(2, dtype=torch.float64)
    found, same = (UnscentedKalmanFilter(mean[None], covariance[None]) for _ in range(2))
    assert bool(found.update(observations).all())
    same.update(observe([bearing(numbers(0.0, 0.0), -math.pi + 0.02, 0.02)]))
    assert_near(found.mean, same.mean, 1e-6)
    assert_near(found.covariance, same.covariance, 1e-6)
