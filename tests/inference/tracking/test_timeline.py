"""Whatever order events come in, within the window the belief is the replay's."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Belief, Event, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, replay
from beliefstream.inference.tracking.timeline import LatenessWindow, Moment, Timeline
from beliefstream.inference.update.updater import Updater
from tests.inference.tracking.out_of_order_filter import OutOfOrderFilter

POSITION = sensors.position([0, 1], 4, 0.5 * np.eye(2))
RANGE = sensors.range_to([0, 1], 4, [30.0, -10.0], 0.5, outlier_probability=0.1)


def gaussian(mean: list[float], variances: list[float]) -> Belief:
    return Belief(0.0, np.ones(1), np.array([mean]), np.diag(variances)[None])


MODEL = StateModel(ConstantVelocity((0, 1), (2, 3), 0.3), gaussian([0, 0, 1, 0], [9, 9, 1, 1]))
STATED = gaussian([3, 0, 1, 0], [4, 4, 1, 1])
PLACE = gaussian([1, 0], [4, 4])


@functools.cache
def updater() -> Updater:
    return Updater(weights.load(), dtype=torch.float64)


def log(seed: int, count: int = 10, entity: str = "e") -> list[Event]:
    """Positions and ranges, two of them at one time, a prior put in and one multiplied in; all within 2 s."""
    random = np.random.default_rng(seed)
    times = [0.2 * tick for tick in range(count)]
    times[4] = times[3]
    events = []
    for tick, time in enumerate(times):
        if tick % 3:
            value = np.array([time, 0.0]) + 0.7 * random.normal(size=2)
            events.append(Event(entity, time, Reading(POSITION, value)))
        else:
            value = np.array([np.hypot(30 - time, 10)]) + 0.5 * random.normal(size=1)
            events.append(Event(entity, time, Reading(RANGE, value)))
    events.append(Event(entity, times[2], prior=PriorChange(STATED, "product")))
    events.append(Event(entity, 0.5 * (times[5] + times[6]), prior=PriorChange(PLACE, "replace", (0, 1))))
    return events


def arriving(
    events: list[Event], order: list[int], cuts: set[int], most: int = 256
) -> tuple[OutOfOrderFilter, Outcome]:
    """The events in that order, a new batch after every place in `cuts`."""
    tested = OutOfOrderFilter(lambda _: MODEL, updater(), window=2.0, most=most)
    batch: list[Event] = []
    outcome = None
    for place, index in enumerate(order):
        batch.append(events[index])
        if place in cuts or place == len(order) - 1:
            outcomes, late = tested.apply(batch)
            assert late == []
            outcome, batch = outcomes[batch[0].entity], []
    assert outcome is not None
    return tested, outcome


def assert_same(one: Belief, other: Belief) -> None:
    """Bit for bit."""
    assert one.time == other.time
    for part in ("weights", "means", "covariances"):
        assert np.array_equal(getattr(one, part), getattr(other, part)), part


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 3), st.permutations(range(12)), st.sets(st.integers(0, 11)))
def test_any_order_and_any_batches_end_in_the_belief_of_the_replay(
    seed: int, order: list[int], cuts: set[int]
) -> None:
    events = log(seed)
    *_, (_, last) = replay(events, lambda _: MODEL, updater())
    _, outcome = arriving(events, order, cuts)
    assert_same(outcome.belief, last.belief)
    assert outcome.log_evidence == last.log_evidence


def test_many_entities_go_back_side_by_side() -> None:
    events = [event for number in range(4) for event in log(number, entity=f"e{number}")]
    expected = {entity: outcome.belief for entity, outcome in replay(events, lambda _: MODEL, updater())}
    shuffled = [events[index] for index in np.random.default_rng(1).permutation(len(events))]
    tested = OutOfOrderFilter(lambda _: MODEL, updater())
    found: dict[str, Belief] = {}
    for batch in (shuffled[:15], shuffled[15:30], shuffled[30:]):
        outcomes, late = tested.apply(batch)
        assert late == []
        found |= {entity: outcome.belief for entity, outcome in outcomes.items()}
    for entity, belief in expected.items():
        # the rounds have other entities in them than the replay's
        np.testing.assert_allclose(found[entity].means, belief.means, atol=1e-9)
        np.testing.assert_allclose(found[entity].covariances, belief.covariances, atol=1e-9)


def test_what_is_older_than_the_window_is_late_and_changes_nothing() -> None:
    events = [Event("e", time, Reading(POSITION, np.array([time, 0.0]))) for time in (0.0, 1.0, 2.0, 3.0)]
    tested = OutOfOrderFilter(lambda _: MODEL, updater(), window=2.0)
    before = tested.apply(events)[0]["e"].belief
    old = Event("e", 0.99, Reading(POSITION, np.array([50.0, 0.0])))
    just = Event("e", 1.0, Reading(POSITION, np.array([1.3, 0.0])))
    outcomes, late = tested.apply([old])
    assert (outcomes, late) == ({}, [old])
    outcomes, late = tested.apply([old, just])
    assert late == [old]
    *_, (_, last) = replay([*events, just], lambda _: MODEL, updater())
    assert_same(outcomes["e"].belief, last.belief)
    assert not np.array_equal(outcomes["e"].belief.means, before.means)


def test_what_is_late_does_not_depend_on_the_batches() -> None:
    events = [
        Event("e", time, Reading(POSITION, np.array([time, 0.0]))) for time in (0.0, 5.0, 2.9, 3.5, 8.0, 5.9)
    ]
    together = OutOfOrderFilter(lambda _: MODEL, updater(), window=2.0).apply(events)[1]
    single = OutOfOrderFilter(lambda _: MODEL, updater(), window=2.0)
    apart = [event for each in events for event in single.apply([each])[1]]
    assert [event.time for event in together] == [event.time for event in apart] == [2.9, 5.9]


def test_a_long_run_with_delays_equals_the_replay_and_keeps_no_more_than_it_needs() -> None:
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0, 20, 100))
    events = [
        Event("e", time, Reading(POSITION, np.array([time, 0.0]) + random.normal(size=2)))
        for time in times.tolist()
    ]
    order = np.argsort(times + random.uniform(0, 1.9, 100), kind="stable").tolist()
    tested, outcome = arriving(events, order, set(range(100)))
    *_, (_, last) = replay(events, lambda _: MODEL, updater())
    assert_same(outcome.belief, last.belief)
    timeline = tested.timelines["e"]
    within = sum(moment.time >= times[-1] - 2.0 for moment in timeline.moments)
    assert within <= len(timeline.moments) <= 2 * within + 2
    assert sum(moment.state is not None for moment in timeline.moments) <= 2 + np.log2(len(timeline.moments))


def test_no_more_moments_are_reached_than_allowed() -> None:
    lateness = LatenessWindow(-np.inf, [0.0, 1.0, 2.0, 3.0], 100.0, 3)
    assert lateness.floor == 1.0
    lateness.note(1.5)
    assert lateness.floor == 1.5
    lateness.note(3.0)  # joins a moment
    assert lateness.floor == 1.5
    lateness.note(4.0)
    assert (lateness.floor, lateness.newest) == (2.0, 4.0)


@given(st.integers(1, 200), st.integers(1, 40))
def test_going_back_costs_at_most_twice_what_it_must(count: int, most: int) -> None:
    timeline: Timeline[None, int] = Timeline()
    for index in range(count):
        timeline.moments.append(Moment(float(index), None, index))
        timeline.thin()
        timeline.forget(1000.0, most)
    assert timeline.moments[-1].state == count - 1
    reachable = min(count, most)
    assert reachable <= len(timeline.moments) <= 2 * most + 1
    for back in range(1, reachable + 1):
        again = Timeline(timeline.base, timeline.base_time, list(timeline.moments))
        state, taken = again.rewind(count - back)
        assert back <= len(taken) <= 2 * back
        assert state == (count - len(taken) - 1 if len(taken) < count else None)


@pytest.mark.parametrize("time", [2.0, 1.5])
def test_a_timeline_from_one_belief_cannot_be_changed_before_it(time: float) -> None:
    tested = OutOfOrderFilter(lambda _: MODEL, updater(), window=2.0)
    tested.timelines["e"] = Timeline(Belief(2.0, STATED.weights, STATED.means, STATED.covariances), 2.0)
    event = Event("e", time, Reading(POSITION, np.zeros(2)))
    assert tested.apply([event])[1] == ([event] if time < 2.0 else [])
