"""Measures observations a second through the HTTP gateway on the embedded broker: one a request, and in batches."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, cast

import uvloop

from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.settings import PROTECTION, Settings
from research.bench.end_to_end.site import cpu_seconds, process

__all__ = ["Load", "measure_gateway"]

START_SECONDS = 60.0
LOADS = ((64, 1, 20_000), (8, 100, 100_000))  # connections, observations a request, observations
END = b"\r\n\r\n"
LENGTH = b"content-length: "


class Load(NamedTuple):
    """What one load gave.

    Attributes:
        connections: at once, each with one request under way.
        batch: observations a request.
        sent: observations; every one was acknowledged by the broker.
        per_second: observations a second.
        median, slowest: seconds of a request; the slowest of a hundred.
        gateway, sender: CPU seconds of an observation in the gateway and in this process; the first is None where the
            system has no /proc.
    """

    connections: int
    batch: int
    sent: int
    per_second: float
    median: float
    slowest: float
    gateway: float | None
    sender: float


def measure_gateway() -> list[Load]:
    """Start broker and gateway, and send observations as fast as they are answered.

    Raises:
        RuntimeError: the gateway does not start, or does not answer 202.
    """
    folder = Path(tempfile.mkdtemp(prefix="beliefstream-bench-"))
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker())
        settings = Settings(
            brokers=broker.bootstrap_servers,
            gateway_port=free_port(),
            gateway_rate=float("inf"),
            **{name: Settings.model_fields[name].default for name in PROTECTION},
        )
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
        command, log = [sys.executable, "-m", "beliefstream.streams.cli", "gateway"], folder / "gateway.log"
        gateway = stack.enter_context(process(command, settings.environment(), log))
        _wait_until_ready(settings.gateway_port, log)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_load(settings.gateway_port, gateway, 8, 10, 2000))  # warm up
        return [runner.run(_load(settings.gateway_port, gateway, *load)) for load in LOADS]


def _wait_until_ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"bench: the gateway is not ready; see {log}")


async def _load(
    port: int, gateway: subprocess.Popen[bytes], connections: int, batch: int, count: int
) -> Load:
    requests = count // (connections * batch)
    # made before the clock starts: the sender shares the cores with what it measures
    bodies = [[_request(number, batch, step) for step in range(requests)] for number in range(connections)]
    loop = asyncio.get_running_loop()
    busy, own, began = cpu_seconds(gateway), time.process_time(), time.perf_counter()
    senders = [_Sender(each, loop.create_future()) for each in bodies]
    for sender in senders:
        await loop.create_connection(lambda sender=sender: sender, "127.0.0.1", port)  # type: ignore[misc]
    several = await asyncio.gather(*(sender.done for sender in senders))
    seconds, own, after = time.perf_counter() - began, time.process_time() - own, cpu_seconds(gateway)
    waits = sorted(wait for each in several for wait in each)
    sent = requests * connections * batch
    return Load(
        connections,
        batch,
        sent,
        sent / seconds,
        waits[len(waits) // 2],
        waits[len(waits) * 99 // 100],
        None if busy is None or after is None else (after - busy) / sent,
        own / sent,
    )


class _Sender(asyncio.Protocol):
    """Sends requests on one connection, one after the other; `done` gets how long each took."""

    def __init__(self, requests: list[bytes], done: asyncio.Future[list[float]]) -> None:
        self.done = done
        self._requests, self._next = requests, 0
        self._waits: list[float] = []
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head = self._received.find(END)
        if head < 0:
            return
        if not self._received.startswith(b"HTTP/1.1 202"):
            answer = self._received.partition(b"\r\n")[0].decode()
            self.done.set_exception(RuntimeError(f"bench: the gateway answers {answer}"))
            self._transport.abort()
            return
        length = self._received.index(LENGTH) + len(LENGTH)
        size = int(self._received[length : self._received.index(b"\r", length)])
        if len(self._received) < head + len(END) + size:
            return
        self._waits.append(time.perf_counter() - self._began)
        self._received = b""
        self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"bench: the gateway has closed a connection: {error}"))

    def _send(self) -> None:
        if self._next == len(self._requests):
            self.done.set_result(self._waits)
            self._transport.close()
            return
        self._began = time.perf_counter()
        self._transport.write(self._requests[self._next])
        self._next += 1


def _request(number: int, batch: int, step: int) -> bytes:
    items = [
        {
            "entity": f"entity-{number}-{each}",
            "sensor": "gps",
            "time": 1769860800.0 + step,
            "value": [1.5, 2.5],
            "id": f"{number}-{each}-{step}",
        }
        for each in range(batch)
    ]
    body = json.dumps(items if batch > 1 else items[0]).encode()
    head = f"POST /v1/observations HTTP/1.1\r\nHost: g\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body
