"""An entity's own model, acknowledged before its first observation, is in force from that observation on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beliefstream.schemas import Observation, PositionSensor
from beliefstream.streams.local.simulated_fleet import fleet_model
from tests.brokers import Broker
from tests.conftest import unique_names
from tests.streams.workers import Stream, posteriors_of, stream

ENTITIES = 5


def test_an_entitys_own_model_is_used_from_its_first_observation_on_though_there_is_one_for_all(
    broker: Broker, tmp_path: Path
) -> None:
    for_all = fleet_model().model_copy(update={"name": "for-all", "live_time": False})
    owners = {f"owner-{number}": f"model-{number}" for number in range(ENTITIES)}
    with stream(broker, unique_names(), tmp_path) as opened:
        worker = opened.worker()
        worker.module = "tests.streams.slow_definitions_worker"
        worker.start()
        opened.define([PositionSensor(sensor="position", standard_deviation=1.0), for_all])
        send(opened, "first")
        wait_for_models(opened, {"first": "for-all"})
        for entity, name in owners.items():
            opened.define([for_all.model_copy(update={"entity": entity, "name": name})])
            send(opened, entity)
        wait_for_models(opened, {"first": "for-all", **owners})


def send(opened: Stream, entity: str) -> None:
    seen = Observation(entity=entity, sensor="position", time=1.0, value=(1.0, 2.0))
    opened.observations.send_message(seen).result(30)


def wait_for_models(opened: Stream, names: dict[str, str]) -> None:
    """Until every entity has a posterior, whose model must be that."""

    def complete(records: list[Any]) -> Any:
        found = posteriors_of(records)
        return found if found.keys() >= names.keys() else None

    found = opened.posteriors.wait_for(complete, 60, f"posteriors of {sorted(names)}")
    assert {entity: taken[0].model for entity, taken in found.items()} == names
