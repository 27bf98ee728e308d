"""A real MQTT broker, Debian's mosquitto, and a bridge from it as a process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from beliefstream.streams.local.broker import GuardedProcess, free_port
from tests.brokers import Broker
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE, Answer, ask
from tests.streams.bridges.running_gateway import value_of
from tests.streams.cli.conftest import environment

PLACES = "/usr/sbin:/usr/local/sbin"  # where Debian and others put it
PATTERN = "sites/+/{entity}/{sensor}"


class Mosquitto:
    """An MQTT broker, which can be killed and started again; it keeps sessions in a file.

    Args:
        folder: of its files.
        options: further lines of its configuration.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.port = free_port()
        self._program = mosquitto_program()
        self._folder, self._configuration = folder, folder / "mosquitto.conf"
        self.configure(*options)
        self._process: GuardedProcess | None = None

    def configure(self, *options: str) -> None:
        """Have other options from the next start on."""
        folder = self._folder
        lines = [f"listener {self.port} 127.0.0.1", "persistence true", f"persistence_location {folder}/"]
        lines += ["autosave_on_changes true", "autosave_interval 1", *options]
        lines += [] if any(each.startswith("password_file") for each in options) else ["allow_anonymous true"]
        lines += ["user root"] if os.geteuid() == 0 else []
        self._configuration.write_text("\n".join(lines) + "\n")

    def start(self) -> Self:
        if self._process is not None:
            self._process.stop(5)  # killed before; this closes its pipes
        self._process = GuardedProcess([self._program, "-c", str(self._configuration)], grace=5)
        return self

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.stop(5)


def mosquitto_program() -> str:
    """The path of mosquitto; skips the test where it is missing."""
    path = shutil.which("mosquitto", path=f"{os.environ['PATH']}:{PLACES}")
    if path is None:
        pytest.skip("there is no MQTT broker `mosquitto` on this machine (Debian: apt-get install mosquitto)")
    return path


def messages(outcome: str) -> str:
    """The metric of observations with this outcome."""
    return f'beliefstream_bridge_messages_total{{bridge="mqtt",outcome="{outcome}",topic="observations"}}'


@contextmanager
def publishing(mosquitto: Mosquitto) -> Iterator[paho.Client]:
    """A client that is connected, and connects again by itself."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.reconnect_delay_set(1, 1)
    client.max_inflight_messages_set(200)
    connected = threading.Event()
    client.on_connect = lambda *_: connected.set()

    def connects() -> bool:
        try:
            client.connect("127.0.0.1", mosquitto.port)
        except OSError:
            return False
        return True

    eventually(connects, PATIENCE, "mosquitto listens")
    client.loop_start()
    assert connected.wait(PATIENCE)
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def publish(client: paho.Client, messages: Iterable[tuple[str, object]]) -> None:
    """Publish with QoS 1, bytes as they are and anything else as JSON; returns when the broker has all."""
    eventually(client.is_connected, PATIENCE, "the client is connected")  # again, where the broker was killed
    sent = [
        client.publish(topic, each if isinstance(each, bytes) else json.dumps(each), qos=1)
        for topic, each in messages
    ]
    for each in sent:
        each.wait_for_publish(PATIENCE)
        assert each.is_published()


class RunningBridge:
    """A bridge as a process."""

    def __init__(
        self, broker: Broker, names: Names, mosquitto: Mosquitto, folder: Path, **settings: str
    ) -> None:
        self._folder, self._log, self.web_port = folder, folder / "bridge.log", free_port()
        mapping = folder / "mapping.json"
        if not mapping.exists():
            mapping.write_text(json.dumps({"topics": [{"topic": PATTERN, "id": "id"}]}))
        self._variables = environment(broker.bootstrap_servers, names) | {
            "BELIEFSTREAM_MQTT_URL": f"mqtt://127.0.0.1:{mosquitto.port}",
            "BELIEFSTREAM_BRIDGE_ADDRESS": f"127.0.0.1:{self.web_port}",
            **{f"BELIEFSTREAM_{name.upper()}": value for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it is connected once more."""
        before = self.connections()
        command = [sys.executable, "-m", "beliefstream", "bridge", "mqtt", "mapping.json"]
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **self._variables},
                stdout=output,
                stderr=output,
                cwd=self._folder,
            )
        eventually(lambda: self.connections() > before, PATIENCE, "the bridge is connected")

    def connections(self) -> int:
        return self.log().count("connected to the MQTT broker")

    def get(self, path: str, **headers: str) -> Answer:
        """Ask the bridge's own pages."""
        return ask(urllib.request.Request(f"http://127.0.0.1:{self.web_port}{path}", headers=headers))

    def metric(self, name: str) -> float:
        """The value of a metric, by its whole name with labels."""
        return value_of(name, self.get("/metrics").body)

    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(PATIENCE) == 0, self.log()
        finally:
            self.kill()
