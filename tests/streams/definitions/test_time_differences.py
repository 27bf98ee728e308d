"""A place from time differences of arrival, compared with a grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream import (
    Coordinate,
    Mixture,
    Model,
    Observation,
    Posterior,
    RandomWalk,
    TimeDifferencesSensor,
    fuse,
)
from beliefstream.schemas import Unusable, parse_sensor
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.worker.validation import bounds_of, check_possible
from tests.streams.cli.conftest import small_weights as small_weights  # the fixture

SPEED = 343.0  # of sound, m/s
RECEIVERS = np.array([[0.0, 0.0], [40.0, 0.0], [0.0, 40.0], [40.0, 40.0]])
DEVIATIONS = (0.004, 0.001, 0.001, 0.002)  # s; that of the reference is the largest
SOURCE = np.array([12.0, 25.0])
MEAN, SPREAD = (20.0, 20.0), 15.0
STILL = Model(
    entity="*",
    name="still",
    motion=RandomWalk(spectral_density=1e-9),
    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
    prior=Mixture.gaussian(MEAN, standard_deviations=SPREAD),
)
ERRORS = np.array([0.003, 0.0035, 0.001])  # s; mostly the reference's, which is late by 3 ms
START = 1769860800.0


@pytest.fixture(autouse=True)
def weights(small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))


def microphones(**noise: Any) -> TimeDifferencesSensor:
    places = tuple(map(tuple, RECEIVERS.tolist()))
    return TimeDifferencesSensor(sensor="microphones", receivers=places, propagation_speed=SPEED, **noise)


def heard() -> list[float]:
    times = np.hypot(*(RECEIVERS - SOURCE).T) / SPEED
    return list(times[1:] - times[0] + ERRORS)


def observation(value: Any = None, **noise: Any) -> Observation:
    return Observation(entity="a", sensor="microphones", time=START, value=value or heard(), **noise)


def shared() -> np.ndarray[Any, Any]:
    variances = np.square(DEVIATIONS)
    covariance: np.ndarray[Any, Any] = np.diag(variances[1:]) + variances[0]
    return covariance


def grid(covariance: np.ndarray[Any, Any]) -> tuple[list[float], list[float], float]:
    """Mean, standard deviations and log evidence by summation."""
    axis = np.linspace(-40.0, 80.0, 1501)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    times = [np.hypot(x - px, y - py) / SPEED for px, py in RECEIVERS]
    residuals = np.stack([h - (t - times[0]) for h, t in zip(heard(), times[1:], strict=True)])
    squared = np.einsum("i...,ij,j...->...", residuals, np.linalg.inv(covariance), residuals)
    log = -0.5 * squared - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    log += -((x - MEAN[0]) ** 2 + (y - MEAN[1]) ** 2) / (2 * SPREAD**2) - math.log(2 * np.pi * SPREAD**2)
    weight = np.exp(log - log.max())
    evidence = float(np.log(weight.sum()) + log.max() + 2 * math.log(axis[1] - axis[0]))
    weight /= weight.sum()
    mean = [float((weight * each).sum()) for each in (x, y)]
    spread = [
        math.sqrt(float((weight * (each - m) ** 2).sum())) for each, m in zip((x, y), mean, strict=True)
    ]
    return mean, spread, evidence


def check(posterior: Posterior) -> None:
    mean, spread, evidence = grid(shared())
    np.testing.assert_allclose(posterior.mixture.mean(), mean, atol=0.1 * min(spread))
    np.testing.assert_allclose(posterior.mixture.standard_deviations(), spread, rtol=0.1)
    assert posterior.quality.log_evidence == pytest.approx(evidence, abs=0.1)


def test_deviations_of_receivers_give_the_belief_of_a_grid() -> None:
    check(fuse([observation()], microphones(standard_deviation=DEVIATIONS), STILL)[-1])


def test_a_covariance_of_the_sensor_or_of_the_observation_is_the_same() -> None:
    covariance = tuple(map(tuple, shared().tolist()))
    check(fuse([observation()], microphones(covariance=covariance), STILL)[-1])
    check(fuse([observation(covariance=covariance)], microphones(standard_deviation=1e-5), STILL)[-1])


def test_it_matters_that_the_error_is_shared() -> None:
    mean, spread, _ = grid(shared())
    independent, _, _ = grid(np.diag(np.diag(shared())))
    assert max(abs(np.subtract(mean, independent)) / spread) > 0.5


def test_a_standard_deviation_of_the_observation_is_refused() -> None:
    sensor = sensor_over(microphones(standard_deviation=0.001), ("x", "y"))
    with pytest.raises(Unusable, match="share the error of its reference, state their covariance") as caught:
        reading_of(observation(standard_deviation=0.001), sensor)
    assert caught.value.reason == "invalid_covariance"
    with pytest.raises(Unusable, match="value: microphones reports 3 numbers, got 2"):
        reading_of(observation([0.0, 0.0]), sensor)


def test_a_delay_that_no_place_has_is_refused() -> None:
    sensor = microphones(standard_deviation=DEVIATIONS)
    most = 40.0 / SPEED + 10 * math.hypot(0.004, 0.001)
    check_possible(observation([most - 1e-6, 0.0, 0.0]), sensor, bounds_of(sensor))
    for value in ([most + 1e-6, 0.0, 0.0], [0.0, -most - 1e-6, 0.0]):
        with pytest.raises(Unusable, match="the signal takes no longer than this between the receivers"):
            check_possible(observation(value), sensor, bounds_of(sensor))


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"receivers": [[0, 0]]}, "time_differences.receivers"),
        ({"receivers": [[0, 0], [1, 2, 3]]}, "expected 2 numbers, one for each of coordinates"),
        ({"receivers": [[0, 0], [1, 2], [1, 2]]}, "expected each position once"),
        ({"standard_deviation": [0.1, 0.1]}, "expected 3 numbers, one for each of receivers"),
        ({"standard_deviation": None}, "expected exactly one of standard_deviation and covariance"),
        ({"standard_deviation": None, "covariance": [[1.0]]}, "expected a matrix of 2 by 2, got 1 by 1"),
        ({"outlier_probability": 0.1}, "outlier_probability: Extra inputs are not permitted"),
    ],
)
def test_a_definition_that_does_not_fit_is_named(changes: dict[str, Any], part: str) -> None:
    definition = {
        "sensor": "m",
        "kind": "time_differences",
        "receivers": [[0, 0], [1, 2], [3, 4]],
        "standard_deviation": 0.1,
    }
    with pytest.raises(Unusable) as caught:
        parse_sensor(definition | changes)
    assert part in caught.value.detail
