from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.motion import ConstantVelocity, LinearMotion, RandomWalk
from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Belief, Event, Instant, PriorChange, StateModel, instants
from beliefstream.inference.tracking.filtering import Outcome, Step, advance, replay
from beliefstream.inference.tracking.health.columns import Fit
from tests.inference.plain_models import log_density
from tests.inference.problems import updater
from tests.inference.tracking.plane_grid import (
    POINTS,
    divergence,
    divided,
    log_likelihood,
    range_sensor,
    ranged,
)

POSITION = sensors.position([0, 1], 4, 0.5 * np.eye(2))
RANGE = sensors.range_to([0, 1], 4, [30.0, -10.0], 0.5, outlier_probability=0.1)


def gaussian(mean: list[float], variances: list[float], time: float = 0.0) -> Belief:
    return Belief(time, np.ones(1), np.array([mean]), np.diag(variances)[None])


MODEL = StateModel(ConstantVelocity((0, 1), (2, 3), 0.3), gaussian([0, 0, 1, 0], [9, 9, 1, 1]))


def model_of(_: str) -> StateModel:
    return MODEL


def walk(count: int = 8, entities: int = 3) -> list[Event]:
    """Positions and ranges of entities that walk along x at 1 m/s."""
    random = np.random.default_rng(0)
    events = []
    for index in range(entities):
        for tick in range(count):
            time = tick + 0.01 * index
            if tick % 2:
                value = np.array([time, float(index)]) + 0.7 * random.normal(size=2)
                events.append(Event(f"e{index}", time, Reading(POSITION, value)))
            else:
                value = np.array([np.hypot(30 - time, 10 + index)]) + 0.5 * random.normal(size=1)
                events.append(Event(f"e{index}", time, Reading(RANGE, value)))
    return events


def by_entity(events: list[Event]) -> dict[str, list[Outcome]]:
    result: dict[str, list[Outcome]] = {}
    for entity, outcome in replay(events, model_of, updater()):
        result.setdefault(entity, []).append(outcome)
    return result


def test_positions_alone_make_a_kalman_filter() -> None:
    events = [event for event in walk(12, 1) if event.reading and event.reading.sensor is POSITION]
    outcomes = by_entity(events)["e0"]
    mean, covariance = np.array([0.0, 0, 1, 0]), np.diag([9.0, 9, 1, 1])
    previous = events[0].time
    assert isinstance(MODEL.motion, LinearMotion)
    for event, outcome in zip(events, outcomes, strict=True):
        transition, noise = (
            part[0].numpy() for part in MODEL.motion.transition(torch.tensor([event.time - previous]))
        )
        previous = event.time
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + noise
        assert event.reading is not None
        innovation = covariance[:2, :2] + 0.5 * np.eye(2)
        gain = covariance[:, :2] @ np.linalg.inv(innovation)
        mean = mean + gain @ (event.reading.value - mean[:2])
        covariance = covariance - gain @ innovation @ gain.T
        assert outcome.method == "kalman"
        np.testing.assert_allclose(outcome.belief.means[0], mean, atol=1e-3)
        np.testing.assert_allclose(outcome.belief.covariances[0], covariance, atol=1e-3)


def test_a_prior_of_many_components_is_reduced_by_a_control_too() -> None:
    count = 200
    means = np.random.default_rng(0).normal(scale=30.0, size=(count, 4))
    wide = Belief(0.0, np.full(count, 1 / count), means, np.tile(np.eye(4), (count, 1, 1)))
    step = Step(None, StateModel(MODEL.motion, wide), Instant(1.0))
    (outcome,) = advance([step], updater())
    assert outcome.method == "predicted"
    assert len(outcome.belief.weights) <= updater().settings.components
    np.testing.assert_allclose(outcome.belief.weights @ outcome.belief.means, means.mean(0), atol=1e-6)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_log_does_not_matter(seed: int) -> None:
    events = walk()
    shuffled = list(events)
    np.random.default_rng(seed).shuffle(shuffled)
    here, there = by_entity(events), by_entity(shuffled)
    for entity, outcomes in here.items():
        for one, other in zip(outcomes, there[entity], strict=True):
            assert one.belief.time == other.belief.time
            np.testing.assert_allclose(one.belief.means, other.belief.means, atol=1e-3)


def test_an_entity_alone_has_the_beliefs_it_has_among_others() -> None:
    events = walk(12, 5)
    together = by_entity(events)["e2"]
    alone = by_entity([event for event in events if event.entity == "e2"])["e2"]
    for one, other in zip(together, alone, strict=True):
        mean, other_mean = one.belief.mixture().moments()[0], other.belief.mixture().moments()[0]
        np.testing.assert_allclose(mean, other_mean, atol=1e-3)


