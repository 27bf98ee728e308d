"""What a bridge does after a fault, and what it shows meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE
from tests.streams.bridges.mosquitto import Mosquitto, RunningBridge, messages, publish, publishing
from tests.streams.bridges.test_mqtt_bridge import assert_complete, reading
from tests.streams.cli.conftest import (
    Run,
    assert_one_line,
    environment,
    run as run,  # the fixture
    set_environment,
)

TOKEN = "a-token-of-the-bridge"
CONNECTED = 'beliefstream_bridge_connected{bridge="mqtt"}'


@pytest.fixture
def made(embedded_broker: EmbeddedNode, names: Names) -> Names:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    return names


def test_a_bridge_that_is_refused_later_tries_again_until_it_is_let_in(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path
) -> None:
    nobody = tmp_path / "nobody"
    nobody.touch(mode=0o600)
    with (
        Mosquitto(tmp_path) as mosquitto,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path) as bridge,
    ):
        with publishing(mosquitto) as client:
            publish(client, map(reading, range(50)))
            assert_complete(embedded_broker, made, 50)
            assert bridge.get("/readyz").status == 200
        mosquitto.kill()
        mosquitto.configure(f"password_file {nobody}")
        mosquitto.start()
        said = ("Not authorized", "the bridge connects again")
        eventually(lambda: all(each in bridge.log() for each in said), PATIENCE, "it has been refused")
        assert bridge.get("/readyz").status == 503
        assert bridge.get("/healthz").json == {"ok": True}
        mosquitto.kill()
        mosquitto.configure()
        mosquitto.start()
        eventually(lambda: bridge.get("/readyz").status == 200, PATIENCE, "it is connected again")
        with publishing(mosquitto) as client:
            publish(client, map(reading, range(50, 100)))
            assert_complete(embedded_broker, made, 100)
        assert bridge.metric('beliefstream_bridge_reconnects_total{bridge="mqtt"}') == 1


@pytest.mark.chaos
def test_a_bridge_without_kafka_is_not_ready(names: Names, tmp_path: Path) -> None:
    with EmbeddedNode() as broker, Mosquitto(tmp_path) as mosquitto:
        create(broker.bootstrap_servers, names.topics, partitions=3)
        with RunningBridge(broker, names, mosquitto, tmp_path) as bridge:
            assert bridge.get("/readyz").json == {"ready": True, "waiting_for": []}
            broker.stop()
            eventually(lambda: bridge.get("/readyz").status == 503, PATIENCE, "it is not ready")
            (fault,) = bridge.get("/readyz").json["waiting_for"]
            assert fault.startswith("no broker answers: ")
            assert bridge.get("/healthz").status == 200
            broker.start()
            create(broker.bootstrap_servers, names.topics, partitions=3)
            eventually(lambda: bridge.get("/readyz").status == 200, PATIENCE, "it is ready again")


def test_messages_are_counted(embedded_broker: EmbeddedNode, made: Names, tmp_path: Path) -> None:
    with (
        Mosquitto(tmp_path) as mosquitto,
        publishing(mosquitto) as client,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path) as bridge,
    ):
        bad = [("sites/north/mower/gps", b"{"), ("sites/north/mower/gps", b"[]")]
        publish(client, [*map(reading, range(5)), *bad])
        outcomes = [messages(outcome) for outcome in ("accepted", "rejected", "failed")]
        names = ['beliefstream_bridge_received_total{bridge="mqtt"}', *outcomes]
        names.append('beliefstream_bridge_reconnects_total{bridge="mqtt"}')

        def counted() -> list[float]:
            return [bridge.metric(name) for name in names]

        eventually(lambda: sum(counted()[1:3]) == 7, PATIENCE, "all are acknowledged")
        assert counted() == [7, 5, 2, 0, 0]
        assert 1 <= bridge.metric('beliefstream_bridge_acknowledge_seconds_count{bridge="mqtt"}') <= 7
        assert bridge.metric('beliefstream_bridge_in_flight_bytes{bridge="mqtt"}') == 0
        assert bridge.metric('beliefstream_bridge_broker_reachable{bridge="mqtt"}') == 1
        assert bridge.metric(CONNECTED) == 1
        assert bridge.metric("process_cpu_seconds_total") > 0
        mosquitto.kill()
        eventually(lambda: bridge.metric(CONNECTED) == 0, PATIENCE, "it has lost the broker")
        assert bridge.get("/readyz").json["waiting_for"] == [
            f"the MQTT broker at 127.0.0.1:{mosquitto.port} is not connected"
        ]


def test_metrics_ask_for_the_token_and_health_does_not(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path
) -> None:
    with (
        Mosquitto(tmp_path) as mosquitto,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path, web_token=TOKEN) as bridge,
    ):
        for given in ({}, {"Authorization": f"Bearer {TOKEN}x"}):
            refused = bridge.get("/metrics", **given)
            assert (refused.status, refused.json) == (401, {"error": "a bearer token is needed"})
            assert refused.headers["www-authenticate"].startswith("Bearer")
        assert bridge.get("/metrics", Authorization=f"Bearer {TOKEN}").status == 200
        assert [bridge.get(path).status for path in ("/healthz", "/readyz", "/nowhere")] == [200, 200, 404]


def test_a_port_in_use_is_named(
    embedded_broker: EmbeddedNode, made: Names, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Mosquitto(tmp_path) as mosquitto,
        RunningBridge(embedded_broker, made, mosquitto, tmp_path) as bridge,
    ):
        set_environment(monkeypatch, environment(embedded_broker.bootstrap_servers, made))
        monkeypatch.setenv("BELIEFSTREAM_BRIDGE_ADDRESS", f"127.0.0.1:{bridge.web_port}")
        result = run(
            "bridge", "mqtt", str(tmp_path / "mapping.json"), "--url", f"mqtt://127.0.0.1:{mosquitto.port}"
        )
        assert_one_line(result, f"127.0.0.1:{bridge.web_port}", "BELIEFSTREAM_BRIDGE_ADDRESS sets another")
