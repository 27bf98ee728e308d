"""A worker with a likelihood that was learned from its simulator: late counts too have the exact Poisson posterior."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Model, Observation, Posterior, parse_sensor
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.learned import (
    MODEL,
    SENSORS,
    WeightsOf,
    counted,
    divergence,
    module_in,
    weights_of as weights_of,  # the fixture
)
from tests.streams.workers import posteriors_of, stream

COUNTS = [(24, -1.0), (9, 3.0), (15, -3.0)]
UNFIT = {**SENSORS["Counter"], "sensor": "unfit", "weights": "Counter.safetensors", "sha256": "0" * 64}


def test_late_counts_change_the_posterior_to_that_of_all_counts(
    embedded_broker: EmbeddedNode,
    names: Names,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights_of: WeightsOf,
) -> None:
    (tmp_path / "Counter.safetensors").write_bytes(weights_of("Counter"))
    with module_in(tmp_path):
        monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        with stream(embedded_broker, names, tmp_path) as opened:
            sensors = [parse_sensor(SENSORS["Counter"]), parse_sensor(UNFIT)]
            opened.define([*sensors, Model.model_validate(MODEL)])
            opened.worker(measurements="simulators").start()

            def send(number: int, sensor: str = "counter") -> None:
                count, place = COUNTS[number]
                opened.observations.send_message(
                    Observation(entity="source", sensor=sensor, time=float(number), value=(count, place))
                )

            def applied(count: int) -> Any:
                def enough(records: list[Any]) -> Any:
                    found = posteriors_of(records).get("source", [])
                    return sum(len(each.applied) for each in found) >= count and found

                return opened.posteriors.wait_for(enough, 60.0, f"{count} counts are applied")

            send(0, "unfit")
            send(0)
            send(2)
            applied(2)
            send(1)  # late
            found: list[Posterior] = applied(3)
            (refused,) = opened.dead_letters.wait_for(
                lambda records: records, 30.0, "weights with another digest are a dead letter"
            )
    assert b"invalid_definition" in dict(refused.headers).values()
    last = max(found, key=lambda each: each.sequence)
    assert last.time == 2.0 and last.revision > 0
    quality = last.quality
    assert quality.likelihood == "learned" and quality.outside_training == 0
    assert quality.accumulated_error is not None
    assert (
        -0.001
        < divergence(last, [counted(*each) for each in COUNTS])
        < min(0.3, quality.accumulated_error + 0.1)
    )
