"""Sensors that are elsewhere, or turned."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.noise import Array
from beliefstream.inference.sensors import Reading, Sensor, encode, placed, without_position
from tests.inference.reports import at, expected


def vectors(size: int) -> st.SearchStrategy[Array]:
    return st.lists(st.floats(-50, 50), min_size=size, max_size=size).map(lambda each: np.array(each))


PLANE, SPACE = vectors(2), vectors(3)
ANGLE = st.floats(-math.pi, math.pi)
STATE = np.array([3.0, 4.0, 2.0, 1.0, -2.0, 0.5])  # place and velocity

Make = Callable[[Array], Sensor]
PLACED: dict[str, tuple[int, Make]] = {
    "range": (2, lambda place: sensors.range_to([0, 1], 6, place, 0.3)),
    "bearing": (2, lambda place: sensors.bearing([0, 1], 6, place, 0.3)),
    "relative_bearing": (2, lambda place: sensors.relative_bearing([0, 1], 2, 6, place, 0.3)),
    "range_rate": (3, lambda place: sensors.range_rate([0, 1, 2], [3, 4, 5], 6, place, 0.3)),
    "signal_strength": (3, lambda place: sensors.signal_strength([0, 1, 2], 6, place, 2.0, -40.0, 2.2)),
    "azimuth": (3, lambda place: sensors.azimuth([0, 1, 2], 6, place, 0.3)),
    "depth": (2, lambda place: sensors.depth([0, 1], 5, 6, place, 0.3)),
    "elevation": (3, lambda place: sensors.elevation([0, 1, 2], 6, place, 0.3)),
    "own": (2, lambda place: sensors.function(lambda u: u[0] * u[1].sin(), [0, 4], 6, 0.3, origin=place)),
}


def report(sensor: Sensor, value: float = 0.7) -> Reading:
    return Reading(sensor, np.array([value]))


def log_density(reading: Reading, state: Array) -> float:
    return float(encode([[reading]], len(state)).log_likelihood(at(state)))


@pytest.mark.parametrize("kind", PLACED)
def test_a_sensor_put_elsewhere_is_the_one_made_there(kind: str) -> None:
    length, make = PLACED[kind]
    here, there = np.array([1.0, -2.0, 0.5])[:length], np.array([-4.0, 7.0, 3.0])[:length]
    moved = placed(make(here), there)
    assert log_density(report(moved), STATE) == log_density(report(make(there)), STATE)
    assert log_density(report(moved), STATE) != log_density(report(make(here)), STATE)
    assert log_density(report(placed(moved, here)), STATE) == log_density(report(make(here)), STATE)


@given(PLANE, PLANE, ANGLE)
def test_a_turned_bearing_is_the_angle_from_where_it_looks(
    state: Array, place: Array, orientation: float
) -> None:
    if np.linalg.norm(state - place) < 1e-3:
        return
    sensor = placed(sensors.bearing([0, 1], 2, [0.0, 0.0], 0.1), place, orientation)
    east, north = state - place
    wanted = math.atan2(north, east) - orientation
    assert math.cos(expected(sensor, state) - wanted) == pytest.approx(1.0, abs=1e-9)


@given(SPACE, SPACE, st.tuples(ANGLE, ANGLE, ANGLE))
def test_a_turned_sensor_in_space_sees_what_a_chain_of_turns_gives(
    state: Array, place: Array, angles: tuple[float, float, float]
) -> None:
    seen = state - place
    # undo yaw about the third axis, then pitch about the second, then roll about the first, by complex numbers
    for angle, (i, j) in zip(angles, [(0, 1), (2, 0), (1, 2)], strict=True):
        turned = complex(seen[i], seen[j]) * complex(math.cos(angle), -math.sin(angle))
        seen[i], seen[j] = turned.real, turned.imag
    if math.hypot(seen[0], seen[1]) < 1e-3:
        return
    azimuth = placed(sensors.azimuth([0, 1, 2], 3, [0.0] * 3, 0.1), place, angles)
    elevation = placed(sensors.elevation([0, 1, 2], 3, [0.0] * 3, 0.1), place, angles)
    wanted = math.atan2(seen[1], seen[0])
    assert math.cos(expected(azimuth, state) - wanted) == pytest.approx(1.0, abs=1e-9)
    level = math.atan2(seen[2], math.hypot(seen[0], seen[1]))
    assert expected(elevation, state) == pytest.approx(level, abs=1e-6)


def test_the_parts_of_a_composite_move_together_and_only_directions_turn() -> None:
    parts = [sensors.range_to([0, 1], 2, [0, 0], 0.5), sensors.bearing([0, 1], 2, [0, 0], 0.1)]
    moved = placed(sensors.composite(parts), [1.0, 1.0], 0.25)
    state = np.array([4.0, 5.0])  # 5 away
    reading = Reading(moved, np.array([5.0, math.atan2(4.0, 3.0) - 0.25]))
    best = -math.log(0.5 * math.sqrt(math.tau)) - math.log(0.1 * math.sqrt(math.tau))
    assert log_density(reading, state) == pytest.approx(best)


def test_readings_from_many_places_are_one_batch() -> None:
    _, make = PLACED["signal_strength"]
    places = [np.array([float(number), -1.0, 2.0]) for number in range(40)]
    sensor = make(np.zeros(3))
    batch = encode([[report(placed(sensor, place)) for place in places]], 6)
    assert batch.functions is not None and len(batch.functions.programs) == 1
    together = batch.log_likelihood(at(STATE))
    assert float(together) == pytest.approx(sum(log_density(report(make(each)), STATE) for each in places))


@pytest.mark.parametrize("kind", PLACED)
def test_a_sensor_without_a_place_of_its_own_is_not_encoded_before_it_has_one(kind: str) -> None:
    length, make = PLACED[kind]
    sensor = without_position(make(np.ones(length)))
    assert sensors.needs_position(sensor)
    with pytest.raises(ValueError, match="position: expected one with each reading"):
        encode([[report(sensor)]], 6)
    place = np.array([5.0, -6.0, 7.0])[:length]
    there = placed(sensor, place)
    assert not sensors.needs_position(there)
    assert log_density(report(there), STATE) == log_density(report(make(place)), STATE)


def test_what_does_not_fit_is_named() -> None:
    bearing = sensors.bearing([0, 1], 2, [0, 0], 0.1)
    with pytest.raises(
        sensors.WrongLength, match=r"position: expected 2 numbers, got 3 \(\[1.0, 2.0, 3.0\]\)"
    ):
        placed(bearing, [1, 2, 3])
    with pytest.raises(sensors.WrongLength, match=r"orientation: expected 1 number, got 3"):
        placed(bearing, [1, 2], [0, 0, 0])
    with pytest.raises(ValueError, match=r"orientation: this sensor has none, got \[0.5\]"):
        placed(sensors.range_to([0, 1], 2, [0, 0], 0.1), [1, 2], 0.5)
    with pytest.raises(ValueError, match=r"position: this sensor has none, got \[1.0, 2.0\]"):
        placed(sensors.course([0, 1], 2, 0.1), [1, 2])
    for sensor in (
        sensors.speed([0, 1], 2, 0.1),
        sensors.time_difference([0, 1], 2, [1, 0], [0, 1], 0.1),
        sensors.heading(0, 2, 0.1),
        sensors.position([0, 1], 2, np.eye(2)),
    ):
        with pytest.raises(ValueError, match="position: this sensor has none"):
            placed(sensor, [1, 2])
    with pytest.raises(ValueError, match="position: expected finite numbers"):
        placed(bearing, [1, math.nan])
