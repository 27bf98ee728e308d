"""Measures observations a second through the HTTP gateway on the embedded broker: one a request, and in batches."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from beliefstream.streams.bench.site import process
from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.settings import PROTECTION, Settings

__all__ = ["Load", "measure_gateway"]

START_SECONDS = 60.0
LOADS = ((64, 1, 20_000), (8, 100, 100_000))  # connections, observations a request, observations


class Load(NamedTuple):
    """What one load gave.

    Attributes:
        connections: at once, each with one request under way.
        batch: observations a request.
        sent: observations; every one was acknowledged by the broker.
        per_second: observations a second.
        median, slowest: seconds of a request; the slowest of a hundred.
    """

    connections: int
    batch: int
    sent: int
    per_second: float
    median: float
    slowest: float


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
        stack.enter_context(process(command, settings.environment(), log))
        _wait_until_ready(settings.gateway_port, log)
        asyncio.run(_load(settings.gateway_port, 8, 10, 2000))  # warm up
        return [asyncio.run(_load(settings.gateway_port, *load)) for load in LOADS]


def _wait_until_ready(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz"):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"bench: the gateway is not ready; see {log}")


async def _load(port: int, connections: int, batch: int, count: int) -> Load:
    requests = count // (connections * batch)
    began = time.perf_counter()
    several = await asyncio.gather(*(_send(port, number, batch, requests) for number in range(connections)))
    seconds = time.perf_counter() - began
    waits = sorted(wait for each in several for wait in each)
    sent = requests * connections * batch
    return Load(
        connections, batch, sent, sent / seconds, waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    )


async def _send(port: int, number: int, batch: int, requests: int) -> list[float]:
    """Send requests on one connection, one after the other; returns how long each took."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    waits = []
    for step in range(requests):
        began = time.perf_counter()
        writer.write(_request(number, batch, step))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 202"):
            raise RuntimeError(f"bench: the gateway answers {head.splitlines()[0].decode()}")
        length = next(int(line[15:]) for line in head.splitlines() if line.startswith(b"content-length"))
        await reader.readexactly(length)
        waits.append(time.perf_counter() - began)
    writer.close()
    return waits


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
