"""Outcomes judged together are judged as each alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from beliefstream.inference.tracking.accumulated_error import AccumulatedError
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.streams.worker.rounds import are_sound


def outcome(dimension: int = 2, components: int = 1, **changes: Any) -> Outcome:
    covariances = np.tile(np.eye(dimension), (components, 1, 1))
    weights = np.full(components, 1 / max(components, 1))
    belief = Belief(1.0, weights, np.zeros((components, dimension)), covariances)
    return replace(Outcome(belief, 0.9, -1.0, 0.5, "transformer"), **changes)


def with_belief(**changes: Any) -> Outcome:
    sound = outcome()
    return replace(sound, belief=replace(sound.belief, **changes))


BAD = {
    "none": None,
    "no components": outcome(components=0),
    "quality": outcome(sample_efficiency=math.nan),
    "evidence": outcome(log_evidence=-math.inf),
    "p_value": outcome(p_value=math.nan),
    "error": with_belief(error=AccumulatedError(math.inf, 0.0, 0.0)),
    "weights": with_belief(weights=np.array([math.nan])),
    "means": with_belief(means=np.array([[0.0, math.inf]])),
    "covariances": with_belief(covariances=np.full((1, 2, 2), math.nan)),
    "not positive definite": with_belief(covariances=np.diag([1.0, -1.0])[None]),
    "two infinities": with_belief(means=np.array([[math.inf, -math.inf]])),
}
SOUND = (outcome(), outcome(4, 3), outcome(2, 8), outcome(1))


@pytest.mark.parametrize("name", BAD)
def test_one_bad_outcome_does_not_spoil_the_others(name: str) -> None:
    assert are_sound([*SOUND, BAD[name], *SOUND]) == [True] * 4 + [False] + [True] * 4


@given(st.lists(st.sampled_from([*SOUND, *BAD.values()]), max_size=8))
def test_any_outcomes_together_are_judged_as_each_alone(outcomes: list[Outcome | None]) -> None:
    assert are_sound(outcomes) == [are_sound([each])[0] for each in outcomes]
