from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from beliefstream.inference.tracking.recovery.history import MOST_INSTANTS
from beliefstream.schemas import Unusable, parse
from beliefstream.schemas.observation import Observation
from beliefstream.streams.demo.crate import CRATE, PLACES
from beliefstream.streams.demo.drones import drones
from beliefstream.streams.demo.plaza import plaza
from beliefstream.streams.demo.scenario import BAD_MESSAGES_AT, MOWER, Scenario
from beliefstream.streams.local.python_fusion import fuse
from tests.streams.demo.plays import START, small_schedule


def test_the_same_scenario_gives_the_same_schedule_in_another_process() -> None:
    scenario = Scenario(speed=10.0, entities=3, start=START, duration=6.0)
    assert Scenario.from_json(scenario.to_json()) == scenario
    first, second = small_schedule(), small_schedule()
    assert [message.observation for message in first.messages] == [
        message.observation for message in second.messages
    ]
    assert first.gates == second.gates


def test_everything_is_due_within_the_duration_and_in_order() -> None:
    schedule = small_schedule()
    assert all(earlier.due <= later.due for earlier, later in pairwise(schedule.messages))
    assert schedule.messages[0].due >= 0
    assert schedule.messages[-1].due <= schedule.duration


def test_the_recording_is_replayed_at_its_speed_and_ends_now() -> None:
    schedule = small_schedule()
    dues = [
        message.due
        for message in schedule.messages
        if message.observation and message.observation.entity == MOWER
    ]
    times = [each.time for each in schedule.recording.observations]
    np.testing.assert_allclose(np.diff(times), 10.0 * np.diff(dues), atol=1e-6)
    assert times[0] == pytest.approx(START + 6.0 - 60.0)
    original = [each.value for each in plaza().observations[: len(times)]]
    assert [each.value for each in schedule.recording.observations] == original


def test_without_a_duration_the_whole_recording_is_played() -> None:
    from beliefstream.streams.demo.scenario import schedule_of

    schedule = schedule_of(Scenario(speed=200.0, entities=2, start=START))
    assert len(schedule.recording.observations) == len(plaza().observations)
    assert schedule.duration == pytest.approx(1932 / 200, rel=0.01)


def test_the_entity_is_near_the_first_of_the_two_gates() -> None:
    schedule = small_schedule()
    gates = schedule.gates
    place = schedule.truth(gates.entity, [gates.time])[0]
    distances = [np.linalg.norm(place - gate) for gate in gates.places]
    assert distances[0] < 4.0 < distances[1]
    assert gates.names[0] == ("north gate" if place[1] > 0 else "south gate")
    assert gates.mixture().components == 2


def test_the_crate_is_silent_while_it_is_carried_and_then_has_time_to_be_found() -> None:
    schedule = small_schedule()
    sent = [
        message.due
        for message in schedule.messages
        if message.observation and message.observation.entity == CRATE
    ]
    times = [START + due for due in sent]
    assert len(times) == len(schedule.crate.observations) <= MOST_INSTANTS
    silence = int(np.argmax(np.diff(sent))) + 1
    assert len(times) - silence >= 3 * silence
    np.testing.assert_allclose(schedule.truth(CRATE, times[:silence]), [PLACES[0]] * silence)
    np.testing.assert_allclose(schedule.truth(CRATE, times[silence:]), [PLACES[1]] * (len(times) - silence))


def test_the_crate_is_found_again_where_its_reports_decide_for_the_new_place() -> None:
    carried = small_schedule().crate
    posteriors = fuse(carried.observations, carried.sensors, carried.model)
    assert len(posteriors) == len(carried.observations)
    means = np.array([posterior.mixture.mean() for posterior in posteriors])
    errors = np.linalg.norm(means - carried.truth_at([each.time for each in posteriors]), axis=1)
    surprising = [posterior.quality.p_value < 1e-6 for posterior in posteriors]
    assert errors[-15:].max() < 0.5 < errors[surprising].max()


def test_drones_fly_in_space_and_every_report_of_theirs_has_its_true_place() -> None:
    schedule = small_schedule()
    for drone in schedule.drones:
        times = [each.time for each in drone.observations]
        sent = [
            each.due
            for each in schedule.messages
            if each.observation and each.observation.entity == drone.name
        ]
        np.testing.assert_allclose(np.array(sent) + START, times)
        np.testing.assert_allclose(schedule.truth(drone.name, times), drone.truth)
        assert np.ptp(drone.truth, axis=0).min() > 0.01


def test_drones_are_found_in_space_by_the_network() -> None:
    for drone in drones(60.0, seed=4):
        posteriors = fuse(drone.observations, drone.sensors, drone.model)
        means = np.array([posterior.mixture.mean()[:3] for posterior in posteriors])
        errors = np.linalg.norm(means - drone.truth_at([each.time for each in posteriors]), axis=1)
        assert np.median(errors[15:]) < 4.0
        assert {posterior.quality.method for posterior in posteriors} & {"transformer", "refined"}


def test_the_planted_messages_are_as_bad_as_they_say() -> None:
    schedule = small_schedule()
    planted = [message for message in schedule.messages if message.note and message.prior is None]
    assert len(planted) == len(BAD_MESSAGES_AT)
    assert schedule.observations == sum(message.observation is not None for message in schedule.messages) - 1
    known = {sensor.sensor for sensor in (*schedule.fleet.sensors, *schedule.recording.sensors)}
    assert known.isdisjoint(sensor.sensor for sensor in schedule.crate.sensors)
    reasons = []
    for message in planted:
        if message.observation is not None:
            assert message.observation.sensor not in known
            continue
        assert message.raw is not None
        try:
            found = parse(Observation, message.raw[1])
            reasons.append(f"{len(found.values)} value")
        except Unusable as error:
            reasons.append(str(error.reason))
    assert sorted(reasons) == ["1 value", "not_finite", "not_json"]


def test_a_speed_that_is_not_positive_is_named() -> None:
    from beliefstream.streams.demo.scenario import schedule_of

    with pytest.raises(ValueError, match="speed must be positive, got 0"):
        schedule_of(Scenario(speed=0.0, entities=2, start=START))
