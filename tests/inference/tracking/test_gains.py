"""Errors that multiply what is reported, against grids over state and error, and against simulated truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from beliefstream.inference import sensors
from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import Gain, PersistentError, Sensor, with_errors
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Event, StateModel
from beliefstream.inference.tracking.filtering import replay
from tests.inference.tracking.test_hidden import updater

Array = NDArray[np.float64]
Law = Callable[[Array, Array], Array]  # of distance and error

PLACES = np.array([(-5.0, 0.0), (14.0, 6.0), (3.0, -17.0), (0.0, 20.0)])


def along_a_line(kind: str, wide: float) -> tuple[Sensor, Law, float]:
    """A sensor of the distance of x from -3, its law, and the deviation of its noise; the reported unit differs.

    Its error is `wide` times as wide, beside the noise.
    """
    if kind == "linear":
        noise = 0.3 / wide
        made = sensors.linear([[1.0]], [[noise**2]], scale=-2.0, bias=0.5)
        return (
            with_errors(made, PersistentError("scale", 0.05), gain=Gain()),
            lambda d, e: 0.5 - 2 * (1 + e) * (d - 3),
            noise,
        )
    if kind == "range":
        noise = 0.2 / wide
        made = sensors.range_to([0], 1, [-3.0], noise, scale=2.0, bias=0.5)
        return (
            with_errors(made, PersistentError("scale", 0.05), gain=Gain()),
            lambda d, e: 0.5 + 2 * (1 + e) * d,
            noise,
        )
    noise = 1.0 / wide
    made = sensors.signal_strength([0], 1, [-3.0], noise, -40.0, 2.0)
    error = PersistentError("exponent", 0.2)
    return (
        with_errors(made, error, gain=Gain(-40.0, 0.5)),
        lambda d, e: -40 - 10 * (2 + e) * np.log10(d),
        noise,
    )


@pytest.mark.parametrize("wide", [1, 3])
@pytest.mark.parametrize("kind", ["linear", "range", "signal_strength"])
def test_state_and_error_are_those_of_a_grid(kind: str, wide: float) -> None:
    sensor, law, noise = along_a_line(kind, wide)
    deviation = sensor.errors[0].error.deviation
    random, x, e = np.random.default_rng(4), 7.3, 1.2 * deviation
    other = sensors.linear([[1.0]], [[0.04]])
    events, xs, es = [], np.linspace(3, 11, 1601)[:, None], np.linspace(-5, 5, 801) * deviation
    log = -0.5 * (xs - 6.5) ** 2 - 0.5 * (es / deviation) ** 2
    for n in range(12):
        if n % 3 == 2:
            value = x + random.normal(0, 0.2)
            log = log - 0.5 * ((value - xs) / 0.2) ** 2
        else:
            value = float(law(np.array(x + 3), np.array(e))) + random.normal(0, noise)
            log = log - 0.5 * ((value - law(xs + 3, es)) / noise) ** 2
        events.append(Event("e", float(n), Reading(other if n % 3 == 2 else sensor, np.array([value]))))
    share = np.exp(log - log.max())
    share /= share.sum()
    grid = [np.broadcast_to(part, share.shape) for part in (xs, es)]
    mean = np.array([(share * part).sum() for part in grid])
    spread = np.sqrt([(share * (part - m) ** 2).sum() for part, m in zip(grid, mean, strict=True)])
    start = StateModel(RandomWalk((0.0,)), Belief(0.0, np.ones(1), np.array([[6.5]]), np.ones((1, 1, 1))))
    last = [outcome for _, outcome in replay(events, lambda _: start, updater())][-1].belief
    found, covariance = last.mixture().moments()
    deviations = np.sqrt(np.diagonal(covariance[0].numpy()))
    assert spread[1] < 0.7 * deviation  # learned
    np.testing.assert_allclose((found[0].numpy() - mean) / spread, 0, atol=0.15)
    np.testing.assert_allclose(deviations / spread, 1, atol=0.1)


def walks(
    made: Sequence[Sensor], law: Law, deviation: float, noise: float, seed: int = 11
) -> tuple[list[Event], Array, Array]:
    """Reports of 40 entities in the plane, where these are, and the errors of the four sensors."""
    random = np.random.default_rng(seed)
    errors = random.normal(0, deviation, (40, 4))
    start = random.normal([1.5, 1.0], 2, (40, 1, 2))
    states = start + random.normal(0, 0.2, (40, 48, 2)).cumsum(1)
    events = []
    for entity, (path, own) in enumerate(zip(states, errors, strict=True)):
        for n, state in enumerate(path):
            far = np.linalg.norm(state - PLACES[n % 4])
            value = law(np.array(far), np.array(own[n % 4])) + random.normal(0, noise)
            events.append(Event(f"e{entity}", float(n), Reading(made[n % 4], np.array([value]))))
    return events, states, errors


def ranges(deviation: float) -> list[Sensor]:
    return [
        with_errors(
            sensors.range_to([0, 1], 2, place, 0.1), PersistentError(f"{n}/scale", deviation), gain=Gain()
        )
        for n, place in enumerate(PLACES)
    ]


MODEL = StateModel(
    RandomWalk((0.04, 0.04)), Belief(0.0, np.ones(1), np.array([[1.5, 1.0]]), 4 * np.eye(2)[None])
)


def scored(events: list[Event], states: Array, errors: Array) -> tuple[float, float]:
    """The share of later states in regions of 90 %, and the mean square of an error over its variance."""
    beliefs: dict[str, list[Belief]] = defaultdict(list)
    for entity, outcome in replay(events, lambda _: MODEL, updater()):
        beliefs[entity].append(outcome.belief)
    covers, squares = [], []
    for several, path, own in zip(beliefs.values(), states, errors, strict=True):
        for belief, state in zip(several[24:], path[24:], strict=True):
            mean, covariance = (part[0].numpy() for part in belief.mixture().moments())
            beside = mean[:2] - state
            covers.append(beside @ np.linalg.solve(covariance[:2, :2], beside) < 4.605)
        beside = mean[2:] - own
        squares.append(beside @ np.linalg.solve(covariance[2:, 2:], beside) / 4)
    return float(np.mean(covers)), float(np.mean(squares))


def test_regions_cover_the_truth_where_scales_are_drawn() -> None:
    covers, squares = scored(*walks(ranges(0.05), lambda d, e: (1 + e) * d, 0.05, 0.1))
    assert 0.84 < covers < 0.95
    assert 0.7 < squares < 1.4


def test_regions_cover_the_truth_where_a_scale_is_wide_beside_the_noise() -> None:
    """Of forty entities, mean squares scatter from 0.9 to 1.3, so that six draws count together."""
    drawn = [walks(ranges(0.1), lambda d, e: (1 + e) * d, 0.1, 0.1, seed) for seed in range(11, 17)]
    covers, squares = np.mean([scored(*each) for each in drawn], 0)
    assert 0.87 < covers < 0.93
    assert squares < 1.25


def test_regions_cover_the_truth_where_exponents_are_drawn() -> None:
    made = [
        with_errors(
            sensors.signal_strength([0, 1], 2, place, 4.0, -40.0, 2.0),
            PersistentError(f"{n}/exponent", 0.3),
            gain=Gain(-40.0, 0.5),
        )
        for n, place in enumerate(PLACES)
    ]
    covers, squares = scored(*walks(made, lambda d, e: -40 - 10 * (2 + e) * np.log10(d), 0.3, 4.0))
    assert 0.84 < covers < 0.95
    assert 0.7 < squares < 1.4


def test_an_answer_does_not_depend_on_the_others_of_its_batch() -> None:
    events, _, _ = walks(ranges(0.05), lambda d, e: (1 + e) * d, 0.05, 0.1)
    some = [event for event in events if event.entity in ("e3", "e7", "e8") and event.time < 6]
    together = list(replay(some, lambda _: MODEL, updater()))
    alone = replay([event for event in some if event.entity == "e7"], lambda _: MODEL, updater())
    for (_, one), other in zip(alone, (found for entity, found in together if entity == "e7"), strict=True):
        np.testing.assert_array_equal(one.belief.covariances, other.belief.covariances)
        np.testing.assert_array_equal(one.belief.means, other.belief.means)


def test_a_part_of_a_composite_and_a_reported_covariance_count_as_the_sensor_alone() -> None:
    lone = ranges(0.05)[0]
    bearing = sensors.bearing([0, 1], 2, PLACES[0], 1e3)  # says nothing
    pair = sensors.composite([lone, bearing])
    wide = with_errors(
        sensors.range_to([0, 1], 2, PLACES[0], 9.0), PersistentError("0/scale", 0.05), gain=Gain()
    )
    readings = [
        Reading(lone, np.array([6.8])),
        Reading(pair, np.array([6.8, 0.1])),
        Reading(wide, np.array([6.8]), np.array([[0.01]])),
    ]
    one, *others = [
        next(replay([Event("e", 1.0, reading)], lambda _: MODEL, updater()))[1].belief for reading in readings
    ]
    for other in others:
        for part, same in zip(one.mixture().moments(), other.mixture().moments(), strict=True):
            np.testing.assert_allclose(part, same, atol=2e-3)


@pytest.mark.parametrize(
    ("sensor", "deviation", "words"),
    [
        (
            sensors.bearing([0, 1], 2, [0.0, 0.0], 0.1),
            0.1,
            "scale_deviation: expected a sensor of one number",
        ),
        (sensors.position([0, 1], 2, np.eye(2)), 0.1, "scale_deviation: expected a sensor of one number"),
        (ranges(0.1)[0], 0.1, "with one scale"),
        (sensors.range_to([0], 1, [0.0], 0.1), 0.6, r"deviation of scale: must be at most 0.5, got 0.6"),
    ],
)
def test_a_gain_without_sense_is_refused(sensor: Sensor, deviation: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_errors(sensor, PersistentError("scale", deviation), gain=Gain())


def test_two_equal_modes_learn_a_scale_as_one() -> None:
    events, _, _ = walks(ranges(0.05), lambda d, e: (1 + e) * d, 0.05, 0.1)
    some = [event for event in events if event.entity == "e3" and event.time < 8]
    twice = replace(MODEL, modes=(MODEL, MODEL), mode_time=20.0)
    one = [found for _, found in replay(some, lambda _: MODEL, updater())]
    two = [found for _, found in replay(some, lambda _: twice, updater())]
    for part, same in zip(
        one[-1].belief.mixture().moments(), two[-1].belief.mixture().moments(), strict=True
    ):
        np.testing.assert_allclose(part, same, atol=0.02)
