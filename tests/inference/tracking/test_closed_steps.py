"""Steps in closed form against PyTorch's operators, which share no code with them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from msgspec import structs
from scipy import special

from beliefstream.inference import sensors
from beliefstream.inference.likelihood.noise import Noise, Uniform
from beliefstream.inference.motion import ConstantVelocity, MeanReverting, Motion
from beliefstream.inference.sensors import Reading
from beliefstream.inference.sensors.readings import ControlReading
from beliefstream.inference.tracking import closed_steps, filtering
from beliefstream.inference.tracking.accumulated_error import NO_ERROR, AccumulatedError
from beliefstream.inference.tracking.events import Belief, Instant, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.tracking.health.native_fits import lower_quantile
from beliefstream.inference.update.closed.reduction_cost import CHEAP
from beliefstream.inference.update.settings import MOST_TOGETHER, UpdateSettings
from beliefstream.inference.update.updater import Updater
from tests.inference.plain_models import random_mixture, random_normal
from tests.inference.problems import updater

few = settings(max_examples=40, deadline=None)
AXES, SIZE = [0, 1], 4
MOTIONS: list[Motion] = [
    ConstantVelocity((0, 1), (2, 3), 0.3, controlled=True),
    MeanReverting((0.1, 0.2, 0.0, 0.3), (1.0, 2.0, 3.0, 4.0), (0.5, 0.1, 0.2, 0.3)),
]
POSITION = sensors.position(AXES, SIZE, np.array([[0.5, 0.2], [0.2, 0.7]]))
SENSORS = [
    POSITION,
    sensors.position(AXES, SIZE, 0.5 * np.eye(2), 0.1),
    sensors.linear([[0.5, -1.0, 0.0, 2.0]], 0.4, scale=-2.0, bias=0.7),
    sensors.range_to(AXES, SIZE, [300.0, -100.0], 2.0),
    sensors.range_to(AXES, SIZE, [-300.0, 50.0], 2.0, 0.1, 600.0, scale=1.1, bias=0.2),
    sensors.bearing(AXES, SIZE, [20.0, 400.0], 0.05, 0.1),
]


def belief(seed: int, count: int, *, error: AccumulatedError = NO_ERROR, controlled: bool = False) -> Belief:
    found = random_mixture(seed, 1, count, SIZE)
    control = ControlReading(np.array([0.3, -0.2]), 0.04 * np.eye(2)) if controlled else None
    weights = found.log_weights[0].exp().numpy()
    return Belief(
        1.0, weights, found.means[0].numpy(), 0.3 * found.covariances[0].numpy(), control=control, error=error
    )


def reading(seed: int, number: int, own: bool = False) -> Reading:
    """Of a state near the beliefs."""
    sensor, state = SENSORS[number], random_normal(seed, SIZE).numpy()
    if number < 2:
        covariance = 0.3 * np.eye(2) if own else None
        return Reading(sensor, state[:2], covariance)
    if number == 2:
        return Reading(sensor, sensor.scale * (sensor.matrix @ state) + sensor.bias)
    east, north = state[:2] - sensor.origin
    value = math.hypot(east, north) if number < 5 else math.atan2(north, east)
    return Reading(sensor, np.array([sensor.scale * value + sensor.bias]))


def steps_of(seed: int, numbers: list[list[int]]) -> list[Step]:
    """A step of each entity with readings of the sensors of these numbers; every third has no belief."""
    found = []
    for row, several in enumerate(numbers):
        motion = MOTIONS[(seed + row) % 2]
        model = StateModel(motion, belief(seed + 50 + row, 1), components=8)
        error = [NO_ERROR, AccumulatedError(0.02, 0.0, 0.1), AccumulatedError(0.05, 0.3, 0.2)][
            (seed + row) % 3
        ]
        before = belief(seed + row, 1 + row % 3, error=error, controlled=row % 2 == 0)
        seen = tuple(reading(seed + 7 * row + i, number, own=i == 1) for i, number in enumerate(several))
        instant = Instant(1.0 + 0.5 * (row % 4), seen)
        found.append(Step(None if row % 5 == 4 else before, model, instant))
    return found


def none_solved(steps: list[Step], *_: object) -> list[None]:
    return [None] * len(steps)


def by_operators(steps: list[Step]) -> list[Outcome]:
    with mock.patch.object(filtering, "solved", side_effect=none_solved):
        return advance(steps, updater(), with_fits=True)


def assert_alike(found: Outcome, expected: Outcome, tolerance: float = 1e-10) -> None:
    assert found.method == expected.method
    assert found.belief.time == expected.belief.time
    for name in ("weights", "means", "covariances"):
        one, other = getattr(found.belief, name), getattr(expected.belief, name)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    for name in ("sample_efficiency", "log_evidence", "p_value"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one == pytest.approx(other, rel=1e-9, abs=1e-9), name
    # doubt comes after
    assert found.belief.error[:3] == pytest.approx(expected.belief.error[:3], rel=1e-9, abs=1e-9)
    assert found.fits is not None and expected.fits is not None
    np.testing.assert_allclose(found.fits, expected.fits, rtol=1e-8, atol=1e-8)
    assert found.belief.control is expected.belief.control


several = st.lists(st.lists(st.integers(0, len(SENSORS) - 1), min_size=1, max_size=3), min_size=1, max_size=6)


@few
@given(st.integers(0, 10_000), several)
def test_steps_in_closed_form_equal_those_of_operators(seed: int, numbers: list[list[int]]) -> None:
    steps = steps_of(seed, numbers)
    solved = closed_steps.solved(steps, updater().settings, True)
    expected = by_operators(steps)
    for step, found, other in zip(steps, solved, expected, strict=True):
        closed = other.method in ("kalman", "linearised")
        assert (found is not None) == closed
        if found is not None:
            # `advance` adds the inputs that hold on
            control = step.belief.control if step.belief and step.model.motion.inputs else None
            assert_alike(structs.replace(found, belief=structs.replace(found.belief, control=control)), other)


@few
@given(st.integers(0, 10_000), st.integers(0, len(SENSORS) - 1))
def test_one_gaussian_and_one_sensor_end_in_closed_form(seed: int, number: int) -> None:
    step = steps_of(seed, [[number]])[0]
    (found,) = advance([step], updater(), with_fits=True)
    (expected,) = by_operators([step])
    solved = closed_steps.solved([step], updater().settings)
    closed = expected.method in ("kalman", "linearised")
    assert (solved != [None]) == closed
    assert_alike(found, expected, 1e-10 if closed else 1e-4)


@few
@given(st.integers(0, 10_000))
def test_steps_whose_reduction_is_measured_equal_those_of_operators(seed: int) -> None:
    """Sixteen components and an outlier: there are 32, of which 16 are left."""
    (step,) = steps_of(seed, [[1]])
    before = belief(seed, 16)
    weights, means = np.full(16, 1 / 16), 2 * before.means
    spread = structs.replace(before, weights=weights, means=means, covariances=4 * before.covariances)
    step = structs.replace(step, belief=spread)
    solved = closed_steps.solved([step], updater().settings, True)
    (expected,) = by_operators([step])
    assert solved[0] is not None
    assert_alike(solved[0], expected)
    assume(-0.5 * math.log(expected.sample_efficiency) > CHEAP)  # a bound was not enough


NEAR = [
    sensors.range_to(AXES, SIZE, [25.0, -10.0], 0.2),
    sensors.range_to(AXES, SIZE, [-12.0, 15.0], 0.3, 0.1, 60.0, scale=1.1, bias=0.2),
    sensors.range_to([1], SIZE, [30.0], 0.1),
    sensors.bearing(AXES, SIZE, [15.0, 20.0], 0.01),
    sensors.bearing(AXES, SIZE, [-20.0, 5.0], 0.02, 0.1),
]


def bent_steps(seed: int, numbers: list[int]) -> list[Step]:
    """A step of each entity with one reading of a near sensor."""
    found = []
    for row, (step, number) in enumerate(zip(steps_of(seed, [[3]] * len(numbers)), numbers, strict=True)):
        sensor, state = NEAR[number], random_normal(seed + 7 * row, SIZE).numpy()
        offset = state[:2] - sensor.origin if number != 2 else state[1:2] - sensor.origin
        value = float(np.linalg.norm(offset)) if number < 3 else math.atan2(offset[1], offset[0])
        reported = Reading(sensor, np.array([sensor.scale * value + sensor.bias]))
        found.append(structs.replace(step, instant=Instant(step.instant.time, (reported,))))
    return found


@few
@given(st.integers(0, 10_000), st.lists(st.integers(0, len(NEAR) - 1), min_size=1, max_size=5), st.booleans())
def test_steps_along_one_bent_observation_equal_those_of_operators(
    seed: int, numbers: list[int], with_fits: bool
) -> None:
    steps = bent_steps(seed, numbers)
    solved = closed_steps.solved(steps, updater().settings, with_fits)
    for step, found, other in zip(steps, solved, by_operators(steps), strict=True):
        if other.method not in ("kalman", "linearised", "quadrature"):  # around the sensor, if at all
            assert found is None or found.method in ("quadrature", "refined")
        elif found is None:  # weak, and not solved exactly around the sensor: left to cells
            assert other.method == "quadrature"
        else:
            control = step.belief.control if step.belief and step.model.motion.inputs else None
            fits = found.fits if with_fits else other.fits
            held = structs.replace(found.belief, control=control)
            assert_alike(structs.replace(found, belief=held, fits=fits), other, 1e-8)


def test_nearly_all_single_ranges_and_bearings_nearby_end_without_operators() -> None:
    solved = closed_steps.solved(bent_steps(11, [0, 1, 2, 3, 4] * 8), updater().settings)
    methods = [outcome.method for outcome in solved if outcome is not None]
    assert len(methods) >= 36 and methods.count("quadrature") >= 20


def test_no_step_ends_by_quadrature_where_that_is_not_allowed() -> None:
    never = replace(updater().settings, quadrature_below=0.0)
    solved = closed_steps.solved(bent_steps(11, [0, 1, 2, 3, 4] * 8), never)
    assert solved.count(None) >= 20
    assert all(outcome is None or outcome.method != "quadrature" for outcome in solved)


def test_a_linear_sensor_with_outliers_is_followed_along_no_ring() -> None:
    sensor = sensors.position([0], SIZE, np.array([[0.5]]), 0.1)
    one = belief(1, 1)
    # at the same distance from the middle: along a ring, both would be as likely
    means = np.concatenate([one.means + np.array([east, 0.0, 0.0, 0.0]) for east in (-50.0, 50.0)])
    both = Belief(1.0, np.array([0.5, 0.5]), means, one.covariances.repeat(2, axis=0))
    step = structs.replace(steps_of(5, [[0]])[0], belief=both)
    step = structs.replace(step, instant=Instant(1.0, (Reading(sensor, means[1, :1]),)))
    never_linear = replace(updater().settings, linear_below=0.0)
    solved = closed_steps.solved([step], never_linear)
    assert solved == [None]


@few
@given(st.integers(0, 10_000), st.lists(st.integers(0, len(NEAR) - 1), min_size=1, max_size=5))
def test_outcomes_that_are_known_to_be_sound_are_sound(seed: int, numbers: list[int]) -> None:
    solved = closed_steps.solved([*steps_of(seed, CLOSED), *bent_steps(seed, numbers)], updater().settings)
    for outcome in solved:
        if outcome is not None:
            assert outcome.is_sound and np.isfinite(outcome.belief.means).all()
            np.linalg.cholesky(outcome.belief.covariances)


def same(one: Outcome, other: Outcome) -> bool:
    parts = ("weights", "means", "covariances")
    pairs = [(getattr(one.belief, part), getattr(other.belief, part)) for part in parts]
    numbers = ("sample_efficiency", "log_evidence", "p_value", "method", "accumulated_error")
    assert one.fits is not None and other.fits is not None
    return all(np.array_equal(first, second) for first, second in [*pairs, (one.fits, other.fits)]) and [
        getattr(one, name) for name in numbers
    ] == [getattr(other, name) for name in numbers]


CLOSED = [[0], [3], [1], [0, 2], [4], [0], [2], [1, 0]]


def test_an_outcome_does_not_depend_on_the_others_of_its_batch_or_on_their_order() -> None:
    steps = steps_of(3, CLOSED)
    together = advance(steps, updater(), with_fits=True)
    backwards = advance(steps[::-1], updater(), with_fits=True)[::-1]
    for step, one, other in zip(steps, together, backwards, strict=True):
        assert one.method in ("kalman", "linearised")
        assert same(one, other) and same(one, advance([step], updater(), with_fits=True)[0])


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])
def test_bad_numbers_of_one_entity_leave_the_others_as_they_are(bad: float) -> None:
    steps = steps_of(3, CLOSED)
    before = steps[1].belief
    assert before is not None
    spoiled = list(steps)
    spoiled[0] = structs.replace(steps[0], instant=Instant(2.0, (Reading(POSITION, np.array([bad, 0.0])),)))
    spoiled[1] = structs.replace(
        steps[1], belief=structs.replace(before, means=np.full_like(before.means, bad))
    )
    expected = advance(steps, updater(), with_fits=True)
    solved = closed_steps.solved(spoiled, updater().settings, True)
    for number in range(2, len(steps)):
        found = solved[number]
        assert found is not None and same(found, expected[number])


def test_what_is_no_number_is_left_to_operators() -> None:
    step = structs.replace(
        steps_of(3, [[0]])[0], instant=Instant(2.0, (Reading(POSITION, np.array([math.nan, 0.0])),))
    )
    solved = closed_steps.solved([step], updater().settings)
    assert solved == [None]


def test_clutter_and_functions_of_the_user_are_left_open() -> None:
    clutter = replace(SENSORS[3], noise=Noise(clutter=((0.1, Uniform(0.0, 900.0)),)))
    own = sensors.function(lambda state: state[0] * state[1], AXES, SIZE, 0.5)
    model = StateModel(MOTIONS[0], belief(0, 1))
    for sensor in (clutter, own):
        step = Step(None, model, Instant(1.0, (Reading(sensor, np.array([300.0])),)))
        assert closed_steps.solved([step], UpdateSettings()) == [None]


@pytest.mark.parametrize("noise", [None, Noise(slope=0.01), Noise((0.9, 0.1), (0.0, 2.0), (1.0, 5.0))])
def test_built_in_functions_take_closed_steps(noise: Noise | None) -> None:
    """As by the updater; of noise that is not one Gaussian there is only a prediction, with its fits."""
    chosen = [
        sensors.signal_strength(AXES, SIZE, [300.0, -100.0], 2.0, -40.0, 2.0, noise=noise),
        sensors.range_rate(AXES, [2, 3], SIZE, [300.0, -100.0], 0.5, noise=noise),
        sensors.time_difference(AXES, SIZE, [300.0, -100.0], [-200.0, 50.0], 3.0, 1.0, noise=noise),
    ]
    model = StateModel(MOTIONS[0], belief(0, 1))
    values = [-90.0, -1.0, 60.0]
    steps = [
        Step(None, model, Instant(1.0, (Reading(sensor, np.array([value])),)))
        for sensor, value in zip(chosen, values, strict=True)
    ]
    solved = closed_steps.solved(steps, updater().settings, True)
    assert (None not in solved) == (noise is None)
    for one, other in zip(advance(steps, updater(), with_fits=True), by_operators(steps), strict=True):
        assert_alike(one, other)


def test_functions_that_bend_are_linearised_as_seldom_as_by_the_updater() -> None:
    """Quadrature replaces them earlier than ranges: their errors have a sign, and add up."""
    model, methods = StateModel(MOTIONS[0], belief(0, 1)), set()
    for away in (2.0, 4.0, 8.0, 16.0, 32.0, 64.0):
        sensor = sensors.signal_strength(AXES, SIZE, [away, 0.0], 2.0, -40.0, 2.0)
        step = Step(None, model, Instant(1.0, (Reading(sensor, np.array([-40 - 20 * math.log10(away)])),)))
        (found,), (expected,) = advance([step], updater(), with_fits=True), by_operators([step])
        assert found.method == expected.method
        methods.add(found.method)
    assert methods >= {"linearised", "quadrature"}


def test_instants_of_every_kind_keep_their_places_in_one_batch() -> None:
    near = sensors.range_to(AXES, SIZE, [0.5, 0.5], 0.05)  # bent: for the network
    clutter = replace(SENSORS[3], noise=Noise(clutter=((0.1, Uniform(0.0, 900.0)),)))
    steps = steps_of(4, [[0], [0], [0], [0], [0], [3]])
    kinds = [
        (Reading(near, np.array([0.7])),),
        (),
        (Reading(clutter, reading(9, 3).value),),
        steps[3].instant.readings,
    ]
    for number, readings in enumerate(kinds):
        steps[number] = structs.replace(steps[number], instant=Instant(1.5, readings))
    together = advance(steps, updater(), with_fits=True)
    for step, outcome in zip(steps, together, strict=True):
        (alone,) = advance([step], updater(), with_fits=True)
        assert outcome.method == alone.method
        np.testing.assert_allclose(outcome.belief.means, alone.belief.means, atol=1e-3)
    assert {outcome.method for outcome in together} >= {"predicted", "kalman"}


def test_an_updater_of_its_own_kind_is_asked_for_every_update() -> None:
    class Own(Updater):
        asked = 0

        def update(self, *arguments: object) -> object:  # type: ignore[override]
            self.asked += 1
            return super().update(*arguments)  # type: ignore[arg-type]

    own = Own(updater().network, settings=updater().settings)
    advance(steps_of(3, [[0]]), own)
    assert own.asked == 1


def test_the_quantile_equals_that_of_scipy() -> None:
    probabilities = [*np.geomspace(1e-300, 0.5, 400), 0.5, 0.4999999]
    in_python: Any = lower_quantile
    found = [in_python.py_func(each) for each in probabilities]  # only native functions call the other
    np.testing.assert_allclose(found, special.ndtri(probabilities), rtol=1e-12, atol=1e-15)


def of_parts(count: int) -> Step:
    """A step with one reading of a sensor of so many parts."""
    parts = [SENSORS[(0, 3)[number % 2]] for number in range(count)]
    values = [reading(5, (0, 3)[number % 2]).value for number in range(count)]
    step = steps_of(3, [[0]])[0]
    seen = Reading(sensors.composite(parts), np.concatenate(values))
    return structs.replace(step, instant=Instant(2.0, (seen,)))


def test_the_parts_of_a_sensor_end_in_closed_form() -> None:
    (found,) = advance([of_parts(2)], updater(), with_fits=True)
    (expected,) = by_operators([of_parts(2)])
    assert found.method == "linearised" and found.fits is not None and len(found.fits) == 3
    assert_alike(found, expected)


def test_more_parts_than_one_update_takes_are_left_to_operators() -> None:
    assert closed_steps.solved([of_parts(MOST_TOGETHER)], UpdateSettings()) != [None]
    assert closed_steps.solved([of_parts(MOST_TOGETHER + 1)], UpdateSettings()) == [None]
