"""Directions: their conventions, the wrap, and headings that are coordinates of the state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.sensors import Sensor
from tests.inference.reports import at, expected, log_density, report

STATE = np.array([3.0, 4.0, 1.0, -2.0, 0.7])  # x, y, velocity, heading


def turned(angle: float) -> float:
    return math.remainder(angle, 2 * math.pi)


def test_each_direction_is_the_one_it_says() -> None:
    cases = [
        (sensors.bearing([0, 1], 5, [1.0, 1.0], 0.1), math.atan2(3, 2)),
        (sensors.azimuth([0, 1, 2], 5, [1.0, 1.0, 9.0], 0.1), math.atan2(3, 2)),
        (sensors.course([2, 3], 5, 0.1), math.atan2(-2, 1)),
        (sensors.heading(4, 5, 0.1), 0.7),
        (sensors.relative_bearing([0, 1], 4, 5, [0.0, 5.0], 0.1), math.atan2(1, -3) - 0.7),
    ]
    for sensor, angle in cases:
        assert turned(expected(sensor, STATE) - angle) == pytest.approx(0.0, abs=1e-7)


def test_a_compass_is_a_calibrated_direction() -> None:
    compass = sensors.course([2, 3], 5, 0.1, scale=-1.0, bias=math.pi / 2)
    clockwise_from_north = math.atan2(1, -2)
    exact = log_density(sensors.course([2, 3], 5, 0.1), math.atan2(-2, 1), STATE)
    assert log_density(compass, clockwise_from_north, STATE) == pytest.approx(exact)


every = st.sampled_from(
    [
        sensors.bearing([0, 1], 5, [1.0, 1.0], 0.1),
        sensors.course([2, 3], 5, 0.1, 0.2),
        sensors.heading(4, 5, 0.1),
        sensors.relative_bearing([0, 1], 4, 5, [0.0, 5.0], 0.1),
        sensors.heading(4, 5, 0.1, noise=sensors.Noise((0.7, 0.3), (0.0, math.pi), (1.0, 2.0), 0.1)),
        sensors.function(lambda state: state[0] / 2, [4], 5, 0.1, angle=True),
    ]
)


@settings(max_examples=60, deadline=None)
@given(every, st.floats(-math.pi, math.pi), st.integers(-3, 3))
def test_a_report_a_turn_away_is_the_same_report(sensor: Sensor, value: float, turns: int) -> None:
    eye = torch.eye(5, dtype=torch.float64)[None, None]
    here, there = report(sensor, value), report(sensor, value + 2 * math.pi * turns)
    for found, same in zip(
        here.linearise(at(STATE), eye)[:3], there.linearise(at(STATE), eye)[:3], strict=True
    ):
        torch.testing.assert_close(found, same, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(here.log_likelihood(at(STATE)), there.log_likelihood(at(STATE)))


@settings(max_examples=30, deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_heading_may_have_turned_any_number_of_times(angle: float, value: float) -> None:
    state = STATE.copy()
    state[4] = angle
    found = float(report(sensors.heading(4, 5, 1.0), value).difference(at(state)))
    assert abs(found) <= math.pi + 1e-9
    assert turned(found - (value - angle)) == pytest.approx(0.0, abs=1e-7)


def test_a_heading_alone_is_seen_in_one_coordinate() -> None:
    observations = report(sensors.heading(0, 1, 0.5), 3.0)
    eye = torch.eye(1, dtype=torch.float64)[None, None]
    found = observations.linearise(at(np.array([-3.0])), eye)
    residual = turned(3.0 + 3.0)
    assert float(found.gradient) == pytest.approx(residual / 0.25)
    assert float(found.information) == pytest.approx(4.0)
    assert float(found.curvature.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sensors.bearing([0, 1, 2], 3, [0.0] * 3, 0.1), "axes: a bearing needs 2, got 3"),
        (lambda: sensors.azimuth([0, 1], 3, [0.0] * 2, 0.1), "axes: an azimuth needs 3, got 2"),
        (lambda: sensors.heading(3, 3, 0.1), "axes"),
        (lambda: sensors.course([0, 1], 2, 0.0), "standard_deviation: must be positive and finite, got 0.0"),
        (lambda: sensors.relative_bearing([0, 1], 2, 3, [0.0], 0.1), "origin: expected 2 numbers"),
    ],
)
def test_a_direction_that_cannot_be_is_refused_with_the_field(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]
