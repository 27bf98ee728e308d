"""Where the benchmarks of the stream run: brokers, the topics of one run, and the processes measured."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from beliefstream.streams.client import Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.connection import EMBEDDED_FETCH_MS
from beliefstream.streams.local.broker import free_port
from beliefstream.streams.local.simulated_fleet import Simulation
from beliefstream.streams.monitoring.scraping import Snapshot, answers
from beliefstream.streams.settings import PROTECTION, Settings
from beliefstream.streams.settings.addresses import Address
from beliefstream.streams.settings.topics import TOPICS

START_SECONDS = 120.0  # a worker that imports torch on a busy machine
METRICS_SECONDS = 30.0  # a worker with a backlog
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
        folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
        return Settings(
            **{
                "brokers": self.brokers,
                "application": name,
                "web_address": Address("127.0.0.1", free_port()),
                "fetch_high_watermark": self.is_embedded,
                "data_directory": folder / "data",
                "logs": "console",
                "topics": own,
                **unprotected(),
                **changes,
            }
        )


def unprotected() -> dict[str, Any]:
    """The settings of a Kafka without encryption and passwords, whatever the environment says."""
    return {field: Settings.model_fields[field].default for field in PROTECTION}


def define(settings: Settings, simulation: Simulation) -> None:
    """Create the topics, the model and the sensors."""
    topics.create(settings.brokers, settings.names, partitions=settings.partitions)
    with Registry(settings.brokers, settings.names.sensors, settings.names.models) as registry:
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


def wait_for(url: str, child: subprocess.Popen[bytes], log: Path, seconds: float = START_SECONDS) -> None:
    """Wait until the page of a process answers well.

    Raises:
        RuntimeError: the process has ended, or does not answer in time.
    """
    limit = time.monotonic() + seconds
    while not answers(url):
        if child.poll() is not None or time.monotonic() > limit:
            raise RuntimeError(f"bench: {url} does not answer; see {log}")
        time.sleep(0.05)


def wait_until_ready(settings: Settings, child: subprocess.Popen[bytes]) -> None:
    """Wait until the worker processes observations; raises RuntimeError if it does not."""
    wait_for(f"http://{settings.web_address}/readyz", child, log_of(settings))


def metrics(settings: Settings) -> Snapshot:
    """The worker's metrics; without samples if it does not answer."""
    url = f"http://{settings.web_address}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=METRICS_SECONDS) as answer:
            return Snapshot.of(answer.read().decode())
    except OSError:
        return Snapshot.of("")


def cpu_seconds(child: subprocess.Popen[bytes]) -> float:
    """CPU time of a running process."""
    times = psutil.Process(child.pid).cpu_times()
    return float(times.user + times.system)


def memory(child: subprocess.Popen[bytes]) -> int:
    """Resident memory of a running process, in bytes."""
    return int(psutil.Process(child.pid).memory_info().rss)
