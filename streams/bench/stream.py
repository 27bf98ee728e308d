"""Measures the observations per second of one worker on the embedded broker, and of an agent that forwards them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kafka import KafkaConsumer

from beliefstream.schemas import Observation
from beliefstream.streams.client import ObservationProducer, Registry
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.local.simulated_fleet import simulate
from beliefstream.streams.settings import PROTECTION, Settings

LIMIT = 300.0  # seconds after which a run counts as failed


def prepare(settings: Settings, entities: int, reports: int) -> int:
    """Create topics, definitions and a backlog of about `entities` × `reports` observations; return their number."""
    topics.create(settings.brokers, settings.names, partitions=settings.partitions)
    simulation = simulate(entities=entities, duration=reports / 2, rate=2.0)
    registry = Registry(settings.brokers)
    registry.set_model(simulation.model)
    for sensor in simulation.sensors:
        registry.set_sensor(sensor)
    send(settings.brokers, simulation.observations)
    return len(simulation.observations)


def send(brokers: str, observations: list[Observation]) -> None:
    with ObservationProducer(brokers, linger_ms=20, batch_size=262144) as producer:
        for observation in observations:
            producer.send_message(observation)
        producer.flush(60)


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
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()


def rate(brokers: str, topic: str, expected: int, child: subprocess.Popen[bytes], log: Path) -> float:
    """Return the records per second that arrive on `topic`, without the first tenth of them."""
    consumer = KafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", group_id=None)
    consumer.subscribe([topic])
    received, began, started = 0, 0.0, 0
    limit = time.monotonic() + LIMIT
    try:
        while received < expected:
            if child.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"bench: {received} of {expected} records on {topic}; see {log}")
            received += sum(len(records) for records in consumer.poll(timeout_ms=200).values())
            if not started and received >= expected // 10:
                began, started = time.perf_counter(), received
        return (received - started) / (time.perf_counter() - began)
    finally:
        consumer.close()


def measure_stream(entities: int = 1000, reports: int = 20) -> tuple[float, float, int]:
    """Return the observations per second of the worker and of the echo agent, and the number of observations."""
    folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
    with EmbeddedBroker() as broker:
        settings = Settings(
            brokers=broker.bootstrap_servers,
            web_port=free_port(),
            fetch_high_watermark=True,
            data_directory=folder / "data",
            logs="console",
            **{name: Settings.model_fields[name].default for name in PROTECTION},
        )
        count = prepare(settings, entities, reports)
        names = settings.names
        echo = {
            "ECHO_APPLICATION": "echo",
            "ECHO_BROKER": settings.brokers,
            "ECHO_PARTITIONS": str(settings.partitions),
            "ECHO_SOURCE": names.observations,
            "ECHO_SINK": names.dead_letters,
        }
        log = folder / "echo.log"
        with process(
            [sys.executable, "-m", "beliefstream.streams.bench.echo_app", "worker"], echo, log
        ) as child:
            echoed = rate(settings.brokers, names.dead_letters, count, child, log)
        log = folder / "worker.log"
        command = [sys.executable, "-m", "beliefstream.streams.cli", "worker"]
        with process(command, settings.environment(), log) as child:
            fused = rate(settings.brokers, names.posteriors, count, child, log)
    return fused, echoed, count
