"""Observations that state where their sensor was."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream import BearingSensor, Coordinate, Mixture, Model, Observation, Posterior, RandomWalk, fuse
from beliefstream.schemas import Unusable, parse_sensor
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from tests.streams.cli.conftest import small_weights as small_weights  # the fixture

NAMES = ("x", "y", "z")
START = 1769860800.0
PRIOR_MEAN, PRIOR_DEVIATION = (2.0, 1.0), 3.0
STILL = Model(
    entity="*",
    name="still",
    motion=RandomWalk(spectral_density=1e-9),
    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
    prior=Mixture.gaussian(PRIOR_MEAN, standard_deviations=PRIOR_DEVIATION),
)
TARGET = np.array([3.0, 2.5])
DEVIATION = 0.05
# where a camera on a vehicle was, and how it was turned
POSES = [(0.0, 0.0, 0.0), (1.5, -1.0, 0.4), (4.0, -1.0, -0.9), (6.0, 1.0, 2.0)]


@pytest.fixture(autouse=True)
def weights(small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))


def observation(value: Any = 1.0, **fields: Any) -> Observation:
    return Observation(entity="target", sensor="camera", time=START, value=value, **fields)


def definition(kind: str, position: object, **fields: Any) -> dict[str, Any]:
    return {"sensor": "camera", "kind": kind, "position": position, "standard_deviation": 0.3, **fields}


def seen(x: float, y: float, turn: float) -> float:
    """What a camera there reports of the target."""
    return math.remainder(math.atan2(TARGET[1] - y, TARGET[0] - x) - turn, math.tau)


def moving_camera() -> list[Posterior]:
    camera = BearingSensor(sensor="camera", position=(99.0, 99.0), standard_deviation=DEVIATION, moves=True)
    reports = [
        observation(seen(*pose), position=pose[:2], orientation=pose[2], id=f"{number}")
        for number, pose in enumerate(POSES)
    ]
    posteriors: list[Posterior] = fuse(reports, camera, STILL)
    return posteriors


def test_a_moving_camera_gives_the_belief_of_a_grid() -> None:
    posterior = moving_camera()[-1]
    assert len(posterior.applied) == len(POSES)
    axis = np.linspace(-4.0, 10.0, 1401)
    x, y = np.meshgrid(axis, axis, indexing="ij")
    log = -((x - PRIOR_MEAN[0]) ** 2 + (y - PRIOR_MEAN[1]) ** 2) / (2 * PRIOR_DEVIATION**2)
    for px, py, turn in POSES:
        residual = np.angle(np.exp(1j * (np.arctan2(y - py, x - px) - turn - seen(px, py, turn))))
        log -= residual**2 / (2 * DEVIATION**2)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    mean = [float((weight * each).sum()) for each in (x, y)]
    spread = [
        math.sqrt(float((weight * (each - m) ** 2).sum())) for each, m in zip((x, y), mean, strict=True)
    ]
    np.testing.assert_allclose(posterior.mixture.mean(), mean, atol=0.1 * min(spread))
    np.testing.assert_allclose(posterior.mixture.standard_deviations(), spread, rtol=0.1)


def test_a_moving_camera_is_as_many_cameras_that_stand() -> None:
    cameras = [
        BearingSensor(
            sensor=f"camera-{number}", position=(x, y), orientation=turn, standard_deviation=DEVIATION
        )
        for number, (x, y, turn) in enumerate(POSES)
    ]
    reports = [
        Observation(entity="target", sensor=f"camera-{number}", time=START, value=seen(*pose), id=f"{number}")
        for number, pose in enumerate(POSES)
    ]
    standing, moving = fuse(reports, cameras, STILL)[-1], moving_camera()[-1]
    np.testing.assert_allclose(standing.mixture.means, moving.mixture.means, atol=1e-9)
    np.testing.assert_allclose(standing.mixture.covariances, moving.mixture.covariances, atol=1e-9)
    assert standing.quality.log_evidence == pytest.approx(moving.quality.log_evidence)


@pytest.mark.parametrize(
    ("made", "fields", "reason", "part"),
    [
        (
            definition("range", [0, 0]),
            {"position": [1, 2, 3]},
            "wrong_length",
            "position: expected 2 numbers, got 3 ([1.0, 2.0, 3.0]); the sensor is camera",
        ),
        (
            definition("range", [0, 0]),
            {"orientation": 0.5},
            "invalid",
            "orientation: this sensor has none, got [0.5]",
        ),
        (
            definition("bearing", [0, 0]),
            {"orientation": [0.1, 0.2, 0.3]},
            "wrong_length",
            "orientation: expected 1 number, got 3",
        ),
        (
            {"sensor": "camera", "kind": "position", "standard_deviation": 1.0},
            {"value": [1, 2], "position": [1, 2]},
            "invalid",
            "position: this sensor has none, got [1.0, 2.0]",
        ),
        (
            definition("range", [0, 0], moves=True),
            {},
            "invalid",
            "position: camera moves, so that each observation must state it",
        ),
        (
            definition("bearing", [0, 0], moves=True),
            {"orientation": 0.2},
            "invalid",
            "position: camera moves, so that each observation must state it",
        ),
    ],
)
def test_a_place_that_does_not_fit_is_named(
    made: dict[str, Any], fields: dict[str, Any], reason: str, part: str
) -> None:
    sensor = sensor_over(parse_sensor(made), NAMES)
    with pytest.raises(Unusable) as caught:
        reading_of(observation(**fields), sensor)
    assert caught.value.reason == reason
    assert part in caught.value.detail


def test_a_direction_in_space_is_turned_by_its_definition_and_by_an_observation() -> None:
    channels = {"azimuth": {"standard_deviation": 0.1}, "elevation": {"standard_deviation": 0.1}}
    made = {"sensor": "camera", "kind": "azimuth_elevation", "position": [0, 0, 0], **channels}
    own = sensor_over(parse_sensor(made | {"orientation": [0.1, 0.2, 0.3]}), NAMES)
    stated = reading_of(
        observation([0.0, 0.0], orientation=[0.1, 0.2, 0.3]), sensor_over(parse_sensor(made), NAMES)
    )
    for one, other in zip(own.parts, stated.sensor.parts, strict=True):
        np.testing.assert_array_equal(one.matrix, other.matrix)
        np.testing.assert_array_equal(one.origin, other.origin)
    assert not np.allclose(own.parts[0].matrix[:, :2], np.eye(2))


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"position": []}, "position: Tuple should have at least 1 item"),
        ({"position": [1.0, math.nan]}, "position[1]: Input should be a finite number"),
        ({"position": "here"}, "position: Input should be a valid tuple"),
        ({"orientation": [0, 0, 0, 1]}, "orientation"),
    ],
)
def test_a_place_that_is_none_is_refused(fields: dict[str, Any], part: str) -> None:
    with pytest.raises(ValueError, match=r"validation errors?") as caught:
        observation(**fields)
    assert part.partition(":")[0].partition("[")[0] in str(caught.value)
