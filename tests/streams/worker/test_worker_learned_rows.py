"""A worker with reports of several rows: sets of any size have the exact posterior, late ones too."""

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
    divergence,
    module_in,
    shared,
    weights_of as weights_of,  # the fixture
)
from tests.streams.workers import posteriors_of, stream

SETS = [(0.8, [0.7]), (1.2, [0.5, 1.1, 0.2, 1.6]), (0.6, [0.7, 1.5, 0.2, -0.4, 0.9, 1.4])]


def test_sets_of_any_size_come_through_kafka(
    embedded_broker: EmbeddedNode,
    names: Names,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights_of: WeightsOf,
) -> None:
    (tmp_path / "Shared.safetensors").write_bytes(weights_of("Shared"))
    with module_in(tmp_path):
        monkeypatch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        with stream(embedded_broker, names, tmp_path) as opened:
            opened.define([parse_sensor(SENSORS["Shared"]), Model.model_validate(MODEL)])
            opened.worker(measurements="simulators").start()

            def send(time: float, scale: float, levels: list[float]) -> None:
                opened.observations.send_message(
                    Observation(entity="source", sensor="shared", time=time, value=(scale, *levels))
                )

            def applied(count: int) -> Any:
                def enough(records: list[Any]) -> Any:
                    found = posteriors_of(records).get("source", [])
                    return sum(len(each.applied) for each in found) >= count and found

                return opened.posteriors.wait_for(enough, 60.0, f"{count} reports are applied")

            send(0.0, *SETS[0])
            send(0.0, 0.8, [])
            send(0.0, 0.8, [0.7] * 7)
            send(2.0, *SETS[2])
            applied(2)
            send(1.0, *SETS[1])  # late
            found: list[Posterior] = applied(3)
            refused = opened.dead_letters.wait_for(
                lambda records: len(records) >= 2 and records,
                30.0,
                "reports of no and of seven rows are told",
            )
    assert all(b"wrong_length" in dict(each.headers).values() for each in refused)
    last = max(found, key=lambda each: each.sequence)
    assert last.time == 2.0 and last.revision > 0
    quality = last.quality
    assert quality.likelihood == "learned" and quality.outside_training == 0
    assert quality.accumulated_error is not None
    away = divergence(last, [shared(*each) for each in SETS])
    assert -0.001 < away < min(0.3, quality.accumulated_error + 0.1)
