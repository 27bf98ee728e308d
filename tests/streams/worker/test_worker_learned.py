"""A worker finds a radiation source by moving counters: its posterior is the grid's, and bad definitions are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from beliefstream.inference.tracking.events import Belief
from beliefstream.schemas import Model, Observation, Posterior, parse_sensor
from research.evaluation.learned.sources import KNOWN, MEAN, SPREAD, Grid, Scene
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.workers import posteriors_of, stream

COUNTS = 4
SENSOR = {
    "sensor": "counter",
    "kind": "learned",
    "problem": "beliefstream.inference.likelihood.example_problems:RadiationSource",
    "parameters": {"x": "x", "y": "y", "strength": "log_strength"},
    "value": ["count", "counter_x", "counter_y"],
    "context": KNOWN,
}
UNKNOWN = {**SENSOR, "sensor": "unknown", "problem": "os:System"}
MODEL = {
    "entity": "*",
    "name": "source",
    "coordinates": [{"name": name, "unit": "m"} for name in ("x", "y", "log_strength")],
    "motion": {"kind": "random_walk", "spectral_density": 0.0},
    "prior": {"weights": [1.0], "means": [MEAN], "covariances": [np.diag(np.square(SPREAD)).tolist()]},
}


def test_a_source_is_mixtureby_moving_counters(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    scene = Scene.drawn(np.random.default_rng(1), COUNTS)
    with stream(embedded_broker, names, tmp_path) as opened:
        opened.define([parse_sensor(SENSOR), parse_sensor(UNKNOWN), Model.model_validate(MODEL)])
        opened.worker().start()
        opened.observations.send("source", "unknown", 1, time=0.0)
        for number, (count, place) in enumerate(zip(scene.counts, scene.places.tolist(), strict=True)):
            opened.observations.send_message(
                Observation(entity="source", sensor="counter", time=float(number), value=(count, *place))
            )

        def all_there(records: list[Any]) -> Any:
            found = posteriors_of(records).get("source", [])
            return sum(len(each.applied) for each in found) >= COUNTS and found

        found: list[Posterior] = opened.posteriors.wait_for(all_there, 60.0, "all counts are applied")
        (refused,) = opened.dead_letters.wait_for(
            lambda records: records, 30.0, "the unknown problem is a dead letter"
        )
    assert b"invalid_definition" in dict(refused.headers).values()
    last = max(found, key=lambda each: each.sequence)
    assert last.quality.likelihood == "exact"
    mixture = last.mixture
    belief = Belief(
        last.time, np.array(mixture.weights), np.array(mixture.means), np.array(mixture.covariances)
    )
    divergence = Grid.of(scene).divergence(belief.mixture().log_density)
    assert last.quality.accumulated_error is not None
    assert -0.01 < divergence < min(0.4, last.quality.accumulated_error + 0.1)
