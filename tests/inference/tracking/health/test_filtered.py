"""Health through the filter: several sensors share the entities, and one of them is faulty."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from beliefstream.inference import sensors
from beliefstream.inference.motion import ConstantVelocity
from beliefstream.inference.sensors import Reading
from beliefstream.inference.tracking.events import Belief, Event, StateModel
from beliefstream.inference.tracking.filtering import replay
from beliefstream.inference.tracking.health.sums import terms
from beliefstream.inference.tracking.health.verdicts import Assessment, assess, judge_together
from beliefstream.inference.tracking.health.windows import Window
from tests.inference.problems import updater

STATED, SECONDS, SPECTRAL_DENSITY = 0.5, 3600.0, 0.002
PRIOR = Belief(0.0, np.ones(1), np.zeros((1, 4)), np.diag([25.0, 25.0, 1.0, 1.0])[None])
MODEL = StateModel(ConstantVelocity((0, 1), (2, 3), SPECTRAL_DENSITY), PRIOR)
SENSORS = [sensors.position([0, 1], 4, STATED**2 * np.eye(2)) for _ in range(5)]


def events(seed: int, bias: float, noise: float) -> list[Event]:
    """Ten entities that wander for 150 s, seen by the five sensors in turn; the third is faulty."""
    random = np.random.default_rng(seed)
    found = []
    for entity in range(10):
        state = random.normal(size=4) * np.sqrt(np.diag(PRIOR.covariances[0]))
        for tick in range(150):
            faulty = tick % 5 == 2
            error = (noise if faulty else 1.0) * STATED * random.normal(size=2) + (bias if faulty else 0.0)
            found.append(
                Event(
                    f"e{entity}", float(tick), Reading(SENSORS[tick % 5], state[:2] + error), label=tick % 5
                )
            )
            # exactly the model's noise: white acceleration over one second
            kick = np.linalg.cholesky(
                SPECTRAL_DENSITY * np.array([[1 / 3, 1 / 2], [1 / 2, 1.0]])
            ) @ random.normal(size=(2, 2))
            state = state + np.concatenate([state[2:], np.zeros(2)]) + kick.ravel()
    return found


@functools.cache
def assessed(seed: int, bias: float, noise: float) -> list[Assessment]:
    windows = [Window(SECONDS, 2) for _ in SENSORS]
    log = events(seed, bias, noise)
    for _, outcome in replay(log, lambda _: MODEL, updater(), with_fits=True):
        assert outcome.fits is not None
        time = outcome.belief.time
        windows[int(time) % 5].add(np.array([time]), terms(outcome.fits)[None])
    alone = {str(number): assess(window) for number, window in enumerate(windows)}
    return list(judge_together(alone, dict.fromkeys(alone, 1)).values())


@pytest.mark.parametrize(
    ("bias", "noise", "verdict"), [(1.0, 1.0, "biased"), (0.0, 3.0, "noisier"), (0.0, 0.2, "quieter")]
)
def test_the_ill_one_of_five_sensors_is_found_and_no_other(bias: float, noise: float, verdict: str) -> None:
    found = assessed(1, bias, noise)
    assert found[2].verdict == verdict
    # those that it bends are no more than unclear
    others = {(each.verdict, each.bent_by) for each in (*found[:2], *found[3:])}
    assert others <= {("healthy", ""), ("unclear", "2")}
    if bias:
        for channel in found[2].channels:
            # the belief follows the biased sensor by about its share
            assert 0.6 * bias < channel.bias < bias


def test_all_are_healthy_where_all_is_as_stated() -> None:
    found = assessed(2, 0.0, 1.0)
    assert {each.verdict for each in found} == {"healthy"}
    for each in found:
        for channel in each.channels:
            assert abs(channel.bias) < 4 * channel.bias_deviation
            assert abs(channel.noise_scale - 1) < 4 * channel.noise_scale_deviation
            assert abs(channel.excess) < 0.1
