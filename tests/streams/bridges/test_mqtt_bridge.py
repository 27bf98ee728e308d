"""From a real MQTT broker to Kafka."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from kafka import KafkaConsumer

from beliefstream.schemas import DeadLetter, Observation, parse
from beliefstream.streams.client import DeadLetterConsumer
from beliefstream.streams.kafka.topics import create
from tests.brokers import Broker, EmbeddedNode, KafkaNode
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE
from tests.streams.bridges.mosquitto import Mosquitto, RunningBridge, mosquitto_program, publish, publishing
from tests.streams.cli.conftest import (  # the fixture
    Run,
    assert_one_line,
    environment,
    run as run,
    set_environment,
)
from tests.streams.client.topics import records


def reading(number: int) -> tuple[str, dict[str, Any]]:
    return f"sites/north/e{number % 5}/gps", {
        "value": [number, 1],
        "time": 1769860800 + number,
        "id": f"m{number}",
    }


def observations(broker: Broker, names: Names, count: int) -> list[Observation]:
    return [parse(Observation, each.value) for each in records(broker, names.topics.observations, count)]


@pytest.fixture
def made(embedded_broker: EmbeddedNode, names: Names) -> Names:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    return names


def test_messages_become_observations_and_what_does_not_map_a_dead_letter(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path
) -> None:
    with (
        Mosquitto(tmp_path) as mosquitto,
        publishing(mosquitto) as client,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path),
    ):
        bad = ("sites/north/mower/gps", b"\xffnot json")
        publish(client, [reading(1), bad, ("elsewhere/x", b"1"), reading(2)])
        found = observations(embedded_broker, made, 2)
        assert {each.id: (each.entity, each.sensor, each.values) for each in found} == {
            "m1": ("e1", "gps", (1, 1)),
            "m2": ("e2", "gps", (2, 1)),
        }
        (record,) = records(embedded_broker, made.topics.dead_letters, 1)
    letter = DeadLetter.from_record(record.key, record.value, record.headers)
    assert (letter.reason, letter.topic, letter.mqtt_topic) == ("not_json", "mqtt", bad[0])
    assert letter.value == bad[1]
    assert ("beliefstream_mqtt_topic", b"sites/north/mower/gps") in record.headers
    with DeadLetterConsumer(
        embedded_broker.bootstrap_servers, made.topics.dead_letters, from_beginning=True, timeout=0
    ) as letters:
        assert [each.letter.mqtt_topic for each in letters] == [bad[0]]


def test_a_message_that_comes_twice_has_the_same_id(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path
) -> None:
    (tmp_path / "mapping.json").write_text('{"topics": [{"topic": "{entity}/{sensor}"}]}')
    with (
        Mosquitto(tmp_path) as mosquitto,
        publishing(mosquitto) as client,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path),
    ):
        payloads = [{"value": 1, "time": 1}, {"value": 1, "time": 1}, {"value": 1, "time": 2}]
        publish(client, [("a/b", each) for each in payloads])
        ids = [each.id for each in observations(embedded_broker, made, 3)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.chaos
def test_a_killed_bridge_loses_nothing(embedded_broker: EmbeddedNode, made: Names, tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as mosquitto, publishing(mosquitto) as client:
        bridge = RunningBridge(embedded_broker, made, mosquitto, tmp_path, mqtt_in_flight="20")
        with bridge:
            for start in range(0, 900, 300):
                publish(client, map(reading, range(start, start + 150)))
                bridge.kill()
                publish(client, map(reading, range(start + 150, start + 300)))  # kept for it
                bridge.start()
            assert_complete(embedded_broker, made, 900)


@pytest.mark.chaos
def test_a_killed_mqtt_broker_is_connected_to_again(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path
) -> None:
    with (
        Mosquitto(tmp_path) as mosquitto,
        publishing(mosquitto) as client,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path) as bridge,
    ):
        publish(client, map(reading, range(100)))
        assert_complete(embedded_broker, made, 100)
        mosquitto.kill()
        mosquitto.start()
        eventually(lambda: bridge.connections() == 2, PATIENCE, "it is connected again")
        publish(client, map(reading, range(100, 200)))
        assert_complete(embedded_broker, made, 200)


@pytest.mark.chaos
@pytest.mark.kafka
def test_a_killed_kafka_loses_nothing(names: Names, tmp_path: Path) -> None:
    with KafkaNode() as broker, Mosquitto(tmp_path) as mosquitto, publishing(mosquitto) as client:
        create(broker.bootstrap_servers, names.topics, partitions=3)
        with RunningBridge(broker, names, mosquitto, tmp_path, mqtt_in_flight="20"):
            publish(client, map(reading, range(100)))
            broker.kill()
            publish(client, map(reading, range(100, 300)))  # 20 wait in the bridge, the others at mosquitto
            broker.start()
            assert_complete(broker, names, 300)


def assert_complete(broker: Broker, names: Names, count: int) -> None:
    """All of the first readings are stored, some perhaps twice."""
    consumer = KafkaConsumer(
        names.topics.observations,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        group_id=None,
    )
    stored: set[str | None] = set()

    def complete() -> bool:
        for part in consumer.poll(timeout_ms=200).values():
            stored.update(parse(Observation, each.value).id for each in part)
        return stored >= {f"m{number}" for number in range(count)}

    try:
        eventually(complete, PATIENCE, "all are stored")
    finally:
        consumer.close()


def test_password_and_tls_are_used_and_a_wrong_one_is_named(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    mosquitto_program()
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "bridge", "right"], check=True)
    options = (
        f"password_file {passwords}",
        f"certfile {tmp_path}/certificate.pem",
        f"keyfile {tmp_path}/key.pem",
    )
    with Mosquitto(tmp_path, *options) as mosquitto:
        url = f"mqtts://bridge@127.0.0.1:{mosquitto.port}"
        secure = {"mqtt_url": url, "mqtt_ca_file": f"{tmp_path}/ca.pem"}
        with RunningBridge(embedded_broker, made, mosquitto, tmp_path, **secure, mqtt_password="right"):
            pass
        variables = {f"BELIEFSTREAM_{name.upper()}": value for name, value in secure.items()}
        set_environment(monkeypatch, environment(embedded_broker.bootstrap_servers, made) | variables)
        monkeypatch.setenv("BELIEFSTREAM_MQTT_PASSWORD", "wrong")
        result = run("bridge", "mqtt", "mapping.json")
        assert_one_line(result, f"127.0.0.1:{mosquitto.port}", "refuses the connection")


def test_a_wrong_mapping_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mapping.json").write_text(json.dumps({"topics": [{"topic": "a/{entity}"}]}))
    assert_one_line(run("bridge", "mqtt", "mapping.json"), "mapping.json", "sensor: {sensor}")
    assert_one_line(run("bridge", "mqtt", "nowhere.json"), "nowhere.json")
