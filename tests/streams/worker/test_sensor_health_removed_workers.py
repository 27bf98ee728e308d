"""A real worker forgets the health of a removed sensor, so does a later one, and readers see it go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from beliefstream.schemas import Observation, PositionSensor, SensorHealth, parse
from beliefstream.streams.client.sensor_health import read_sensor_health
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.live.verdicts import SensorVerdicts
from beliefstream.streams.local.simulated_fleet import fleet_model
from beliefstream.streams.state.sensor_records import PREFIX, keys_of
from tests.brokers import Broker
from tests.conftest import eventually, unique_names
from tests.streams.cli.conftest import environment
from tests.streams.workers import PARTITIONS, Stream, posteriors_of, stream

WAIT = 60.0  # seconds
MODEL = fleet_model().model_copy(update={"live_time": False})
SENSORS = [PositionSensor(sensor=name, standard_deviation=1.0) for name in ("first", "second", "stays")]


class Reports:
    """Observations of one entity, sent one after the other."""

    def __init__(self, opened: Stream) -> None:
        self._opened, self.sent = opened, 0

    def send(self, sensor: str) -> None:
        """Returns when its posterior is there."""
        self.sent += 1
        seen = Observation(entity="cart", sensor=sensor, time=1e9 + self.sent, value=(1.0, 2.0))
        self._opened.observations.send_message(seen).result(WAIT)
        self._opened.posteriors.wait_for(
            lambda records: len(posteriors_of(records).get("cart", [])) >= self.sent, WAIT, "its posterior"
        )


def newest(opened: Stream, topic: str) -> dict[tuple[int, bytes], bytes | None]:
    with TopicReader(opened.broker.bootstrap_servers, topic, {}) as reader:
        return {(record.partition, record.key or b""): record.value for record in reader.read_all(WAIT)}


def summaries(opened: Stream) -> dict[str, bytes | None]:
    return {key.decode(): value for (_, key), value in newest(opened, topics(opened).sensor_health).items()}


def topics(opened: Stream) -> Any:
    return opened.names.topics


def remove_and_wait(opened: Stream, reports: Reports, sensor: str) -> None:
    """Until the topic says that it is gone, while another sensor goes on."""
    assert summaries(opened)[sensor] is not None
    opened.registry.remove_sensor(sensor)

    def is_gone() -> bool:
        reports.send("stays")
        return summaries(opened)[sensor] is None

    eventually(is_gone, WAIT, f"the health of {sensor} is forgotten")
    reports.send("stays")  # the changelog of the batch before is complete


def test_a_removed_sensor_leaves_the_topic_and_the_changelog_also_after_a_restart(
    broker: Broker, tmp_path: Path
) -> None:
    with stream(broker, unique_names(), tmp_path) as opened:
        opened.define([MODEL, *SENSORS])
        reports = Reports(opened)
        worker = opened.worker(store="rocksdb://", data_directory=tmp_path / "data").start()
        for sensor in ("first", "second", "stays"):
            reports.send(sensor)
        remove_and_wait(opened, reports, "first")
        worker.terminate()
        # this one reads all of the changelog, and has counted nothing of the sensor that is removed now
        worker = opened.worker().start()
        remove_and_wait(opened, reports, "second")

        entries = newest(opened, topics(opened).beliefs_changelog)
        (partition,) = {place for place, key in entries if key == b"cart"}
        for sensor in ("first", "second"):
            whole, part = keys_of(partition, sensor)
            assert entries[partition, whole] is entries[partition, part] is None
        kept = {key for (_, key), value in entries.items() if key.startswith(PREFIX) and value is not None}
        assert kept <= set(keys_of(partition, "stays"))
        assert worker.metrics()["beliefstream_entities"] == 1
        check_readers(opened)


def check_readers(opened: Stream) -> None:
    """Every reader of the topic shows the other sensor alone."""
    servers, topic = opened.broker.bootstrap_servers, topics(opened).sensor_health
    assert read_sensor_health(servers, topic).keys() == {"stays"}
    table = SensorVerdicts()
    table.add(newest(opened, topic))
    assert table._judge(table._new, {}).keys() == {"stays"}
    variables = os.environ | environment(servers, opened.names)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "beliefstream", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    listed = run("sensors", "list", "--health", "--json")
    assert [json.loads(line)["sensor"] for line in listed.stdout.splitlines()] == ["stays"], listed.stderr
    assert run("sensors", "correct", "first").returncode == 1
    doctor = run("doctor")
    assert "Traceback" not in doctor.stdout + doctor.stderr
    value = summaries(opened)["stays"]
    assert value is not None
    assert parse(SensorHealth, value).sensor == "stays"
    assert len(summaries(opened)) <= PARTITIONS * len(SENSORS)
