"""Runs `beliefstream gateway` as a process, and talks HTTP to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from beliefstream.streams.local.broker import free_port
from tests.brokers import Broker
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE, Answer, ask
from tests.streams.cli.conftest import environment

JSON = "application/json"
LINES = "application/x-ndjson"


class RunningGateway:
    """A gateway at its own port."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port, self.process, self._log = port, process, log

    def get(self, path: str, **headers: str) -> Answer:
        return ask(urllib.request.Request(self.url(path), headers=_named(headers)))

    def post(self, path: str, body: object, media: str = JSON, **headers: str) -> Answer:
        """Send bytes as they are, anything else as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": media, **_named(headers)}
        return ask(urllib.request.Request(self.url(path), data, all_headers))

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def metric(self, name: str) -> float:
        """The value of a metric, by its whole name with labels."""
        return value_of(name, self.get("/metrics").body)

    def log(self) -> str:
        return self._log.read_text()

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return self.get("/readyz").status == 200
        except OSError:
            return False


def value_of(name: str, page: bytes) -> float:
    """The value of a metric on a page of them, by its whole name with labels; 0 if it is not there."""
    lines = page.decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


@contextmanager
def running(broker: Broker, names: Names, folder: Path, **settings: str) -> Iterator[RunningGateway]:
    """A gateway that is ready; `settings` are variables without their prefix, in small letters."""
    port, log = free_port(), folder / "gateway.log"
    variables = environment(broker.bootstrap_servers, names) | {
        "BELIEFSTREAM_GATEWAY_ADDRESS": f"127.0.0.1:{port}",
        **{f"BELIEFSTREAM_{name.upper()}": value for name, value in settings.items()},
    }
    with log.open("ab") as output:
        command = [sys.executable, "-m", "beliefstream", "gateway"]
        process = subprocess.Popen(
            command, env={**os.environ, **variables}, stdout=output, stderr=output, cwd=folder
        )
    gateway = RunningGateway(port, process, log)
    try:
        eventually(gateway.is_ready, PATIENCE, "the gateway is ready")
        yield gateway
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()
            process.wait()


def observation(number: int = 0, entity: str = "mower", **changes: Any) -> dict[str, Any]:
    return {
        "entity": entity,
        "sensor": "gps",
        "time": 1769860800 + number,
        "value": [1, 2],
        "id": f"{entity}-{number}",
        **changes,
    }


def lines(*items: object) -> bytes:
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)
