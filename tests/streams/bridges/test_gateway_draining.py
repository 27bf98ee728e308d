"""What a client sees of an answer that comes before the end of its body."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from starlette.types import Message, Receive, Scope, Send

from beliefstream.streams.bridges.gateway.middleware import Draining
from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import unique_names
from tests.http_answers import PATIENCE
from tests.streams.bridges.running_gateway import RunningGateway, running

TOKEN = "a-token-of-the-gateway"
LARGE = 12_000_000  # bytes; more than what the sockets of both sides take without being read


@pytest.fixture(scope="module")
def guarded(
    embedded_broker: EmbeddedNode, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    names, folder = unique_names(), tmp_path_factory.mktemp("gateway")
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    with running(embedded_broker, names, folder, gateway_token=TOKEN, gateway_body_bytes="5000") as gateway:
        yield gateway


def head(*lines: str, token: str = TOKEN) -> bytes:
    fixed = ("POST /v1/observations HTTP/1.1", "Host: gateway", f"Authorization: Bearer {token}")
    return "\r\n".join((*fixed, "Connection: close", *lines, "", "")).encode()


def ask(gateway: RunningGateway, *parts: bytes) -> bytes:
    """Send everything before reading anything, as simple clients do; returns all that is answered."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as connection:
        for part in parts:
            connection.sendall(part)
        with connection.makefile("rb") as answer:
            return answer.read()


@pytest.mark.parametrize(
    ("token", "media", "status"),
    [
        (TOKEN, "application/json", b"413"),
        ("wrong-token-of-the-gateway", "application/json", b"401"),
        (TOKEN, "text/csv", b"415"),
    ],
)
def test_a_large_body_that_is_refused_is_read_to_its_end(
    token: str, media: str, status: bytes, guarded: RunningGateway
) -> None:
    lines = (f"Content-Type: {media}", f"Content-Length: {LARGE}")
    answer = ask(guarded, head(*lines, token=token), bytes(LARGE))
    assert answer.startswith(b"HTTP/1.1 " + status)


def test_a_large_body_of_unknown_length_is_read_to_its_end(guarded: RunningGateway) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    answer = ask(guarded, head("Transfer-Encoding: chunked"), *[chunk] * 180, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"more than 5000 are not read" in answer


def test_a_client_that_asks_before_it_sends_need_not_send(guarded: RunningGateway) -> None:
    answer = ask(guarded, head(f"Content-Length: {LARGE}", "Expect: 100-continue"))
    assert answer.startswith(b"HTTP/1.1 413")


def test_a_connection_goes_on_after_a_refusal(guarded: RunningGateway) -> None:
    keeps = head(f"Content-Length: {LARGE}").replace(b"Connection: close\r\n", b"")
    answer = ask(guarded, keeps, bytes(LARGE), head("Content-Length: 2"), b"{}")
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"HTTP/1.1 400" in answer


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_body_without_end_is_cut_off() -> None:
    received = 0

    async def receive() -> Message:
        nonlocal received
        received += 10
        return {"type": "http.request", "body": bytes(10), "more_body": True}

    assert _headers_of_the_answer(receive, Draining(refuse, most=95)) == [(b"connection", b"close")]
    assert received == 100


def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert _headers_of_the_answer(receive, Draining(refuse, seconds=0.01)) == [(b"connection", b"close")]


def test_a_client_that_has_left_is_not_waited_for() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    assert _headers_of_the_answer(receive, Draining(refuse)) == []


def _headers_of_the_answer(receive: Receive, app: Draining) -> list[tuple[bytes, bytes]]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "headers": [(b"content-length", b"1000")]}
    asyncio.run(asyncio.wait_for(app(scope, receive, send), PATIENCE))
    assert [each["type"] for each in sent] == ["http.response.start", "http.response.body"]
    headers: list[tuple[bytes, bytes]] = sent[0]["headers"]
    return headers
