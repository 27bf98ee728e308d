"""What a worker does with a changelog that is there already: its own version is read, any other refused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import faust
import numpy as np
import pytest
from faust.types import TP

from beliefstream.inference.tracking.events import Belief, Event, instants
from beliefstream.inference.tracking.filtering import Step, advance
from beliefstream.schemas import Coordinate, Mixture, Model, Observation, PositionSensor, RandomWalk
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.state.record import VERSION, BeliefRecord
from beliefstream.streams.state.table import BeliefTable
from research.bench.state import records, send
from tests.brokers import KafkaNode
from tests.conftest import Names
from tests.streams.oracle import distance, updater
from tests.streams.workers import PARTITIONS, posteriors_of, stream

START_TIMEOUT = 90.0  # seconds
WAIT = 30.0  # seconds
NEWER = 99
MANY = 3000  # beliefs
SENSOR = PositionSensor(sensor="gps", standard_deviation=1.0)
MODEL = Model(
    entity="*",
    name="walker",
    motion=RandomWalk(spectral_density=1.0),
    coordinates=(Coordinate(name="x", unit="m"), Coordinate(name="y", unit="m")),
    prior=Mixture.gaussian((0, 0), standard_deviations=(100, 100)),
)
BELIEF = Belief(12.5, np.ones(1), np.array([[3.0, 4.0]]), np.array([[[2.0, 0.5], [0.5, 6.0]]]))
SEEN = Observation(entity="anna", sensor="gps", time=14.0, value=(2.0, 5.0), id="after")


def leave_behind(directory: Path, application: str, partition: int, stale: BeliefRecord) -> None:
    """A data directory from before the changelog topic was made again."""
    app = faust.App(application, broker="kafka://127.0.0.1:1", store="rocksdb://", Table=BeliefTable)

    async def topic() -> str:
        return "of the topic before"

    options = {"directory": directory / application, "topic_id": topic}
    table: Any = app.Table(
        "beliefs", key_type=bytes, value_type=bytes, partitions=PARTITIONS, options=options
    )
    place = TP(f"{application}-beliefs-changelog", partition)
    asyncio.run(table.store.on_rebalance({place}, set(), {place}))
    table.store.write(partition, {b"anna": stale.encode(), b"gone": stale.encode()}, 3)
    for database in table.store._databases.values():
        database.close()


@pytest.mark.kafka
def test_an_unknown_version_is_refused_and_its_own_is_gone_on_with(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path
) -> None:
    changelog = names.topics.beliefs_changelog
    with stream(kafka_broker, names, tmp_path) as opened:
        opened.define([SENSOR, MODEL])
        _, partition, _ = opened.send(
            changelog, b"anna", BeliefRecord.of(BELIEF, ("x", "y"), sequence=7).encode()
        )
        unknown = bytes([NEWER]) + BeliefRecord().encode()[1:]
        _, where, _ = opened.send(changelog, b"berta", unknown)

        many = records(MANY, 8, PARTITIONS, changelog)
        assert asyncio.run(send(kafka_broker.bootstrap_servers, many)) > 4000 * MANY

        refused = opened.worker().launch()
        assert refused.wait_until_ended(START_TIMEOUT) == 1
        lines = [line for line in refused.log().splitlines() if "version" in line]
        assert lines == [
            f"beliefstream: changelog: topic {changelog}, partition {where}, key 'berta': a record of version "
            f"{NEWER}, this program reads version {VERSION}. Start the version of Beliefstream that wrote "
            "it, or start again with another BELIEFSTREAM_APPLICATION."
        ]
        assert "Traceback" not in refused.log()

        opened.send(changelog, b"berta", None)
        stale = BeliefRecord.of(BELIEF, ("x", "y"), sequence=500)
        leave_behind(tmp_path / "beliefs", names.app_id, partition, stale)
        worker = opened.worker(store="rocksdb://", data_directory=tmp_path / "beliefs").start()
        assert worker.metrics()["beliefstream_entities"] == 1 + MANY
        assert "read again from the changelog" in worker.log()
        opened.observations.send_message(SEEN)
        (record,) = opened.posteriors.wait_for(lambda records: records, WAIT, "a posterior")
        assert worker.metrics()["beliefstream_entities"] == 1 + MANY

    ((posterior,),) = posteriors_of([record]).values()
    assert posterior.sequence == 8
    model = EntityModel(MODEL)
    seen = Event("anna", SEEN.time, reading=reading_of(SEEN, model.sensor(SENSOR)))
    (outcome,) = advance([Step(BELIEF, model.state, instants([seen])[0])], updater())
    assert distance(posterior.mixture, outcome) < 1e-8
