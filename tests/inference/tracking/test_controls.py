"""Reported inputs are held until the next report; predictions cross every change of them."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.motion import ConstantVelocity, RandomWalk, Unicycle
from beliefstream.inference.network import weights
from beliefstream.inference.sensors.readings import ControlReading, Reading, held, together
from beliefstream.inference.tracking.events import Belief, Event, Instant, StateModel, instants
from beliefstream.inference.tracking.filtering import Step, advance, replay
from beliefstream.inference.update.updater import Updater
from tests.inference.tracking.out_of_order_filter import OutOfOrderFilter

POSITION = sensors.position([0, 1], 3, 0.25 * np.eye(2))
START = Belief(0.0, np.ones(1), np.array([[0.0, 0.0, 0.3]]), np.diag([1.0, 1.0, 0.01])[None])
ROBOT = StateModel(Unicycle(position_density=0.01, heading_density=0.001), START)
EXACT = np.zeros((2, 2))


@functools.cache
def updater() -> Updater:
    return Updater(weights.load(), dtype=torch.float64)


def control(time: float, speed: float, turn_rate: float, noise: np.ndarray = EXACT) -> Event:
    return Event("e", time, control=ControlReading(np.array([speed, turn_rate]), noise))


def position(time: float, x: float, y: float) -> Event:
    return Event("e", time, Reading(POSITION, np.array([x, y])))


def test_a_prediction_crosses_every_change_of_the_inputs() -> None:
    """Without noise: the dead reckoning of the mean, an arc for each report."""
    still = Belief(0.0, np.ones(1), np.array([[0.0, 0.0, 0.3]]), 1e-12 * np.eye(3)[None])
    reports = [(0.0, 1.0, 0.5), (1.0, 2.0, -0.25), (2.5, 0.5, 0.1)]
    exact = StateModel(Unicycle(), still)
    belief = None
    for report in reports:
        instant = instants([control(*report)])[0]
        belief = advance([Step(belief, exact, instant)], updater())[0].belief
    last = advance([Step(belief, exact, Instant(4.0, control=instant.control))], updater())[0].belief
    x, y, heading = 0.0, 0.0, 0.3
    for (begin, speed, rate), end in zip(reports, [1.0, 2.5, 4.0], strict=True):
        turned = heading + rate * (end - begin)
        x += speed / rate * (np.sin(turned) - np.sin(heading))
        y -= speed / rate * (np.cos(turned) - np.cos(heading))
        heading = turned
    np.testing.assert_allclose(last.means[0], [x, y, heading], atol=1e-6)


def test_accelerations_make_the_kalman_filter_with_inputs() -> None:
    """One axis: F, G and Q by hand, the noise of a report held over each prediction."""
    model = StateModel(
        ConstantVelocity((0,), (1,), 0.2, controlled=True),
        Belief(0.0, np.ones(1), np.array([[0.0, 1.0]]), np.eye(2)[None]),
    )
    seen = sensors.position([0], 2, [[0.5]])
    noise = np.array([[0.04]])
    events = [
        Event("e", 0.0, Reading(seen, np.array([0.1]))),
        Event("e", 0.5, control=ControlReading(np.array([2.0]), noise)),
        Event("e", 1.0, Reading(seen, np.array([1.3]))),
        Event("e", 1.5, control=ControlReading(np.array([-1.0]), noise)),
        Event("e", 3.0, Reading(seen, np.array([4.0]))),
    ]
    *_, (_, last) = replay(events, lambda _: model, updater())
    mean, covariance, held_input = np.array([0.0, 1.0]), np.eye(2), (0.0, 0.0)
    for before, event in zip([events[0], *events], events, strict=False):
        step = event.time - before.time
        move, gain = np.array([[1.0, step], [0.0, 1.0]]), np.array([step**2 / 2, step])
        drift = 0.2 * np.array([[step**3 / 3, step**2 / 2], [step**2 / 2, step]])
        mean = move @ mean + gain * held_input[0]
        covariance = move @ covariance @ move.T + drift + held_input[1] * np.outer(gain, gain)
        if event.control is not None:
            held_input = (event.control.value[0], 0.04)
            continue
        assert event.reading is not None
        weight = covariance[:, 0] / (covariance[0, 0] + 0.5)
        mean = mean + weight * (event.reading.value[0] - mean[0])
        covariance = covariance - np.outer(weight, covariance[0])
    np.testing.assert_allclose(last.belief.means[0], mean, atol=1e-9)
    np.testing.assert_allclose(last.belief.covariances[0], covariance, atol=1e-9)


def test_before_the_first_report_the_inputs_are_zero() -> None:
    seen = [position(0.0, 0.1, 0.0), position(2.0, 0.0, 0.1)]
    plain = [outcome for _, outcome in replay(seen, lambda _: ROBOT, updater())]
    later = [outcome for _, outcome in replay([*seen, control(2.0, 9.0, 1.0)], lambda _: ROBOT, updater())]
    zero = [outcome for _, outcome in replay([*seen, control(0.0, 0.0, 0.0)], lambda _: ROBOT, updater())]
    assert len(plain) == len(later) == len(zero) == 2
    for others in (later, zero):
        np.testing.assert_allclose(others[-1].belief.means, plain[-1].belief.means, atol=1e-12)


@settings(max_examples=8, deadline=None)
@given(st.permutations(range(9)), st.sets(st.integers(0, 8)))
def test_late_controls_change_the_past_as_late_readings_do(order: list[int], cuts: set[int]) -> None:
    noise = np.diag([0.01, 0.001])
    events = [control(0.2 * tick, 1.0 + tick, 0.3 - 0.1 * tick, noise) for tick in range(5)]
    events += [position(0.1 + 0.4 * tick, tick, 0.5 * tick) for tick in range(4)]
    *_, (_, last) = replay(events, lambda _: ROBOT, updater())
    tested = OutOfOrderFilter(lambda _: ROBOT, updater())
    places = [0, *sorted(cuts), len(order)]
    for start, end in itertools.pairwise(places):
        tested.apply([events[index] for index in order[start:end]])
    newest = tested.timelines["e"].moments[-1].state
    assert newest is not None
    assert newest.time == last.belief.time
    assert np.array_equal(newest.means, last.belief.means)
    assert np.array_equal(newest.covariances, last.belief.covariances)


def test_a_report_of_some_inputs_leaves_the_others_as_they_were() -> None:
    both = held(None, ControlReading(np.array([1.0, 2.0]), np.array([[1.0, 0.5], [0.5, 1.0]])), 2)
    after = held(both, ControlReading(np.array([7.0]), np.array([[3.0]]), (1,)), 2)
    assert after.value.tolist() == [1.0, 7.0]
    assert after.covariance.tolist() == [[1.0, 0.0], [0.0, 3.0]]
    alone = held(None, ControlReading(np.array([7.0]), np.array([[3.0]]), (1,)), 2)
    assert alone.value.tolist() == [0.0, 7.0]
    assert alone.covariance.tolist() == [[0.0, 0.0], [0.0, 3.0]]


def test_reports_of_one_time_are_one_whatever_their_order() -> None:
    speed = ControlReading(np.array([1.0]), np.array([[0.1]]), (0,))
    rate = ControlReading(np.array([2.0]), np.array([[0.2]]), (2,))
    one, other = together([speed, rate]), together([rate, speed])
    assert one.content == other.content
    assert one.inputs == (0, 2)
    assert one.value.tolist() == [1.0, 2.0]
    assert one.covariance.tolist() == [[0.1, 0.0], [0.0, 0.2]]


def test_entities_with_and_without_controls_share_a_batch() -> None:
    robots = [
        Event(name, event.time, event.reading, control=event.control)
        for name in ("driven", "left")
        for event in (control(0.0, 1.0, 0.2), position(0.5, 0.4, 0.1), position(1.0, 1.0, 0.3))
        if name == "driven" or event.control is None
    ]
    side_by_side = dict(replay(robots, lambda _: ROBOT, updater()))
    for name in ("driven", "left"):
        alone = dict(replay([event for event in robots if event.entity == name], lambda _: ROBOT, updater()))
        np.testing.assert_allclose(side_by_side[name].belief.means, alone[name].belief.means, atol=1e-9)


@pytest.mark.parametrize(
    ("report", "inputs", "message"),
    [
        (ControlReading(np.zeros(1), np.zeros((1, 1))), 0, "takes no inputs"),
        (ControlReading(np.zeros(1), np.zeros((1, 1))), 2, r"1 values for inputs \[0, 1\]"),
        (ControlReading(np.zeros(1), np.zeros((1, 1)), (2,)), 2, r"inputs \[2\] of a motion with 2 inputs"),
    ],
)
def test_a_report_that_the_motion_cannot_take_is_refused(
    report: ControlReading, inputs: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        held(None, report, inputs)
    if not inputs:
        still = StateModel(RandomWalk((1.0,)), Belief(0.0, np.ones(1), np.zeros((1, 1)), np.eye(1)[None]))
        with pytest.raises(ValueError, match=message):
            advance([Step(None, still, Instant(0.0, control=report))], updater())