def test_a_function_of_another_entity_leaves_plain_readings_to_native_forms() -> None:
    speed = sensors.range_rate([0, 1], [2, 3], 4, [30.0, -10.0], 0.5)
    readings = [Reading(RANGE, np.array([31.0])), Reading(speed, np.array([-1.0]))]
    steps = [Step(None, MODEL, Instant(1.0, (reading,))) for reading in readings]
    together = advance(steps, updater(), with_fits=True)
    (alone,) = advance(steps[:1], updater(), with_fits=True)
    for part in ("means", "covariances", "weights"):
        assert np.array_equal(getattr(together[0].belief, part), getattr(alone.belief, part))
    assert together[0].fits is not None and alone.fits is not None
    assert np.array_equal(together[0].fits, alone.fits)


def test_a_replaced_prior_takes_the_place_of_the_belief_at_its_time() -> None:
    events = walk(8, 1)
    stated = gaussian([100, 50, 0, 0], [4, 4, 1, 1])
    outcomes = by_entity([*events, Event("e0", 3.5, prior=PriorChange(stated))])["e0"]
    at = next(i for i, outcome in enumerate(outcomes) if outcome.method == "prior")
    assert [outcome.belief.time for outcome in outcomes[at - 1 : at + 2]] == [3.0, 3.5, 4.0]
    np.testing.assert_allclose(outcomes[at].belief.means, stated.means)
    plain = by_entity(events)["e0"]
    np.testing.assert_allclose(outcomes[at - 1].belief.means, plain[at - 1].belief.means, atol=1e-6)


