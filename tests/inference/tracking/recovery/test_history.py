"""Which instants of an entity count for what may be taken together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from beliefstream.inference.motion import RandomWalk
from beliefstream.inference.sensors import range_to
from beliefstream.inference.sensors.readings import Reading
from beliefstream.inference.tracking.events import Belief, Instant, PriorChange, StateModel, Step
from beliefstream.inference.tracking.outcomes import Outcome
from beliefstream.inference.tracking.recovery.history import MOST_INSTANTS, NONE, History, number_of

PRIOR = Belief(0.0, np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
SENSOR = range_to([0, 1], 2, [3.0, 0.0], 0.1)
SURE = replace(PRIOR, covariances=0.01 * np.eye(2)[None])


def model(density: float, **changes: Any) -> StateModel:
    return StateModel(RandomWalk((density, density)), PRIOR, **changes)


def step(time: float, belief: Belief | None, density: float = 0.01, **changes: Any) -> Step:
    instant = Instant(time, (Reading(SENSOR, np.array([3.0])),))
    return Step(belief, model(density, **changes), instant)


def outcome(time: float, method: str = "linearised", belief: Belief = SURE) -> Outcome:
    return Outcome(replace(belief, time=time), 1.0, 0.0, 1.0, method)


def test_of_an_entity_at_rest_all_since_the_prior_count() -> None:
    assert number_of(step(1.0, None, 0.0), outcome(1.0), MOST_INSTANTS) == 1
    assert number_of(step(900.0, SURE, 0.0), outcome(900.0, "quadrature"), 7) == 8
    assert number_of(step(900.0, SURE, 0.0, expires_after=5.0), outcome(900.0), 7) == 1


@pytest.mark.parametrize("method", ["quadrature", "refined", "transformer"])
def test_of_one_that_moves_those_since_a_silence_count_if_the_first_report_bends(method: str) -> None:
    """Before the first report, its variance has grown by .01 m² a second, from .01 m²."""
    wide = replace(SURE, covariances=np.diag([0.01, 0.08])[None])
    assert number_of(step(16.0, SURE), outcome(16.0, method, wide), 7) == 1
    assert number_of(step(14.0, SURE), outcome(14.0, method, wide), 7) == 8
    assert number_of(step(16.0, SURE), outcome(16.0, method), 7) == 8  # and is as narrow again
    assert number_of(step(16.0, SURE), outcome(16.0, belief=wide), 7) == 8
    assert number_of(step(16.0, None), outcome(16.0, method, wide), 7) == NONE
    assert number_of(step(16.0, SURE, expires_after=5.0), outcome(16.0, method, wide), 7) == NONE


def test_a_prior_ends_the_count_of_one_that_moves() -> None:
    stated = Step(SURE, model(0.01), Instant(2.0, prior=PriorChange(PRIOR)))
    assert number_of(stated, outcome(2.0, "prior"), 7) == NONE
    assert number_of(step(3.0, SURE), outcome(3.0), NONE) == NONE


def test_a_history_has_the_instants_since_a_silence_and_the_belief_before_it() -> None:
    history, steps = History(), [step(1.0, None), step(60.0, SURE), step(61.0, SURE), step(62.0, SURE)]
    for number, each in enumerate(steps):
        assert (history.earlier(each.instant.time) is None) == (number < 2)
        belief, method = (PRIOR, "quadrature") if number == 1 else (SURE, "linearised")
        history.add(each, outcome(each.instant.time, method, belief))
    earlier = history.earlier(63.0)
    assert earlier is not None
    assert (earlier.number, earlier.before()) == (3, SURE)
    assert earlier.read() == [each.instant for each in steps[1:]]
    history.rewind(61.5)
    earlier = history.earlier(61.5)
    assert earlier is not None
    assert earlier.number == 2
    history.rewind(60.0)
    assert history.earlier(60.0) is None
