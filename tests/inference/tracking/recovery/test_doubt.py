"""Evidence of surprising observations against a belief: true beliefs do not collect it, wrong ones do."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from beliefstream.inference import sensors
from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief, Event, Instant, PriorChange, StateModel
from beliefstream.inference.tracking.filtering import Outcome, Step, advance, replay
from beliefstream.inference.tracking.recovery.doubt import MOST, evidence, with_doubt
from tests.inference.problems import updater
from tests.inference.tracking.plane_grid import OUTLIERS, range_sensor, ranged

ANCHORS = range_sensor(5.0, 1.0), range_sensor(-3.0, 4.0), range_sensor(-2.0, -5.0)
OLD, FAR = np.array([0.3, -0.4]), np.array([2.3, 0.6])


def gaussian(*mean: float) -> Belief:
    return Belief(0.0, np.ones(1), np.array([mean]), np.eye(len(mean))[None])


MODEL = StateModel(RandomWalk((1e-4, 1e-4)), gaussian(0.0, 0.0))
BELIEF = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None], error=AccumulatedError(0.01, doubt=5.0))


@settings(max_examples=50)
@given(share=st.sampled_from([0.0, 1e-3, 1.25e-3, 0.02, 0.1, 0.3, 1.0]) | st.floats(0, 1))
def test_under_a_true_belief_its_exponential_has_a_mean_of_at_most_one(share: float) -> None:
    """P-values are uniform but for those of outliers, which may be anything."""
    logs = np.linspace(math.log(1e-9), 0.0, 2000)
    of_uniform = np.exp([p + evidence(math.exp(p), share) for p in logs])
    assert (1 - share) * np.trapezoid(of_uniform, logs) + share * math.exp(evidence(0.0, share)) <= 1


@given(p=st.floats(0, 1), other=st.floats(0, 1), share=st.floats(0, 1))
def test_less_likely_observations_are_no_less_evidence(p: float, other: float, share: float) -> None:
    assert evidence(min(p, other), share) >= evidence(max(p, other), share)


def log(places: list[np.ndarray], seed: int = 0) -> list[Event]:
    """A distance of each place, one a second."""
    noise = np.random.default_rng(seed).standard_normal(len(places))
    readings = [ranged(ANCHORS[i % 3], place, noise[i]) for i, place in enumerate(places)]
    return [Event("tag", float(time), reading) for time, reading in enumerate(readings)]


def replayed(events: list[Event], model: StateModel = MODEL) -> list[Outcome]:
    return [outcome for _, outcome in replay(events, lambda _: model, updater())]


@pytest.mark.parametrize("seed", range(3))
def test_a_run_of_surprises_lowers_the_quality_and_one_outlier_does_not(seed: int) -> None:
    outlier, carried = (
        [math.exp(-outcome.accumulated_error) for outcome in replayed(log(places, seed))]
        for places in ([OLD] * 8 + [FAR] + [OLD] * 3, [OLD] * 8 + [FAR] * 6)
    )
    assert min(outlier) > 0.9
    assert min(carried[:9]) > 0.9 and max(carried[11:]) < 0.5


@settings(max_examples=40)
@given(p_values=st.lists(st.sampled_from([0.0, 1e-3, 0.01, 0.04, 0.3, 1.0]), max_size=30))
@example(p_values=[0.0] * 30)
def test_it_is_the_largest_sum_of_evidence_up_to_now_and_limited(p_values: list[float]) -> None:
    readings = (ranged(ANCHORS[0], OLD, 0.0),)
    belief = gaussian(0.0, 0.0)
    for p_value in p_values:
        outcome = Outcome(belief, 1.0, 0.0, p_value, "linearised")
        belief = with_doubt(outcome, Step(belief, MODEL, Instant(0.0, readings))).belief
    told = [evidence(p, OUTLIERS) for p in p_values]
    largest = max(math.fsum(told[start:]) for start in range(len(told) + 1))
    if largest < MOST:
        assert belief.error.doubt == pytest.approx(largest, abs=1e-9)
    assert belief.error.doubt <= MOST


def after(instant: Instant) -> float:
    (outcome,) = advance([Step(BELIEF, MODEL, instant)], updater())
    return outcome.belief.error.doubt


def test_a_stated_prior_ends_it_and_what_does_not_replace_the_belief_carries_it() -> None:
    assert after(Instant(1.0, prior=PriorChange(gaussian(3.0, 1.0)))) == 0
    assert after(Instant(1.0, prior=PriorChange(gaussian(3.0, 1.0), "product"))) == 5.0
    assert after(Instant(1.0, prior=PriorChange(gaussian(3.0), "replace", (0,)))) == 5.0
    assert after(Instant(1.0)) == 5.0


def test_expiry_ends_it() -> None:
    expiring = StateModel(MODEL.motion, MODEL.prior, expires_after=0.5)
    (outcome,) = advance([Step(BELIEF, expiring, Instant(1.0))], updater())
    assert outcome.belief.error.doubt == 0


@pytest.mark.parametrize("outliers", [0.0, 0.01])
def test_exact_beliefs_are_never_doubted(outliers: float) -> None:
    sensor = sensors.position([0, 1], 2, 0.01 * np.eye(2), outliers)
    places = [OLD] * 5 + [FAR] * 3
    events = [Event("tag", float(time), Reading(sensor, place)) for time, place in enumerate(places)]
    doubts = [outcome.belief.error.doubt for outcome in replayed(events)]
    assert (max(doubts) > 0) == (outliers > 0)
