"""All reports since the prior, taken together: exact on the way, and the same whatever the order of their arrival."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Earlier, Event, Instant, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance, replay
from beliefstream.inference.tracking.recovery.joint_posterior import is_due, since_prior
from tests.inference.plain_models import log_density
from tests.inference.problems import updater
from tests.inference.tracking.out_of_order_filter import OutOfOrderFilter
from tests.inference.tracking.plane_grid import POINTS, divergence, log_likelihood, range_sensor, ranged
from tests.inference.tracking.test_learned_likelihoods import exact, reading as learned

ANCHORS = range_sensor(5.0, 1.0), range_sensor(-3.0, 4.0), range_sensor(-2.0, -5.0)
OLD, NEW = np.array([0.3, -0.4]), np.array([1.1, 0.2])


def gaussian(x: float, y: float, deviation: float) -> Belief:
    return Belief(0.0, np.ones(1), np.array([[x, y]]), deviation**2 * np.eye(2)[None])


AT_REST = StateModel(RandomWalk((0.0, 0.0)), gaussian(0.0, 0.0, 0.7))
PRODUCT = PriorChange(gaussian(1.0, 0.3, 0.3), "product")
STATED = PriorChange(gaussian(1.4, 0.0, 0.5))
PARTIAL = PriorChange(Belief(0.0, np.ones(1), np.ones((1, 1)), np.ones((1, 1, 1))), "replace", (0,))


def reports(counts: tuple[int, int], seed: int = 0) -> list[Reading]:
    """So many distances of the old place, then of the new one."""
    noise = np.random.default_rng(seed).standard_normal(sum(counts))
    places = [OLD] * counts[0] + [NEW] * counts[1]
    return [ranged(ANCHORS[i % 3], place, noise[i]) for i, place in enumerate(places)]


def log(readings: list[Reading]) -> list[Event]:
    """One report a second."""
    return [Event("tag", float(time), reading) for time, reading in enumerate(readings)]


def replayed(events: list[Event], model: StateModel = AT_REST) -> list[Outcome]:
    return [outcome for _, outcome in replay(events, lambda _: model, updater())]


def test_a_tag_that_was_carried_has_the_exact_belief_after_every_report() -> None:
    readings = reports((8, 14))
    exact_log = log_density(AT_REST.prior, POINTS)
    nearer = np.linalg.norm(POINTS - NEW, axis=1) < np.linalg.norm(POINTS - OLD, axis=1)
    shares = []
    for reading, outcome in zip(readings, replayed(log(readings)), strict=True):
        exact_log = exact_log + log_likelihood([reading])
        assert divergence(exact_log, outcome.belief) < 0.02
        shares.append(np.exp(np.logaddexp.reduce(exact_log[nearer]) - np.logaddexp.reduce(exact_log)))
    assert shares[7] < 1e-9 and shares[-1] > 0.99


def test_a_component_of_one_in_ten_million_is_found_when_ranges_decide_for_it() -> None:
    true, image = np.array([0.2, 1.0]), np.array([0.2, -1.0])
    weights, covariances = np.array([1 - 1e-7, 1e-7]), np.tile(0.09 * np.eye(2), (2, 1, 1))
    model = StateModel(AT_REST.motion, Belief(0.0, weights, np.stack([image, true]), covariances))
    # two anchors on the mirror, which tell nothing of the side, then one beside it
    sensors = [range_sensor(5.0, 0.0, 0.0), range_sensor(-5.0, 0.0, 0.0)] * 3 + [
        range_sensor(0.0, 6.0, 0.0)
    ] * 2
    noise = np.random.default_rng(1).standard_normal(len(sensors))
    readings = [ranged(sensor, true, off) for sensor, off in zip(sensors, noise, strict=True)]
    last = replayed(log(readings), model)[-1].belief
    assert divergence(log_density(model.prior, POINTS) + log_likelihood(readings), last) < 0.02
    assert last.weights @ last.means[:, 1] > 0.5


@settings(max_examples=6)
@given(order=st.permutations(range(14)), cuts=st.sets(st.integers(0, 13)), with_prior=st.booleans())
def test_any_order_and_any_batches_end_in_the_belief_of_the_replay(
    order: list[int], cuts: set[int], with_prior: bool
) -> None:
    events = log(reports((5, 9)))
    if with_prior:
        events[3] = Event("tag", 3.0, prior=PRODUCT)
    tested, batch = OutOfOrderFilter(lambda _: AT_REST, updater(), window=60.0), list[Event]()
    for place, index in enumerate(order):
        batch.append(events[index])
        if place in cuts or place == len(order) - 1:
            outcomes, late = tested.apply(batch)
            assert late == []
            batch = []
    found, expected = outcomes["tag"].belief, replayed(events)[-1].belief
    assert expected.weights @ expected.means[:, 0] > 0.8  # of the new place
    np.testing.assert_allclose(found.weights, expected.weights, atol=1e-9)
    np.testing.assert_allclose(found.means, expected.means, atol=1e-9)
    assert found.error == pytest.approx(expected.error, abs=1e-9)


def test_other_entities_of_a_round_do_not_matter() -> None:
    logs = {f"tag{seed}": reports((4, 6), seed) for seed in range(3)}
    events = [
        Event(name, event.time, event.reading) for name, readings in logs.items() for event in log(readings)
    ]
    last = dict(replay(events, lambda _: AT_REST, updater()))
    for name, readings in logs.items():
        alone = replayed(log(readings))[-1].belief
        np.testing.assert_allclose(last[name].belief.means, alone.means, atol=1e-6)


@pytest.mark.parametrize(("change", "counted"), [(PRODUCT, slice(None)), (STATED, slice(7, None))])
def test_a_product_counts_and_a_stated_prior_begins_anew(change: PriorChange, counted: slice) -> None:
    readings = reports((7, 10))
    prior = log_density(change.mixture, POINTS)
    if change is PRODUCT:
        prior = prior + log_density(AT_REST.prior, POINTS)
    last = replayed([*log(readings), Event("tag", 6.5, prior=change)])[-1].belief
    assert divergence(prior + log_likelihood(readings[counted]), last) < 0.02


def test_a_pause_that_is_too_long_begins_anew() -> None:
    readings = reports((7, 5))
    events = [Event("tag", i + (10.0 if i >= 7 else 0.0), reading) for i, reading in enumerate(readings)]
    last = replayed(events, replace(AT_REST, expires_after=5.0))[-1].belief
    exact_log = log_density(AT_REST.prior, POINTS) + log_likelihood(readings[7:])
    assert divergence(exact_log, last) < 0.02


def test_what_is_taken_together() -> None:
    readings = reports((3, 3))
    instants = [Instant(float(time), (reading,)) for time, reading in enumerate(readings)]
    before, after = instants[:3], instants[3:]
    assert taken([*before, *after]) == readings
    assert taken([*before, Instant(2.5, prior=PRODUCT), *after]) == readings
    assert taken([*before, Instant(2.5, prior=STATED), *after]) == readings[3:]
    assert taken([*before, Instant(2.5, prior=PARTIAL), *after]) is None
    assert taken([*before, *after], replace(AT_REST, expires_after=0.9)) == readings[-1:]
    assert taken([*before, *after], replace(AT_REST, expires_after=1.0)) == readings
    own = exact()
    assert taken([*before, Instant(3.0, (own,))]) == [*readings[:3], own]
    for other in (learned(), exact(is_learned=True)):
        assert taken([*before, Instant(3.0, (other,))]) is None


def taken(instants: list[Instant], model: StateModel = AT_REST) -> list[Reading] | None:
    problem = since_prior(model, instants)
    return None if problem is None else problem[1]


@settings(max_examples=25)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_up_to_128_readings_are_taken_together(counts: list[int]) -> None:
    reading = reports((1, 0))[0]
    readings = taken([Instant(float(time), (reading,) * count) for time, count in enumerate(counts)])
    assert readings == ([reading] * sum(counts) if sum(counts) <= 128 else None)


@given(number=st.integers(2, 10_000))
def test_a_joint_posterior_is_due_before_the_instants_have_grown_by_half(number: int) -> None:
    assert any(map(is_due, range(number, math.ceil(1.5 * number) + 1)))
    assert not any(map(is_due, range(2)))


@pytest.mark.parametrize("count", [13, 70])
@pytest.mark.parametrize("drift", [0.0, 0.01])
def test_others_go_on_report_by_report(drift: float, count: int) -> None:
    """Those that move, that have too many readings, or whose earlier instants cannot be read any more."""
    model, readings = StateModel(RandomWalk((drift, drift)), AT_REST.prior), reports((8, count - 8))
    instants = [Instant(float(time), (reading,)) for time, reading in enumerate(readings)]
    *before, last = instants
    belief = one_by_one(model, before)
    kept, unread = Earlier(len(before), lambda: before), Earlier(len(before), lambda: None)
    alone, together, without = advance(
        [Step(belief, model, last, earlier) for earlier in (None, kept, unread)], updater()
    )
    np.testing.assert_array_equal(without.belief.means, alone.belief.means)
    is_joint = drift == 0 and count <= 64
    assert np.array_equal(together.belief.means, alone.belief.means) != is_joint
    for each in (together, without):
        assert (each.p_value, each.log_evidence) == (alone.p_value, alone.log_evidence)


def one_by_one(model: StateModel, instants: list[Instant]) -> Belief:
    """The belief after some instants, without the earlier ones."""
    belief: Belief | None = None
    for instant in instants:
        belief = advance([Step(belief, model, instant)], updater())[0].belief
    assert belief is not None
    return belief