def test_a_product_is_the_normalised_product_of_the_densities() -> None:
    step = Step(
        gaussian([0, 0, 0, 0], [4, 4, 1, 1]),
        MODEL,
        Instant(0.0, prior=PriorChange(gaussian([2, 2], [4, 4]), "product", (0, 1))),
    )
    outcome = advance([step], updater())[0]
    np.testing.assert_allclose(outcome.belief.means[0], [1, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(np.diag(outcome.belief.covariances[0]), [2, 2, 1, 1], atol=1e-9)


def test_replacing_some_coordinates_keeps_what_is_believed_of_the_others() -> None:
    step = Step(
        gaussian([1, 2, 3, 4], [1, 2, 3, 4]),
        MODEL,
        Instant(0.0, prior=PriorChange(gaussian([9, 8], [5, 6]), "replace", (1, 0))),
    )
    outcome = advance([step], updater())[0]
    np.testing.assert_allclose(outcome.belief.means[0], [8, 9, 3, 4])
    np.testing.assert_allclose(np.diag(outcome.belief.covariances[0]), [6, 5, 3, 4])


def test_one_batch_may_hold_models_of_different_size() -> None:
    other = StateModel(RandomWalk((1.0,)), gaussian([0.0], [4.0]), components=4)
    thermometer = sensors.position([0], 1, [[1.0]])
    steps = [
        Step(None, MODEL, Instant(1.0, (Reading(POSITION, np.array([1.0, 1.0])),))),
        Step(None, other, Instant(1.0, (Reading(thermometer, np.array([2.0])),))),
    ]
    first, second = advance(steps, updater())
    assert first.belief.means.shape[1] == 4
    np.testing.assert_allclose(second.belief.means, [[1.6]])


def test_more_readings_at_once_than_the_network_was_trained_on_are_all_used() -> None:
    readings = tuple(Reading(POSITION, np.array([1.0, 1.0])) for _ in range(20))
    outcome = advance([Step(None, MODEL, Instant(0.0, readings))], updater())[0]
    expected = 1 / (1 / 9 + 20 / 0.5)
    np.testing.assert_allclose(np.diag(outcome.belief.covariances[0])[:2], expected, rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_hundred_ranges_of_one_time_in_two_camps_are_taken_together(seed: int) -> None:
    anchors = [
        range_sensor(5.0, 1.0),
        range_sensor(-3.0, 4.0),
        range_sensor(-2.0, -5.0),
        range_sensor(4.0, -4.0),
    ]
    places, noise = (np.array([0.3, -0.4]), np.array([1.1, 0.2])), np.random.default_rng(seed)
    readings = [ranged(anchors[i % 4], places[i // 4 % 2], noise.standard_normal()) for i in range(100)]
    walker = StateModel(RandomWalk((1.0, 1.0)), gaussian([0, 0], [1, 1]))
    events = [Event("a", 0.0, reading) for reading in readings]
    ((_, outcome),) = replay(events, lambda _: walker, updater())
    coarse = log_density(walker.prior, POINTS) + log_likelihood(readings)
    points, cell = divided(coarse, 8)
    exact = log_density(walker.prior, points) + log_likelihood(readings, points)
    assert divergence(exact, outcome.belief, points, cell) < 0.05
    evidence = np.logaddexp.reduce(exact) + 2 * math.log(cell)
    assert outcome.log_evidence == pytest.approx(evidence, abs=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_anchors_along_a_wall_do_not_take_the_mirror_image_for_the_place(seed: int) -> None:
    random = np.random.default_rng(seed)
    place, away = random.uniform(-2.5, 2.5, 2), random.normal(size=2)
    events = []
    for anchor in [np.array([side, y]) for side in (-3.5, 3.5) for y in (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)]:
        sensor = sensors.range_to([0, 1], 2, anchor.tolist(), 0.15, outlier_probability=0.002)
        value = np.atleast_1d(np.linalg.norm(place - anchor)) + 0.15 * random.normal(size=1)
        events.append(Event("a", 0.0, Reading(sensor, value)))
    wide = StateModel(RandomWalk((0.1, 0.1)), gaussian((place + 100 * away).tolist(), [1e4, 1e4]))
    ((_, outcome),) = replay(events, lambda _: wide, updater())
    assert np.linalg.norm(outcome.belief.weights @ outcome.belief.means - place) < 0.5


def test_an_instant_before_the_belief_is_refused() -> None:
    step = Step(
        gaussian([0, 0, 0, 0], [1, 1, 1, 1], time=5.0), MODEL, Instant(4.0, (Reading(POSITION, np.zeros(2)),))
    )
    with pytest.raises(ValueError, match=r"time: 4\.0 is earlier than the belief's 5\.0"):
        advance([step], updater())


def test_a_prior_comes_before_the_readings_of_its_time() -> None:
    reading = Reading(POSITION, np.zeros(2))
    stated = PriorChange(gaussian([0, 0, 0, 0], [1, 1, 1, 1]))
    events = [
        Event("a", 2.0, reading, label=1),
        Event("a", 2.0, prior=stated, label=2),
        Event("a", 1.0, reading, label=3),
    ]
    assert [(each.time, each.labels) for each in instants(events)] == [(1.0, (3,)), (2.0, (2,)), (2.0, (1,))]


def test_a_wide_belief_seen_by_ranges_is_found_again_in_most_runs() -> None:
    """After 97 s unseen: rings and mirror images. Eight components lose the true one in about one run of six."""
    beacons = [
        sensors.range_to([0, 1], 4, place, 0.55, outlier_probability=0.05, maximum_range=100.0)
        for place in ([-30.0, 20.0], [35.0, 10.0], [0.0, -25.0])
    ]
    model = StateModel(ConstantVelocity((0, 1), (2, 3), 0.2), gaussian([0, 0, 0, 0], [4, 4, 1, 1]))
    random = np.random.default_rng(3)
    events = []
    for variant in range(12):
        events.append(
            Event(f"v{variant}", 0.0, prior=PriorChange(gaussian([-5, 4, 1, 0], [0.3, 0.3, 0.1, 0.1])))
        )
        for tick in range(40):
            time = 97.0 + 0.5 * tick
            truth = np.array([12.0 + 0.6 * (time - 97), -8.0 + 0.3 * (time - 97)])
            beacon = beacons[(tick // 4) % 3]
            value = np.linalg.norm(truth - beacon.origin) + 0.5 * random.normal()
            events.append(Event(f"v{variant}", time, Reading(beacon, np.array([value]))))
    last = dict(replay(events, lambda _: model, updater()))
    truth = np.array([12.0 + 0.6 * 19.5, -8.0 + 0.3 * 19.5])
    errors = [
        float(np.linalg.norm(o.belief.mixture().moments()[0][0, :2].numpy() - truth)) for o in last.values()
    ]
    assert sum(error < 5.0 for error in errors) >= 9


def test_fits_are_those_of_each_reading_with_the_prediction() -> None:
    gps = sensors.position([0, 1], 2, np.eye(2) * 0.25)
    belief = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    model = StateModel(RandomWalk((1.0, 1.0)), belief)
    first = Instant(3.0, (Reading(gps, np.array([1.0, -2.0])),), labels=(0,))
    steps = [Step(belief, model, first), Step(belief, model, Instant(3.0, labels=(0,)))]
    judged, nothing = advance(steps, updater(), with_fits=True)
    assert nothing.fits is None
    assert judged.fits is not None
    expected = np.array([1.0, -2.0]) / math.sqrt(1.0 + 3.0 + 0.25)
    np.testing.assert_allclose(judged.fits[:, Fit.SCORE], expected)
    assert advance(steps, updater())[0].fits is None
