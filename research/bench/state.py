"""Measures the cost of many beliefs in a worker: memory, disk, changelog and restart time."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaProducer

from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.tracking.timeline import Moment
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.record import BeliefRecord, StoredMessage, pack
from research.bench.end_to_end.site import Site, memory, metrics, process, wait_for

COORDINATES = ("x", "y", "vx", "vy")
RATE, WINDOW = (
    2.0,
    2.0,
)  # observations per second, and the lateness window in seconds; they determine the size of a record
TOGETHER = 2000  # records in flight to the broker at a time
LIMIT = 600.0  # seconds after which a start counts as failed


@dataclass(frozen=True)
class Start:
    """One start of a worker on the same changelog.

    Attributes:
        seconds: time from the start of the process until it is ready.
        recovery: time in which it restores the beliefs, in seconds.
        resident: memory of the ready process, in bytes.
        disk: size of its data directory, in bytes.
    """

    name: str
    seconds: float
    recovery: float
    resident: int
    disk: int


@dataclass(frozen=True)
class StateResult:
    """Results of the benchmark; sizes in bytes."""

    entities: int
    record: float  # mean size
    changelog: int  # keys and values as sent
    starts: Sequence[Start]


def belief(random: np.random.Generator, time_: float, components: int) -> Belief:
    size = len(COORDINATES)
    root = random.normal(size=(components, size, size))
    covariances = root @ root.transpose(0, 2, 1)
    weights = random.uniform(size=components)
    return Belief(time_, weights / weights.sum(), random.normal(size=(components, size)), covariances)


def record(random: np.random.Generator, name: str, components: int) -> bytes:
    """Build the record of an entity with a full history, with this number of components in every belief."""
    moments = round(RATE * WINDOW) + 1
    result = BeliefRecord.of(belief(random, 0.0, components), COORDINATES, sequence=1000)
    for number in range(1, moments + 1):
        at = number / RATE
        observation = f'{{"entity":"{name}","sensor":"radar-{number}","time":{at},"value":{random.normal()}}}'
        content = pack([StoredMessage(False, number, observation.encode())])
        result.past.moments.append(Moment(at, content, belief(random, at, components)))
        result.past.thin()
    result.last_emitted = moments / RATE
    return result.encode()


def records(count: int, components: int, partitions: int, changelog: str) -> Iterator[Record]:
    """Yield the changelog of `count` entities, as a worker would write it."""
    random = np.random.default_rng(0)
    for number in range(count):
        name = f"entity-{number}"
        partition = partition_of(name.encode(), partitions)
        yield Record(changelog, partition, name.encode(), record(random, name, components))


async def send(brokers: str, changelog: Iterable[Record]) -> int:
    """Send records in groups, and return their size in bytes."""
    size = 0
    async with AIOKafkaProducer(bootstrap_servers=brokers, acks="all", max_batch_size=262144) as producer:
        remaining = iter(changelog)
        while batch := list(islice(remaining, TOGETHER)):
            await send_all(producer, batch)
            size += sum(each.size for each in batch)
    return size


def start(name: str, settings: Settings, log: Path, entities: int) -> Start:
    """Start a worker, wait until it is ready with the beliefs of `entities` entities, and measure it."""
    began = time.perf_counter()
    with process(
        [sys.executable, "-m", "beliefstream.streams.cli", "worker"], settings.environment(), log
    ) as child:
        wait_for(f"http://{settings.web_address}/readyz", child, log, LIMIT)
        seconds = time.perf_counter() - began
        found = metrics(settings)
        if found.total("beliefstream_entities") != entities:
            raise RuntimeError(f"bench: the worker does not hold {entities} entities; see {log}")
        resident = memory(child)
    disk = sum(file.stat().st_size for file in settings.data_directory.rglob("*") if file.is_file())
    return Start(name, seconds, found.total("beliefstream_recovery_seconds"), resident, disk)


def measure_state(site: Site, entities: int, components: int = 8) -> StateResult:
    """Measure starts of a worker without beliefs, with them in memory, and with an empty and a full disk store."""
    folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
    empty, full = (
        site.settings(store="memory://", session_timeout=6.0, data_directory=folder / "none")
        for _ in range(2)
    )
    on_disk = full.model_copy(update={"store": "rocksdb://", "data_directory": folder / "disk"})
    for settings in (empty, full):
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
    changelog = records(entities, components, full.partitions, full.names.beliefs_changelog)
    size = asyncio.run(send(site.brokers, changelog))
    log = folder / "worker.log"
    starts = [
        start("no beliefs", empty, log, 0),
        start("memory://", full, log, entities),
        start("rocksdb://, empty", on_disk, log, entities),
        start("rocksdb://, warm", on_disk, log, entities),
    ]
    return StateResult(entities, size / entities, size, starts)
