"""The gateway is measured on a real one, and an answer that is not 202 ends the measurement."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from research.bench.end_to_end import gateway
from research.bench.end_to_end.gateway import measure_gateway

pytest.importorskip("uvicorn")
REFUSAL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


def test_every_observation_is_answered_and_costs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "LOADS", ((4, 1, 200), (2, 10, 200)))
    loads = measure_gateway()
    assert [(load.connections, load.batch, load.sent) for load in loads] == [(4, 1, 200), (2, 10, 200)]
    for load in loads:
        assert load.per_second > 0
        assert 0 < load.median <= load.slowest
        assert load.sender > 0


@pytest.mark.parametrize(
    ("answer", "told"), [(REFUSAL, "answers HTTP/1.1 503"), (b"", "closed a connection")]
)
def test_an_answer_that_is_no_success_ends_it(answer: bytes, told: str) -> None:
    async def answering(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def measure() -> None:
        async with await asyncio.start_server(answering, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
                await gateway._load(port, process, 1, 1, 2)

    with pytest.raises(RuntimeError, match=told):
        asyncio.run(measure())
