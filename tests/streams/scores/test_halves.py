"""A check by halves: what one half of the sensors reports, under the belief of the other half."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Observation
from beliefstream.streams.scores.evidence import Definitions, Recorded
from beliefstream.streams.scores.halves import TOO_CERTAIN, halves, ratio_by_halves
from tests.streams.scores.test_fitting import INDEPENDENT, LASTS, NAMES, PERSISTENT, simulated, stated


def recorded() -> Recorded:
    return Recorded(simulated(600, seed=5), math.inf)


def test_true_definitions_have_a_ratio_of_one(updater: Updater) -> None:
    true = stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=LASTS)
    found = ratio_by_halves(true, recorded(), updater)
    assert found == pytest.approx(1.0, abs=0.2)


def test_definitions_without_the_errors_that_last_are_too_certain(updater: Updater) -> None:
    found = ratio_by_halves(stated(INDEPENDENT), recorded(), updater)
    assert found is not None and found > TOO_CERTAIN


def test_the_ratio_is_that_of_a_kalman_filter_of_each_half(updater: Updater) -> None:
    """Of independent errors, so that a filter of one coordinate in NumPy says it."""
    observations = simulated(200, seed=6)
    scores, motion = [], 0.02
    for own in NAMES:
        mean, variance, time, has_begun = 0.0, 1.0, 0.0, False
        for each in observations:
            variance += motion * (each.time - time) if has_begun else 0.0
            time, spread = each.time, variance + INDEPENDENT**2
            if each.sensor == own:
                gain = variance / spread
                mean, variance, has_begun = mean + gain * (each.values[0] - mean), (1 - gain) * variance, True
            elif has_begun:
                scores.append((each.values[0] - mean) / math.sqrt(spread))
    expected = float(np.median(np.abs(scores))) / 0.6745
    found = ratio_by_halves(stated(INDEPENDENT), Recorded(observations, math.inf), updater)
    assert found == pytest.approx(expected, rel=1e-6)


def test_sensors_of_one_device_are_in_one_half_and_one_device_has_none(updater: Updater) -> None:
    shared = [each.model_copy(update={"device": "box"}) for each in stated().sensors]
    observations = [
        Observation(entity="cart", sensor=name, time=float(time), value=0.0)
        for time, name in enumerate((*NAMES, "third"))
    ]
    third = stated().sensors[0].model_copy(update={"sensor": "third"})
    parts = halves([*shared, third], observations)
    assert parts is not None
    assert [[each.sensor for each in part] for part in parts] == [list(NAMES), ["third"]]
    assert halves(shared, observations[:2]) is None
    alone = Definitions(tuple(shared), stated().models)
    assert ratio_by_halves(alone, Recorded(observations[:2], math.inf), updater) is None
