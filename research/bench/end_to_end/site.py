"""Where the benchmarks of the stream run: brokers, the topics of one run, and the processes measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from beliefstream.streams.client import Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.connection import EMBEDDED_FETCH_MS
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.local.simulated_fleet import Simulation
from beliefstream.streams.settings import PROTECTION, TOPICS, Settings

__all__ = ["Site", "cpu_seconds", "page", "process", "samples", "wait_until_ready", "worker"]

START_SECONDS = 120.0  # a worker that imports torch on a busy machine
STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Site:
    """A broker to measure on.

    Attributes:
        name: in the tables and in the JSON, `embedded` or `kafka`.
        brokers: `host:port`.
    """

    name: str
    brokers: str

    @property
    def is_embedded(self) -> bool:
        return self.name == "embedded"

    @property
    def fetch_options(self) -> dict[str, Any]:
        """Options of a consumer that reads new records soon."""
        return {"fetch_max_wait_ms": EMBEDDED_FETCH_MS} if self.is_embedded else {}

    def settings(self, **changes: Any) -> Settings:
        """Settings of a worker with its own topics, and otherwise of this machine's environment."""
        name = f"bench-{uuid4().hex[:8]}"
        own = {topic: f"{name}-{topic.replace('_', '-')}" for topic in TOPICS}
        unprotected = {field: Settings.model_fields[field].default for field in PROTECTION}
        folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
        return Settings(
            **{
                "brokers": self.brokers,
                "application": name,
                "web_port": free_port(),
                "fetch_high_watermark": self.is_embedded,
                "data_directory": folder / "data",
                "logs": "console",
                **own,
                **unprotected,
                **changes,
            }
        )


def define(settings: Settings, simulation: Simulation) -> None:
    """Create the topics, the model and the sensors."""
    topics.create(settings.brokers, settings.names, partitions=settings.partitions)
    with Registry(settings.brokers, settings.sensors, settings.models) as registry:
        registry.set_model(simulation.model)
        for sensor in simulation.sensors:
            registry.set_sensor(sensor)


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process in the background, and end it on exit."""
    with log.open("ab") as output:
        child = subprocess.Popen(command, env={**os.environ, **environment}, stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()


@contextmanager
def worker(settings: Settings) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker in the background; its log is `log_of(settings)`."""
    command = [sys.executable, "-m", "beliefstream.streams.cli", "worker"]
    with process(command, settings.environment(), log_of(settings)) as child:
        yield child


def log_of(settings: Settings) -> Path:
    """The file of what the run's worker logs."""
    return settings.data_directory.parent / "worker.log"


def wait_until_ready(settings: Settings, child: subprocess.Popen[bytes]) -> None:
    """Wait until the worker processes observations.

    Raises:
        RuntimeError: it has ended, or is not ready in time.
    """
    limit = time.monotonic() + START_SECONDS
    while page(settings, "/readyz") is None:
        if child.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"bench: the worker is not ready; see {log_of(settings)}")
        time.sleep(0.05)


def page(settings: Settings, path: str) -> str | None:
    """Return a page of the worker; None unless it answers with status 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.web_port}{path}", timeout=30) as answer:
            content: bytes = answer.read()
            return content.decode()
    except (urllib.error.HTTPError, OSError):
        return None


def samples(settings: Settings) -> dict[str, float]:
    """The worker's metrics by name with their labels; empty if it does not answer."""
    lines = (page(settings, "/metrics") or "").splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def cpu_seconds(child: subprocess.Popen[bytes]) -> float | None:
    """CPU time of a running process; None where the system has no /proc."""
    try:
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))
