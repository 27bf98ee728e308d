"""The extended Kalman filter: exact where it can be, gated by chi-square."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor

from beliefstream.streams.scores.filters import ExtendedKalmanFilter
from tests.inference.plain_models import (
    Sensor,
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

EXACTLY = 1e-9


def rows(seed: int, dimension: int) -> list[Sensor]:
    """Linear sensors of one row, two rows and all rows."""
    return [
        linear(random_normal(seed + n, n, dimension), random_normal(seed + 10 * n, n), 0.3 * n)
        for n in sorted({1, min(2, dimension), dimension})
    ]


def information_form(mean: Tensor, covariance: Tensor, sensors: list[Sensor]) -> tuple[Tensor, Tensor]:
    """All linear sensors at once, in closed form."""
    precision = torch.linalg.inv(covariance)
    total = precision @ mean
    for sensor in sensors:
        precision = precision + sensor.matrix.mT @ sensor.matrix / sensor.noise**2
        total = total + sensor.matrix.mT @ sensor.value / sensor.noise**2
    updated = torch.linalg.inv(precision)
    return updated @ total, updated


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 5))
def test_with_linear_sensors_it_is_the_kalman_filter(seed: int, dimension: int) -> None:
    mean, covariance = random_normal(seed, 2, dimension), random_covariances(seed + 1, 2, dimension=dimension)
    sensors = rows(seed + 2, dimension)
    belief = ExtendedKalmanFilter(mean, covariance, gate=None)
    used = belief.update(observe(sensors, sensors[:1]))  # the second entity has one observation only
    assert used.sum(1).tolist() == [len(sensors), 1]
    for row, seen in enumerate((sensors, sensors[:1])):
        expected_mean, expected = information_form(mean[row], covariance[row], seen)
        assert_near(belief.mean[row], expected_mean, EXACTLY)
        assert_near(belief.covariance[row], expected, EXACTLY)


def test_a_chain_of_steps_is_the_regression_on_all_of_them() -> None:
    # the state at every time, jointly Gaussian: conditioned at once instead of step by step
    transition, noise = numbers(1.0, 0.5, 0.0, 0.9).view(2, 2), random_covariances(1, dimension=2)
    first, steps, deviation = random_covariances(2, dimension=2), 6, 0.4
    values, row = random_normal(3, steps), numbers(1.0, 0.3)
    belief = ExtendedKalmanFilter(torch.zeros(1, 2), first[None], gate=None)
    power = [torch.linalg.matrix_power(transition, n) for n in range(steps + 1)]
    joint = torch.zeros(2 * steps, 2 * steps, dtype=torch.float64)
    for i in range(steps):
        for j in range(steps):
            block = power[i + 1] @ first @ power[j + 1].mT
            for k in range(min(i, j) + 1):
                block = block + power[i - k] @ noise @ power[j - k].mT
            joint[2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = block
    seen = torch.kron(torch.eye(steps, dtype=torch.float64), row[None])
    spread = seen @ joint @ seen.mT + deviation**2 * torch.eye(steps, dtype=torch.float64)
    gain = joint @ seen.mT @ torch.linalg.inv(spread)
    for value in values:
        belief.move(fixed_step(transition, noise), torch.ones(1))
        belief.update(observe([linear(row[None], value[None], deviation)]))
    assert_near(belief.mean[0], (gain @ values)[-2:], EXACTLY)
    assert_near(belief.covariance[0], (joint - gain @ seen @ joint)[-2:, -2:], EXACTLY)


def test_one_update_is_that_of_the_textbook() -> None:
    mean, covariance = numbers(0.2, 0.1), random_covariances(1, dimension=2)
    origin, measured, deviation = numbers(3.0, -2.0), 3.9, 0.2
    belief = ExtendedKalmanFilter(mean[None], covariance[None])
    belief.update(observe([distance(origin, measured, deviation)]))
    row = (mean - origin) / (mean - origin).norm()
    spread = row @ covariance @ row + deviation**2
    gain = covariance @ row / spread
    assert_near(belief.mean[0], mean + gain * (measured - (mean - origin).norm()), EXACTLY)
    expected = covariance - torch.outer(gain, gain) * spread
    assert_near(belief.covariance[0], expected, EXACTLY)


def test_bearings_wrap() -> None:
    mean, covariance = numbers(-5.0, 0.1), 0.1 * torch.eye(2, dtype=torch.float64)
    belief = ExtendedKalmanFilter(mean[None], covariance[None])
    used = belief.update(observe([bearing(numbers(0.0, 0.0), -math.pi + 0.02, 0.02)]))
    assert bool(used.all())
    assert -0.2 < float(belief.mean[0, 1]) < 0.1  # it moved across the cut, by a tenth and not by a turn
    assert float(belief.mean[0, 0]) == pytest.approx(-5.0, abs=0.05)


@pytest.mark.parametrize("gate", [0.5, 0.9, 0.9973])
@pytest.mark.parametrize("measured", [1, 2, 3])
def test_the_gate_lets_its_share_of_inliers_through(gate: float, measured: int) -> None:
    count = 4000
    covariance = random_covariances(1, dimension=3)
    state = random_normal(2, count, 3) @ torch.linalg.cholesky(covariance).mT
    matrix, noise = random_normal(3, measured, 3), 0.7
    values = state @ matrix.mT + noise * random_normal(4, count, measured)
    one = observe([linear(matrix, values[0], noise)])
    many = one.rows_of(torch.zeros(count, dtype=torch.long))
    many.value[:, 0, :measured] = values / noise
    belief = ExtendedKalmanFilter(torch.zeros(count, 3), covariance.expand(count, 3, 3), gate)
    share = float(belief.update(many).double().mean())
    assert share == pytest.approx(gate, abs=4 * math.sqrt(gate * (1 - gate) / count) + 1e-9)


def test_an_outlier_is_gated_and_the_rest_is_used() -> None:
    mean, covariance = numbers(0.0, 0.0), torch.eye(2, dtype=torch.float64)
    good, bad = distance(numbers(5.0, 0.0), 5.2, 0.1), distance(numbers(0.0, 5.0), 25.0, 0.1)
    belief = ExtendedKalmanFilter(mean[None], covariance[None])
    alone = ExtendedKalmanFilter(mean[None], covariance[None])
    assert belief.update(observe([bad, good])).tolist() == [[False, True]]
    alone.update(observe([good]))
    torch.testing.assert_close(belief.mean, alone.mean)
    torch.testing.assert_close(belief.covariance, alone.covariance)


def test_entities_do_not_touch_each_other() -> None:
    mean, covariance = random_normal(1, 5, 2), random_covariances(2, 5, dimension=2)
    sensors = [
        [distance(3 * random_normal(n, 2), 2.0, 0.3), bearing(random_normal(9 + n, 2), 0.4, 0.3)]
        for n in range(5)
    ]
    together = ExtendedKalmanFilter(mean, covariance)
    together.update(observe(*sensors))
    for row in range(5):
        alone = ExtendedKalmanFilter(mean[row : row + 1], covariance[row : row + 1])
        alone.update(observe(sensors[row]))
        torch.testing.assert_close(together.mean[row], alone.mean[0])
        torch.testing.assert_close(together.covariance[row], alone.covariance[0])


def test_covariances_stay_positive_definite_under_very_sharp_sensors() -> None:
    belief = ExtendedKalmanFilter(torch.zeros(1, 2), 1e6 * torch.eye(2)[None], gate=None)
    for angle in torch.rand(50, generator=generator(1), dtype=torch.float64):
        row = torch.stack([angle.cos(), angle.sin()])[None]
        belief.update(observe([linear(row, numbers(0.0), 1e-6)]))
    assert bool((torch.linalg.eigvalsh(belief.covariance) > 0).all())


def test_the_mixture_is_the_gaussian() -> None:
    mean, covariance = random_normal(1, 3, 2), random_covariances(2, 3, dimension=2)
    found = ExtendedKalmanFilter(mean, covariance).mixture()
    torch.testing.assert_close(found.moments()[0], mean)
    torch.testing.assert_close(found.moments()[1], covariance)


@pytest.mark.parametrize("gate", [0.0, 1.0, 9.0])
def test_a_gate_that_is_no_probability_is_refused(gate: float) -> None:
    with pytest.raises(ValueError, match="gate"):
        ExtendedKalmanFilter(torch.zeros(1, 2), torch.eye(2)[None], gate=gate)
