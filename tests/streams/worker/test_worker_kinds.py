"""A worker takes every kind of sensor and every motion, and its posteriors are those of the replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream.inference.likelihood import measurement_functions
from beliefstream.schemas import Model, Observation, Posterior, Sensor, parse_sensor
from beliefstream.streams.definitions import own_code
from tests import satellites
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.schemas import kinds
from tests.streams.oracle import bounds, expected, shift
from tests.streams.workers import Stream, posteriors_of, stream

REFINED = 0.1  # .03 at most in 40 ways to cut the log into batches: the wedge of a bearing is symmetric
MODULE = """
from beliefstream.inference.likelihood.measurement_functions import register

@register("inverse_cube")
def inverse_cube(place, moment):
    return moment * (place.square().sum() + 1e-6) ** -1.5
"""
COORDINATES = ["x", "y", "z", "vx", "vy", "heading"]
STATE = np.array([4.0, 5.0, 2.0, 1.0, -1.0, 0.5])
FIELD = {
    "kind": "own",
    "sensor": "own-1",
    "measurement": "inverse_cube",
    "coordinates": ["x", "y"],
    "position": [1.0, 2.0],
    "parameters": {"moment": 20.0},
    "standard_deviation": 0.05,
}
VALUES: dict[str, float | list[float]] = {
    "position": [4.1, 4.8],
    "linear": 7.4,
    "geodetic": [50.750045, -1.249943],
    "range": 4.4,
    "speed": 1.5,
    "range_rate": 0.2,
    "signal_strength": -55.0,
    "time_difference": -0.02,
    "time_differences": [0.02, -0.01],
    "bearing": 45.0,
    "relative_bearing": -2.8,
    "heading": 0.6,
    "course": -0.6,
    "azimuth_elevation": [0.8, 0.3],
    "range_bearing": [4.3, 0.75],
    "range_relative_bearing": [4.3, -2.9],
    "range_azimuth_elevation": [0.5, 0.8, 0.3],
    "own": 0.26,
    "learned": 9,
}
# of a satellite at the zenith of the origin
ZENITH = (satellites.on_earth(*kinds.ORIGIN.values()) + 2e7 * satellites.axes(50.75, -1.25)[2]).tolist()
RECEIVED: dict[str, dict[str, Any]] = {
    "pseudorange": {"value": 2e7 - 60.0, "position": ZENITH},
    "pseudorange_rate": {"value": [-3.0, 45.0], "position": ZENITH, "velocity": [100.0, -50.0, 80.0]},
}
ONE = {
    "kind": "position",
    "sensor": "x",
    "coordinates": ["x"],
    "standard_deviation": 0.5,
    "outlier_probability": 0.1,
}


def sensors() -> list[Sensor]:
    definitions = kinds.SENSORS | {"own": FIELD}
    return [parse_sensor(definitions[kind]) for kind in [*VALUES, *RECEIVED]] + [parse_sensor(ONE)]


def models() -> list[Model]:
    """One for all, seen by the kinds; and one for each motion."""
    standing = {
        "entity": "*",
        "name": "standing",
        "coordinates": [{"name": name, "unit": "m"} for name in COORDINATES],
        "motion": {"kind": "random_walk", "spectral_density": 0.1},
        "prior": {
            "weights": [1.0],
            "means": [(STATE + 0.2).tolist()],
            "covariances": [np.diag([1.0, 1.0, 1.0, 0.3, 0.3, 0.1]).tolist()],
        },
    }
    names = ["x", "y", "z", "vx", "vy", "vz", "drift"]
    receiving = {
        **standing,
        "coordinates": [{"name": name, "unit": "m"} for name in names],
        "prior": {"weights": [1.0], "means": [[0.0] * 7], "covariances": [np.eye(7).tolist()]},
    }
    receivers = [{**receiving, "entity": kind} for kind in RECEIVED]
    moving = [{**kinds.model(name), "entity": f"motion-{i}"} for i, name in enumerate(kinds.MOTIONS)]
    return [Model.model_validate(each) for each in (standing, *receivers, *moving)]


def observations() -> list[Observation]:
    seen: list[dict[str, Any]] = [
        {"entity": kind, "sensor": f"{kind}-1", "time": 1.0, "value": value} for kind, value in VALUES.items()
    ]
    seen += [{"entity": kind, "sensor": f"{kind}-1", "time": 1.0, **each} for kind, each in RECEIVED.items()]
    for number in range(len(kinds.MOTIONS)):
        entity = f"motion-{number}"
        seen += [
            {"entity": entity, "sensor": "x", "time": t, "value": v} for t, v in ((1.0, 0.4), (2.5, 1.2))
        ]
    return [Observation.model_validate(each) for each in seen]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the workers, and the replay, find the measurement of one's own."""
    (tmp_path / "of_ones_own.py").write_text(MODULE)
    monkeypatch.setattr(measurement_functions, "_registered", dict(measurement_functions._registered))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
    own_code.load("of_ones_own")
    return tmp_path


def test_every_kind_and_every_motion(embedded_broker: EmbeddedNode, names: Names, module: Path) -> None:
    assert {*VALUES, *RECEIVED, "control"} == set(kinds.SENSORS)
    with stream(embedded_broker, names, module) as opened:
        opened.define([*sensors(), *models()])
        opened.worker(measurements="of_ones_own").start()
        found = _sent(opened)
    for model in models():
        mine = [
            each
            for each in observations()
            if each.entity == model.entity or (model.entity == "*" and each.entity in VALUES)
        ]
        outcomes = expected(model, sensors(), mine)
        for entity, due in outcomes.items():
            assert len(found[entity]) == len(due), entity
            limits = bounds(due, 1e-6, REFINED)
            for posterior, outcome, limit in zip(found[entity], due, limits, strict=True):
                assert shift(posterior.mixture, outcome) < limit, entity
                assert posterior.quality.sample_efficiency > 0.3, entity


def _sent(opened: Stream) -> dict[str, list[Posterior]]:
    """The posteriors of all observations; none may be a dead letter."""
    for each in observations():
        opened.observations.send_message(each)
    count = len(observations())

    def all_there(records: list[Any]) -> Any:
        taken = posteriors_of(records)
        opened.dead_letters.poll(0)
        assert not opened.dead_letters.records
        return sum(map(len, taken.values())) == count and taken

    found: dict[str, list[Posterior]] = opened.posteriors.wait_for(all_there, 60.0, "all are applied")
    return found
