"""Measures the observations per second of one worker, and of a Faust agent that only forwards them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from beliefstream.streams.settings import Settings
from research.bench.end_to_end.site import (
    Site,
    cpu_seconds,
    define,
    log_of,
    metrics,
    process,
    wait_until_ready,
    worker,
)
from research.bench.end_to_end.workload import Workload, send

LIMIT = 300.0  # seconds after which a run counts as failed
# Between two looks at what the worker has counted, which take it 8 ms each. At the end they are more frequent, so that
# the last one comes soon after it.
POLL_SECONDS, LAST_POLL_SECONDS = 1.0, 0.1
NEARLY_ALL = 0.9


class Rate(NamedTuple):
    """How fast a process works on a backlog.

    Attributes:
        per_second: observations a second, from the first result to the last.
        cpu: processor seconds of the process for each observation in that time.
    """

    per_second: float
    cpu: float


class Throughput(NamedTuple):
    """What one workload gave on one broker.

    Attributes:
        echo: of an agent that forwards every observation.
        worker: of a worker, by the records that arrive on its topic of posteriors.
        own: observations a second as the worker counts them.
        observations: how many there were.
    """

    echo: Rate
    worker: Rate
    own: float
    observations: int

    @property
    def of_the_echo(self) -> float:
        """The worker's speed as a share of the agent's."""
        return self.own / self.echo.per_second

    @property
    def cpu_of_the_echo(self) -> float:
        """The agent's processor time for an observation as a share of the worker's."""
        return self.echo.cpu / max(self.worker.cpu, 1e-9)  # a clock tick may be longer than a small run


class _Counter:
    """Counts the records of a topic, from the moment at which the first one arrives."""

    def __init__(self, site: Site, topic: str, partitions: int) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=site.brokers, auto_offset_reset="earliest", group_id=None, **site.fetch_options
        )
        self._consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        self._consumer.poll(timeout_ms=0)  # connects, so that it does not begin after the first records
        self.received, self.first, self.began, self.ended = 0, 0, 0.0, 0.0

    def poll(self) -> None:
        """Count what has arrived, after waiting a little for it."""
        found = sum(len(records) for records in self._consumer.poll(timeout_ms=100).values())
        if found:
            self.ended = time.perf_counter()
            if not self.received:
                self.first, self.began = found, self.ended
            self.received += found

    @property
    def per_second(self) -> float:
        """Records a second since the first ones."""
        return (self.received - self.first) / max(self.ended - self.began, 1e-9)

    def close(self) -> None:
        self._consumer.close()


def measure_stream(site: Site, workload: Workload) -> Throughput:
    """Send the workload, let the agent and then a worker work it off, and measure both.

    Raises:
        RuntimeError: a process has ended, or has not finished in time.
    """
    settings = site.settings()
    define(settings, workload.simulation)
    send(settings, workload)
    count = len(workload.observations)
    echo = _measure_echo(site, settings, count)
    rate, own = _measure_worker(site, settings, workload)
    return Throughput(echo, rate, own, count)


def _measure_echo(site: Site, settings: Settings, count: int) -> Rate:
    environment = {
        "ECHO_APPLICATION": f"{settings.application}-echo",
        "ECHO_BROKER": settings.brokers,
        "ECHO_DATA": str(settings.data_directory.with_name("echo")),
        "ECHO_PARTITIONS": str(settings.partitions),
        "ECHO_SOURCE": settings.names.observations,
        "ECHO_SINK": settings.names.dead_letters,
    }
    log = log_of(settings).with_name("echo.log")
    command = [sys.executable, "-m", "research.bench.end_to_end.echo_app", "worker"]
    counter = _Counter(site, settings.names.dead_letters, settings.partitions)
    with process(command, environment, log) as child:
        return _watch(counter, child, str(log), lambda: counter.received >= count, count)


def _measure_worker(site: Site, settings: Settings, workload: Workload) -> tuple[Rate, float]:
    counter = _Counter(site, settings.names.posteriors, settings.partitions)
    count = len(workload.observations)
    marks: list[tuple[float, float]] = []  # when, and how many observations the worker has applied
    next_look = 0.0

    def is_done() -> bool:
        nonlocal next_look
        if (now := time.perf_counter()) >= next_look:
            next_look = now + (LAST_POLL_SECONDS if counter.received > NEARLY_ALL * count else POLL_SECONDS)
            applied = accepted(settings)
            if applied and (not marks or applied > marks[-1][1]):
                marks.append((time.perf_counter(), applied))
        return bool(marks) and marks[-1][1] >= count

    with worker(settings) as child:
        wait_until_ready(settings, child)
        rate = _watch(counter, child, str(log_of(settings)), is_done, count)
    return rate, rate_between(marks)


def accepted(settings: Settings) -> float:
    """How many observations the worker has applied."""
    return metrics(settings).by("beliefstream_observations_total", "outcome").get("accepted", 0.0)


def rate_between(marks: Sequence[tuple[float, float]]) -> float:
    """Observations a second between the first and the last of `marks`: when, and how many were applied by then.

    Raises:
        RuntimeError: there are fewer than two, because the workload was too small to be timed.
    """
    if len(marks) < 2:
        raise RuntimeError("bench: too few observations to be timed; take more --entities or --reports")
    (began, first), (ended, last) = marks[0], marks[-1]
    return (last - first) / (ended - began)


def _watch(
    counter: _Counter,
    child: subprocess.Popen[bytes],
    log: str,
    is_done: Callable[[], bool],
    count: int,
) -> Rate:
    """Count until everything is done; the processor time is that since the first record."""
    limit = time.monotonic() + LIMIT
    at_first = 0.0
    try:
        while not is_done():
            if child.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"bench: {counter.received} records for {count} observations; see {log}")
            counter.poll()
            if counter.received and not at_first:
                at_first = cpu_seconds(child)
        at_last = cpu_seconds(child)
    finally:
        counter.close()
    cpu = (at_last - at_first) / max(count - counter.first, 1)
    return Rate(counter.per_second, cpu)
