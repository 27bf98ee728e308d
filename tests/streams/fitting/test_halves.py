"""A check by halves: how far apart the beliefs of two halves of the sensors are."""

from __future__ import annotations

import math

import numpy as np
import pytest

from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import ControlSensor, Observation
from beliefstream.streams.fitting.evidence import Definitions, Recorded
from beliefstream.streams.fitting.halves import LEAST_APART, TOO_CERTAIN, parted, ratio_by_halves
from tests.streams.fitting.test_fit import (
    DENSITY,
    INDEPENDENT,
    LASTS,
    NAMES,
    PERSISTENT,
    simulated,
    stated,
)


def true() -> Definitions:
    return stated(INDEPENDENT, persistent_deviation=PERSISTENT, correlation_time=LASTS)


def test_true_definitions_have_a_ratio_of_one(updater: Updater) -> None:
    found = ratio_by_halves(true(), Recorded(simulated(600, seed=5), math.inf), updater)
    assert found == pytest.approx(1.0, abs=0.2)


def test_definitions_without_the_errors_that_last_are_too_certain(updater: Updater) -> None:
    found = ratio_by_halves(stated(INDEPENDENT), Recorded(simulated(600, seed=5), math.inf), updater)
    assert found is not None and found > TOO_CERTAIN


@pytest.mark.parametrize("lasts", [False, True])
def test_the_ratio_is_that_of_the_joint_gaussian_of_all_observations(updater: Updater, lasts: bool) -> None:
    """The mean of each half is a linear function of its observations, whose joint covariance is known.

    One half has the left sensor, the other two sensors with half as many reports each.
    """
    observations = simulated(120, seed=6)
    observations[3::4] = [each.model_copy(update={"sensor": "third"}) for each in observations[3::4]]
    times = np.array([each.time for each in observations])
    values = np.array([each.values[0] for each in observations])
    of = np.array([(*NAMES, "third").index(each.sensor) for each in observations])
    walk = 1.0 + DENSITY * np.minimum(times[:, None], times)
    error = (of[:, None] == of) * PERSISTENT**2 * np.exp(-np.abs(times[:, None] - times) / LASTS)
    covariance = walk + lasts * error + INDEPENDENT**2 * np.eye(len(times))
    scores = []
    for now, time in enumerate(times):
        difference, variance = np.zeros(len(times)), 0.0
        for side, sign in ((0, 1.0), (1, -1.0)):
            seen = np.flatnonzero(((of > 0) == side) & (times <= time))
            weights = np.linalg.solve(covariance[np.ix_(seen, seen)], walk[seen, now])
            difference[seen] = sign * weights
            variance += walk[now, now] - walk[seen, now] @ weights
        spread = difference @ covariance @ difference
        if spread > LEAST_APART * variance:
            scores.append(difference @ values / math.sqrt(spread))
    expected = float(np.median(np.abs(scores))) / 0.6745
    sensors, models = true() if lasts else stated(INDEPENDENT)
    third = sensors[1].model_copy(update={"sensor": "third"})
    found = ratio_by_halves(Definitions((*sensors, third), models), Recorded(observations, math.inf), updater)
    assert len(scores) > 100 and found == pytest.approx(expected, rel=1e-6)


def test_a_device_stays_together_and_halves_have_about_as_many_observations_each() -> None:
    names = ("a1", "a2", "b", "c", "d")
    plain = stated().sensors[0]
    sensors = [
        plain.model_copy(update={"sensor": name, "device": "a" if name.startswith("a") else None})
        for name in names
    ]
    wheels = ControlSensor(sensor="wheels", inputs=("speed",), standard_deviation=(0.1,))
    observations = [
        Observation(entity="cart", sensor=names[step % 5], time=float(step), value=0.0) for step in range(100)
    ]
    observations.append(Observation(entity="cart", sensor="wheels", time=50.5, value=0.0))
    definitions = Definitions((*sensors, wheels), stated().models)
    ways = parted(definitions, observations)
    assert len(ways) > 1
    for one, other in ways:
        assert "wheels" in {each.sensor for each in one} & {each.sensor for each in other}
        assert sorted({each.sensor for each in (*one, *other)} - {"wheels"}) == sorted(names)
        assert len({"a1", "a2"} & {each.sensor for each in one}) in (0, 2)
        assert {len(one), len(other)} == {41, 61}
    assert ways == parted(definitions, observations)


def test_one_device_alone_has_no_ratio(updater: Updater) -> None:
    shared = [each.model_copy(update={"device": "box"}) for each in stated().sensors]
    alone = Definitions(tuple(shared), stated().models)
    assert ratio_by_halves(alone, Recorded(simulated(20, seed=7), math.inf), updater) is None


def test_there_is_no_check_where_the_motion_noise_has_modes(updater: Updater) -> None:
    sensors, (model,) = true()
    modes = model.model_copy(update={"modes": (0.1, 10.0), "mode_time": 10.0})
    recorded = Recorded(simulated(20, seed=7), math.inf)
    assert ratio_by_halves(Definitions(sensors, (modes,)), recorded, updater) is None
