"""How far readings lie from the prediction, held against the formula written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import Reading, Sensor, bearing, composite, position, range_to
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Step
from beliefstream.inference.tracking.health.innovations import innovations

NOISE = 0.5
GPS = position([0, 1], 2, np.eye(2) * NOISE**2, 0.2)
BEACON = range_to([0, 1], 2, (0.0, 0.0), standard_deviation=NOISE)
COMPASS = bearing([0, 1], 2, (0.0, 0.0), standard_deviation=0.1)
COVARIANCES = np.array([[[4.0, 1.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 9.0]]])
MEANS = np.array([[3.0, 4.0], [30.0, -40.0]])
MOTION = RandomWalk((0.25, 0.25))


def step(*readings: tuple[Sensor, list[float]], time: float = 2.0, components: int = 2) -> Step:
    weights = np.array([1e-9, 1 - 1e-9]) if components == 2 else np.ones(1)
    belief = Belief(0.0, weights, MEANS[:components], COVARIANCES[:components])
    seen = tuple(Reading(sensor, np.array(value)) for sensor, value in readings)
    model = StateModel(MOTION, belief, expires_after=100.0)
    return Step(belief, model, Instant(time, seen, labels=tuple(range(len(seen)))))


def predicted(component: int, time: float = 2.0) -> np.ndarray:
    return np.asarray(COVARIANCES[component] + 0.25 * time * np.eye(2))


def test_of_a_linear_sensor_it_is_the_mahalanobis_length_to_the_nearest_component() -> None:
    value = np.array([500.0, -300.0])
    expected = min(
        math.sqrt((value - mean) @ np.linalg.solve(predicted(index) + NOISE**2 * np.eye(2), value - mean))
        for index, mean in enumerate(MEANS)
    )
    assert innovations([step((GPS, value.tolist()))]) == [[pytest.approx(expected, rel=1e-9)]]


def test_of_a_range_and_a_bearing_it_is_by_the_derivative_at_the_mean() -> None:
    along, across = MEANS[0] / 5.0, np.array([-4.0, 3.0]) / 25.0
    ranged = (200.0 - 5.0) / math.sqrt(along @ predicted(0) @ along + NOISE**2)
    turned = 1.0 / math.sqrt(across @ predicted(0) @ across + 0.01)
    angle = math.atan2(4.0, 3.0) + 1.0 + 4 * math.pi
    found = innovations([step((BEACON, [200.0]), (COMPASS, [angle]), components=1)])
    assert found == [[pytest.approx(ranged, rel=1e-6), pytest.approx(turned, rel=1e-6)]]
    # of a report of both it is the greater
    assert innovations([step((composite([BEACON, COMPASS]), [200.0, angle]), components=1)]) == [
        [pytest.approx(max(ranged, turned), rel=1e-6)]
    ]


def test_steps_side_by_side_do_not_mix_and_may_have_no_readings() -> None:
    several = [
        step((GPS, [3.0, 4.0]), (GPS, [1e4, 0.0])),
        step(),
        step((BEACON, [50.0])),
    ]
    together = innovations(several)
    assert together == [innovations([each])[0] for each in several]
    assert [len(each) for each in together] == [2, 0, 1]
    assert together[0][0] == pytest.approx(0.0, abs=1e-9)


def test_an_expired_belief_is_not_what_it_is_measured_by() -> None:
    # the model's prior is not moved, the belief would be
    value = np.array([3.0, 40.0])
    expired = innovations([step((GPS, value.tolist()), time=101.0, components=1)])[0][0]
    total = COVARIANCES[0] + NOISE**2 * np.eye(2)
    offset = value - MEANS[0]
    assert expired == pytest.approx(math.sqrt(offset @ np.linalg.solve(total, offset)), rel=1e-9)
