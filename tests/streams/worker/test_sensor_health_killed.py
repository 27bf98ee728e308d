"""A biased sensor among healthy ones is found by real workers, and kills in mid-stream change no figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from beliefstream.inference.tracking.health.windows import Window, merged
from beliefstream.schemas import (
    ConstantVelocity,
    Coordinate,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    SensorHealth,
    cloudevents,
    parse,
)
from beliefstream.streams.client.sensor_health import read_sensor_health
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.local.offline_log import Log
from beliefstream.streams.state.sensor_records import NEWEST, WHOLE, load
from research.recordings.health import judge
from tests.brokers import KafkaNode
from tests.chaos.actors import AimedWorker
from tests.conftest import Names, eventually
from tests.streams.cli.conftest import environment
from tests.streams.oracle import updater
from tests.streams.workers import PARTITIONS, START_TIMEOUT, Stream, stream

WAIT = 60.0  # seconds
WINDOW = 640.0  # seconds: blocks of 2.5 s
FAULTY, BIAS, STATED = "gps-3", 1.5, 1.0
SENSORS = [PositionSensor(sensor=f"gps-{number}", standard_deviation=STATED) for number in range(5)]
MODEL = Model(
    entity="*",
    name="cart",
    motion=ConstantVelocity(positions=("x", "y"), velocities=("vx", "vy"), spectral_density=0.005),
    coordinates=tuple(
        Coordinate(name=name, unit=unit)
        for name, unit in (("x", "m"), ("y", "m"), ("vx", "m/s"), ("vy", "m/s"))
    ),
    prior=Mixture.gaussian((0.0, 0.0, 0.0, 0.0), standard_deviations=(20.0, 20.0, 1.0, 1.0)),
)
POINTS = ("computed", "posteriors sent", "sending beliefs", "beliefs sent")


def observations(ticks: int = 120, entities: int = 8) -> list[Observation]:
    """Carts that roll straight on, seen each second by one of the sensors in turn."""
    random = np.random.default_rng(11)
    states = random.normal(size=(entities, 4)) * (20.0, 20.0, 1.0, 1.0)
    found = []
    for tick in range(ticks):
        for number, state in enumerate(states):
            sensor = SENSORS[(tick + number) % len(SENSORS)].sensor
            value = state[:2] + tick * state[2:] + STATED * random.normal(size=2)
            value = value + (BIAS if sensor == FAULTY else 0.0)
            entity, identity = f"cart-{number}", f"o-{tick}-{number}"
            time = 1e9 + tick + 0.05 * number
            found.append(
                Observation(entity=entity, sensor=sensor, time=time, value=tuple(value), id=identity)
            )
    return found


def expected(seen: list[Observation]) -> dict[str, Window]:
    """The sums of one process that reads everything in order of time."""
    log = Log()
    log.define_model(MODEL)
    for sensor in SENSORS:
        log.define_sensor(sensor)
    for each in seen:
        log.add(each.to_json())
    return judge(log, updater(), WINDOW)


def stored(opened: Stream) -> dict[str, Window]:
    """The sums in the changelog, over all partitions."""
    with TopicReader(opened.broker.bootstrap_servers, opened.names.topics.beliefs_changelog, {}) as reader:
        entries = {(record.partition, record.key): record.value for record in reader.read_all(WAIT)}
    windows = defaultdict(list)
    for (partition, key), raw in entries.items():
        if key.startswith(WHOLE):
            place, name = key.removeprefix(WHOLE).split(b"-", 1)
            assert int(place) == partition
            record = load(raw, entries.get((partition, NEWEST + place + b"-" + name)))
            assert record is not None
            windows[name.decode()].append(record.window)
    return {sensor: merged(several) for sensor, several in windows.items()}


def send(opened: Stream, seen: list[Observation]) -> None:
    for each in seen:
        opened.observations.send_message(each)
    opened.observations.flush()


def wait_until_committed(opened: Stream, count: int) -> None:
    topic = opened.names.topics.observations
    eventually(
        lambda: sum(opened.committed(topic, partition) for partition in range(PARTITIONS)) == count,
        WAIT,
        f"{count} observations are acknowledged",
    )


@pytest.mark.chaos
@pytest.mark.kafka
def test_a_biased_sensor_is_found_and_kills_at_every_point_change_no_figure(
    kafka_broker: KafkaNode, names: Names, tmp_path: Path
) -> None:
    seen = observations()
    settings: dict[str, Any] = {"batch": 64, "health_window": WINDOW}
    with stream(kafka_broker, names, tmp_path) as opened:
        opened.define([MODEL, *SENSORS])
        parts = [seen[start : start + 192] for start in range(0, len(seen), 192)]
        for point, part in zip(POINTS, parts, strict=False):
            send(opened, part)
            aimed = AimedWorker(kafka_broker, names, tmp_path, aim=f"{point}:2:kill", **settings).launch()
            try:
                aimed.wait_until_ended(START_TIMEOUT + WAIT)
            finally:
                aimed.stop()
            assert aimed.kept_appointment, aimed.log()[-3000:]
        for part in parts[len(POINTS) :]:
            send(opened, part)
        worker = opened.worker(**settings).start()
        wait_until_committed(opened, len(seen))

        found = stored(opened)
        assert found.keys() == {sensor.sensor for sensor in SENSORS}
        for sensor, window in expected(seen).items():
            np.testing.assert_allclose(
                found[sensor].total(), window.total(), rtol=1e-6, atol=1e-6, err_msg=sensor
            )
        check_topic(opened)
        shown = worker.metrics()
        assert shown[f"beliefstream_sensor_faulty/{FAULTY}/biased"] == 1
        assert (
            sum(value for name, value in shown.items() if name.startswith("beliefstream_sensor_faulty")) == 1
        )
        check_commands(opened)


def check_topic(opened: Stream) -> None:
    """The verdicts, and the headers of their messages."""
    servers, topic = opened.broker.bootstrap_servers, opened.names.topics.sensor_health
    states = read_sensor_health(servers, topic)
    verdicts = {sensor: state.assessment.verdict for sensor, state in states.items()}
    assert verdicts.pop(FAULTY) == "biased"
    assert set(verdicts.values()) <= {"healthy", "unclear"}
    assert list(verdicts.values()).count("healthy") >= 2
    for channel in states[FAULTY].assessment.channels:
        assert 0.5 * BIAS < channel.bias < 1.1 * BIAS
    with TopicReader(servers, topic, {}) as reader:
        records = reader.read_all(WAIT)
    for record in records:
        message = parse(SensorHealth, record.value)
        assert (record.key.decode(), record.partition) == (message.sensor, message.partition)
        assert cloudevents.parse(record.headers)["type"] == cloudevents.SENSOR_HEALTH


def check_commands(opened: Stream) -> None:
    """What people see, and the definition that is proposed."""
    variables = os.environ | environment(opened.broker.bootstrap_servers, opened.names)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "beliefstream", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)

    listed = run("sensors", "list", "--health", "--json")
    verdicts = {row["sensor"]: row["verdict"] for row in map(json.loads, listed.stdout.splitlines())}
    assert verdicts[FAULTY] == "biased"
    assert [name for name, verdict in verdicts.items() if verdict == "biased"] == [FAULTY]
    fitted = run("sensors", "correct", FAULTY)
    assert fitted.returncode == 0, fitted.stderr
    proposed = json.loads(fitted.stdout)
    assert 0.5 * BIAS < proposed["bias"] < 1.1 * BIAS
    assert "bias: off by" in fitted.stderr
    plain = run("sensors", "correct", "gps-1")
    assert json.loads(plain.stdout)["bias"] == pytest.approx(0.0, abs=0.4)
    assert run("sensors", "correct", "nobody").returncode == 1
