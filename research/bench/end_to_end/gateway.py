"""Measures observations a second through the HTTP gateway on the embedded broker: one a request, and in batches."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import uvloop

from beliefstream.streams.kafka import topics
from beliefstream.streams.local.broker import EmbeddedBroker, free_port
from beliefstream.streams.settings import Settings
from beliefstream.streams.settings.addresses import Address
from research.bench.end_to_end.site import cpu_seconds, process, unprotected, wait_for

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
        gateway, sender: CPU seconds of an observation in the gateway and in this process.
    """

    connections: int
    batch: int
    sent: int
    per_second: float
    median: float
    slowest: float
    gateway: float
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
            gateway_address=Address("127.0.0.1", free_port()),
            gateway_rate=float("inf"),
            **unprotected(),
        )
        topics.create(settings.brokers, settings.names, partitions=settings.partitions)
        command, log = [sys.executable, "-m", "beliefstream.streams.cli", "gateway"], folder / "gateway.log"
        gateway = stack.enter_context(process(command, settings.environment(), log))
        wait_for(f"http://{settings.gateway_address}/readyz", gateway, log)
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        runner.run(_load(settings.gateway_address.port, gateway, 8, 10, 2000))  # warm up
        return [runner.run(_load(settings.gateway_address.port, gateway, *load)) for load in LOADS]


async def _load(
    port: int, gateway: subprocess.Popen[bytes], connections: int, batch: int, count: int
) -> Load:
    requests = count // (connections * batch)
    # made before the clock starts: the sender shares the cores with what it measures
    bodies = [[_request(number, batch, step) for step in range(requests)] for number in range(connections)]
    busy, own, began = cpu_seconds(gateway), time.process_time(), time.perf_counter()
    several = await asyncio.gather(*(_send(port, requests) for requests in bodies))
    seconds, own, busy = time.perf_counter() - began, time.process_time() - own, cpu_seconds(gateway) - busy
    waits = sorted(wait for each in several for wait in each)
    sent = requests * connections * batch
    return Load(
        connections,
        batch,
        sent,
        sent / seconds,
        waits[len(waits) // 2],
        waits[len(waits) * 99 // 100],
        busy / sent,
        own / sent,
    )


async def _send(port: int, requests: list[bytes]) -> list[float]:
    """Send requests on one connection, one after the other, and return how long each took."""
    waits = []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for request in requests:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(END)
            if not head.startswith(b"HTTP/1.1 202"):
                answer = head.partition(b"\r\n")[0].decode()
                raise RuntimeError(f"bench: the gateway answers {answer}")
            length = head.index(LENGTH) + len(LENGTH)
            await reader.readexactly(int(head[length : head.index(b"\r", length)]))
            waits.append(time.perf_counter() - began)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise RuntimeError(f"bench: the gateway has closed a connection: {error}") from error
    finally:
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
