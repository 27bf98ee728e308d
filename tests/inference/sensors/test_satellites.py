"""Pseudoranges and their rates against the light's path in a frame that does not turn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.sensors import LocalFrame, SatelliteNoise, encode
from tests import satellites
from tests.inference.reports import at
from tests.satellites import Array

PLACE, SIZE = (50.75, -1.25, 80.0), 9
LOCAL, ORIGIN = satellites.axes(*PLACE[:2]), satellites.on_earth(*PLACE)
FRAME = LocalFrame(ORIGIN, LOCAL)
CLOCK, DRIFT, OTHER = 6, 7, 8
SKY, MOVES = satellites.sky(ORIGIN, LOCAL, 12, 1)
PRECISE = 1e-3  # metres, within ten kilometres of the origin
RANGE = sensors.pseudorange([0, 1, 2], CLOCK, SIZE, FRAME, 1.0)
RATE = sensors.pseudorange_rate([0, 1, 2], [3, 4, 5], DRIFT, SIZE, FRAME, 0.1)
states = st.integers(0, 10_000).map(
    lambda seed: (
        np.random.default_rng(seed).normal(size=SIZE) * [5e3, 5e3, 300.0, 20.0, 20.0, 3.0, 1e5, 100.0, 1e5]
    )
)
which = st.integers(0, len(SKY) - 1)


def received(state: Array) -> tuple[Array, Array]:
    """Place and velocity of the receiver, Earth-centred."""
    return ORIGIN + state[:3] @ LOCAL, state[3:6] @ LOCAL


@given(states, which)
def test_a_pseudorange_is_the_path_of_the_light_and_the_clock(state: Array, number: int) -> None:
    value = satellites.path(received(state)[0], SKY[number]) + state[CLOCK]
    off = encode([[RANGE.reading(value, SKY[number])]], SIZE).difference(at(state))
    assert abs(float(off)) < PRECISE


@given(states, which)
def test_its_rate_is_the_derivative_in_time(state: Array, number: int) -> None:
    value = satellites.path_rate(*received(state), SKY[number], MOVES[number]) + state[DRIFT]
    off = encode([[RATE.reading(value, SKY[number], MOVES[number])]], SIZE).difference(at(state))
    assert abs(float(off)) < 1e-4


@given(states, which)
def test_single_precision_does_for_millimetres(state: Array, number: int) -> None:
    """A difference of two numbers of 2·10⁷ metres would be off by a metre."""
    state[CLOCK] /= 1e3
    value = satellites.path(received(state)[0], SKY[number]) + state[CLOCK] + 2.0
    single = encode([[RANGE.reading(value, SKY[number])]], SIZE).to(dtype=torch.float32)
    off = single.difference(at(state).float())
    assert abs(float(off) - 2.0) < 0.01


def test_calibration_is_that_of_the_report() -> None:
    state = np.zeros(SIZE)
    in_seconds = sensors.pseudorange(
        [0, 1, 2], CLOCK, SIZE, FRAME, 1e-9, scale=1 / satellites.LIGHT, bias=1e-7
    )
    value = satellites.path(ORIGIN, SKY[0]) / satellites.LIGHT + 1e-7
    assert abs(float(encode([[in_seconds.reading(value, SKY[0])]], SIZE).difference(at(state)))) < PRECISE


def test_constellations_have_a_clock_each() -> None:
    state = np.zeros(SIZE)
    state[[CLOCK, OTHER]] = 70.0, -20.0
    other = sensors.pseudorange([0, 1, 2], OTHER, SIZE, FRAME, 1.0)
    value = satellites.path(ORIGIN, SKY[0])
    readings = [sensor.reading(value, SKY[0]) for sensor in (RANGE, other)]
    found = encode([readings], SIZE).difference(at(state))[0, 0]
    assert found.tolist() == pytest.approx([-70.0, 20.0], abs=PRECISE)


def test_noise_grows_as_the_satellite_sinks_and_its_signal_fades() -> None:
    growth = SatelliteNoise(by_elevation=0.6, by_strength=100.0)
    sensor = sensors.pseudorange([0, 1, 2], CLOCK, SIZE, FRAME, 0.5, growth=growth)
    for elevation, strength in ((0.1, 30.0), (1.5, 45.0)):
        satellite = ORIGIN + 2e7 * np.array([math.cos(elevation), 0.0, math.sin(elevation)]) @ LOCAL
        covariance = sensor.reading(2e7, satellite, strength=strength).covariance
        variance = 0.5**2 + (0.6 / math.sin(elevation)) ** 2 + 100.0**2 / 10 ** (strength / 10)
        assert covariance == pytest.approx(np.array([[variance]]))
    assert RANGE.reading(2e7, SKY[0]).covariance is None


def test_a_satellite_below_the_horizon_is_refused_with_its_elevation() -> None:
    below = ORIGIN + 2e7 * np.array([0.0, math.cos(0.2), -math.sin(0.2)]) @ LOCAL
    with pytest.raises(ValueError, match=r"position: the satellite is 11° below the horizon"):
        RANGE.reading(2e7, below)
    with pytest.raises(ValueError, match="below the horizon"):
        RANGE.reading(2e7, ORIGIN / 1e3)  # kilometres
