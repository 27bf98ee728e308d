"""Measures the live page's server: processor time and memory, with viewers that draw every frame at once."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import uvloop

from beliefstream.schemas import Coordinate, Mixture, Posterior, Quality
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.settings import Settings
from research.bench.end_to_end.site import cpu_seconds, memory, process, unprotected, wait_for

RATE = 5.0  # posteriors of an entity a second
COMPONENTS = 8
VARIANTS = 4  # different posteriors of an entity, in turn
WARM_SECONDS = 10.0
START_SECONDS = 60.0
READING_SECONDS = 15.0
FETCH_OPTIONS = {
    "fetch_max_wait_ms": 80,
    "fetch_min_bytes": 4 << 20,
    "max_partition_fetch_bytes": 4 << 20,
}  # of the page
HEAD = struct.Struct("<IIdII")  # of a frame: the fourth number counts the entities
# of an entity: number, components, method, quality, time of the record, time
BLOCK = struct.Struct("<IHHfdd")
TIME = b'"time":0.125'  # what the time of a prepared posterior is put in place of
TIMED = 50  # entities of a frame, evenly over it, whose delay is measured
BATCH_BYTES = 1 << 18  # that small ones do not keep the embedded broker busy


@dataclass(frozen=True)
class LiveLoad:
    """What one number of viewers costs.

    Attributes:
        posteriors: a second, as they were sent.
        frames: a second, to each viewer.
        delay: median seconds from a posterior made to its frame received.
        cores: processor time of the server a second.
        begin, end: resident memory of the server in bytes, at the start and at the end.
    """

    viewers: int
    posteriors: float
    frames: float
    delay: float
    cores: float
    begin: int
    end: int


@dataclass(frozen=True)
class LiveFound:
    """What was measured.

    Attributes:
        loads: by the number of viewers.
        reading: processor time a second of a consumer that reads the same posteriors and decodes none.
    """

    loads: list[LiveLoad]
    reading: float


def measure_live(viewers: Sequence[int] = (1, 20), seconds: float = 30.0, entities: int = 1000) -> LiveFound:
    """Start a broker, the page and a sender, and measure for so many seconds with each number of viewers.

    Raises:
        RuntimeError: the page does not start, or sends no frame.
    """
    folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        settings = Settings(brokers=broker.bootstrap_servers, **unprotected())
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
        port, log = free_port(), folder / "page.log"
        command = [sys.executable, "-m", "beliefstream.streams.cli", "live", "--port", str(port)]
        server = stack.enter_context(process(command, settings.environment(), log))
        wait_for(f"http://127.0.0.1:{port}/", server, log)
        sent = stack.enter_context(_beside(_send, settings.brokers, settings.names.posteriors, entities))
        loads = [_measure(port, server, sent, count, seconds) for count in viewers]
        server.terminate()
        reading = min(seconds, READING_SECONDS)
        with _beside(
            _read, settings.brokers, settings.names.posteriors, settings.partitions, reading
        ) as found:
            return LiveFound(loads, found.get(timeout=START_SECONDS))


def _measure(port: int, server: subprocess.Popen[bytes], sent: Any, viewers: int, seconds: float) -> LiveLoad:
    with _beside(_view, port, viewers) as seen:
        time.sleep(WARM_SECONDS)
        while not seen.empty():
            seen.get()
        while not sent.empty():
            sent.get()
        begin, used, resident = time.monotonic(), cpu_seconds(server), memory(server)
        time.sleep(seconds)
        span, used = time.monotonic() - begin, cpu_seconds(server) - used
        delays = [seen.get() for _ in range(seen.qsize())]
        posteriors = sum(sent.get() for _ in range(sent.qsize()))
        if not delays:
            raise RuntimeError("bench: no frame came")
        return LiveLoad(
            viewers,
            posteriors / span,
            len(delays) / span / viewers,
            statistics.median(delays),
            used / span,
            resident,
            memory(server),
        )


@contextmanager
def _beside(work: Any, *arguments: Any) -> Iterator[Any]:
    """Run a function in a process of its own until the block ends; yields the queue that it puts numbers into."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=work, args=(*arguments, queue), daemon=True)
    child.start()
    try:
        yield queue
    finally:
        child.terminate()
        child.join()


