"""An entity that moved in a silence is found again, whatever the order and batches of its reports; without a broker."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import Mixture, Observation, RandomWalk, RangeSensor
from beliefstream.streams.demo.crate import BEACONS, crate
from beliefstream.streams.state.record import unpack
from tests.streams.one_entity import Message, OneEntity
from tests.streams.oracle import expected, updater

ENTITY = "crate"
PLACES = ((112.0, -4.0), (126.0, 7.0))
SENSORS = tuple(
    RangeSensor(sensor=f"r-{number}", position=place, standard_deviation=0.3, outlier_probability=0.05)
    for number, place in enumerate(BEACONS)
)
MODEL = crate(52.0).model.model_copy(
    update={
        "motion": RandomWalk(spectral_density=0.02),
        "prior": Mixture.gaussian(PLACES[0], standard_deviations=(3.0, 3.0)),
        "lateness_window": 400.0,
    }
)
CLOSE = 1e-9  # m, and of weights


def reports(place: Sequence[float], start: float, count: int) -> list[Observation]:
    values = [float(np.linalg.norm(np.subtract(place, BEACONS[number % 4]))) for number in range(count)]
    return [
        Observation(entity=ENTITY, sensor=f"r-{n % 4}", time=start + n, value=value, id=f"{start}-{n}")
        for n, value in enumerate(values)
    ]


SEEN = [*reports(PLACES[0], 0.0, 10), *reports(PLACES[1], 300.0, 12)]


def run(batches: Sequence[Sequence[Message]], **changes: Any) -> OneEntity:
    one = OneEntity(MODEL.model_copy(update=changes), SENSORS, updater())
    for batch in batches:
        one.apply(batch)
    return one


def apart(one: OneEntity, belief: Belief) -> float:
    found = one.record.belief
    assert found is not None
    assert found.weights.shape == belief.weights.shape
    names = ("weights", "means", "covariances")
    return max(float(np.abs(getattr(found, name) - getattr(belief, name)).max()) for name in names)


@settings(max_examples=4)
@given(seed=st.integers(0, 1000), cuts=st.sets(st.integers(1, len(SEEN) - 1), max_size=5))
def test_any_order_and_any_cut_end_as_the_replay_does(seed: int, cuts: set[int]) -> None:
    order = np.random.default_rng(seed).permutation(len(SEEN))
    batches = [[SEEN[n] for n in order[start:end]] for start, end in pairwise([0, *sorted(cuts), len(SEEN)])]
    one = run(batches)
    assert apart(one, expected(MODEL, SENSORS, SEEN, [])[ENTITY][-1].belief) < CLOSE
    assert np.linalg.norm(np.subtract(one.posteriors[-1].mixture.mean(), PLACES[1])) < 0.5
    assert one.rejected == []


@pytest.mark.parametrize("size", [1, 5])
def test_what_is_needed_is_kept_though_the_window_of_late_messages_is_short(size: int) -> None:
    batches = [SEEN[start : start + size] for start in range(0, len(SEEN), size)]
    one = run(batches, lateness_window=2.0)
    model = MODEL.model_copy(update={"lateness_window": 2.0})
    assert apart(one, expected(model, SENSORS, SEEN, [])[ENTITY][-1].belief) < CLOSE
    assert sum(len(unpack(moment.content)) for moment in one.record.past.moments) == 12


def test_messages_before_a_silence_are_not_kept() -> None:
    one = run([SEEN[:10]], lateness_window=2.0)
    assert sum(len(unpack(moment.content)) for moment in one.record.past.moments) < 10