def _send(servers: str, topic: str, entities: int, sent: Any) -> None:
    """Send posteriors of all entities, evenly over time; puts the number of those sent in each tenth of a second."""
    from kafka import KafkaProducer

    prepared = [_variants(f"e-{number}") for number in range(entities)]
    producer = KafkaProducer(bootstrap_servers=servers, linger_ms=20, batch_size=BATCH_BYTES)
    begin, count = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - begin) * RATE * entities)
        now = b'"time":' + str(time.time()).encode()
        for number in range(count, due):
            before, after = prepared[number % entities][number // entities % VARIANTS]
            producer.send(topic, key=f"e-{number % entities}".encode(), value=before + now + after)
        sent.put(due - count)
        count = due
        time.sleep(0.1)


def _variants(entity: str) -> list[tuple[bytes, bytes]]:
    """JSON of posteriors, divided where the time belongs."""
    drawn = np.random.default_rng(crc32(entity.encode()))
    found = []
    for _ in range(VARIANTS):
        square = drawn.normal(size=(COMPONENTS, 2, 2))
        posterior = Posterior(
            entity=entity,
            time=0.125,
            sequence=1,
            revision=0,
            coordinates=tuple(Coordinate(name=name, unit="m") for name in "xy"),
            mixture=Mixture(
                weights=(1 / COMPONENTS,) * COMPONENTS,
                means=drawn.normal(scale=50.0, size=(COMPONENTS, 2)).tolist(),
                covariances=(square @ square.transpose(0, 2, 1) + np.eye(2)).tolist(),
            ),
            quality=Quality(sample_efficiency=0.9, log_evidence=-1.0, p_value=0.5, method="transformer"),
            applied=("0:1",),
            prior_sequence=0,
            model="walker",
            model_version=1,
        )
        before, _, after = posterior.to_json().partition(TIME)
        found.append((before, after))
    return found


def _view(port: int, viewers: int, seen: Any) -> None:
    """Take frames and acknowledge each at once; puts the median delay of each."""

    async def look() -> None:
        from websockets.asyncio.client import connect

        async with connect(f"ws://127.0.0.1:{port}/ws", max_size=None, proxy=None) as socket:
            async for message in socket:
                if isinstance(message, bytes):
                    await socket.send(json.dumps({"type": "drawn"}))
                    if delays := _delays(message):
                        seen.put(statistics.median(delays))

    async def look_all() -> None:
        await asyncio.gather(*(look() for _ in range(viewers)))

    asyncio.run(look_all())


def _delays(frame: bytes) -> list[float]:
    now, place, made = time.time(), HEAD.size, []
    for _ in range(HEAD.unpack_from(frame)[3]):
        _, components, _, _, _, each = BLOCK.unpack_from(frame, place)
        place += BLOCK.size + 24 * components
        made.append(each)
    return [now - each for each in made[:: max(1, len(made) // TIMED)]]


def _read(servers: str, topic: str, partitions: int, seconds: float, found: Any) -> None:
    """Read the topic as the page does, and do nothing with it; puts the processor time a second."""

    async def read() -> None:
        from aiokafka import AIOKafkaConsumer, TopicPartition

        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, auto_offset_reset="latest", enable_auto_commit=False, **FETCH_OPTIONS
        )
        await consumer.start()
        consumer.assign([TopicPartition(topic, number) for number in range(partitions)])
        await consumer.seek_to_end()
        begin = used = 0.0
        for span in (1.0, seconds):  # the first is to get going
            begin, used = time.monotonic(), time.process_time()
            while time.monotonic() < begin + span:
                await consumer.getmany(timeout_ms=500)
        found.put((time.process_time() - used) / (time.monotonic() - begin))
        await consumer.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(read())
