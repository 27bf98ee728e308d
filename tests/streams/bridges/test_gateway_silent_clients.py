"""Clients that lose their network in mid-request do not keep connections."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from beliefstream.streams.kafka.topics import create
from beliefstream.streams.settings import Settings
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.bridges.running_gateway import RunningGateway, observation, running

PATIENCE = 20.0  # seconds; the silence that is allowed is one
POST = b"POST /v1/observations HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"


def answer_to(gateway: RunningGateway, *parts: bytes) -> bytes:
    """All that the gateway sends until it closes the connection, to a client that sends these and then nothing."""
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE) as client:
        found = b""
        for part in parts:
            client.sendall(part)
        while some := client.recv(65536):
            found += some
        return found


def test_a_silent_client_loses_its_connection_and_is_told_why_in_a_body(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    with running(embedded_broker, names, tmp_path, gateway_silence="1") as gateway:
        assert answer_to(gateway) == b""
        assert answer_to(gateway, POST) == b""
        found = answer_to(gateway, POST + b"Content-Length: 100\r\n\r\n", b'{"entity": ')
        assert found.startswith(b"HTTP/1.1 408")
        assert b"body: nothing has come for 1 s, and it is not complete" in found
        first = b"GET /healthz HTTP/1.1\r\nHost: gateway\r\n\r\n"
        answered = answer_to(gateway, first, POST)
        assert answered.startswith(b"HTTP/1.1 200")
        assert answered.count(b"HTTP/1.1") == 1
        assert gateway.post("/v1/observations", observation()).status == 202


@pytest.mark.parametrize("silence", ["0", "-1"])
def test_silence_must_be_positive(silence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_GATEWAY_SILENCE", silence)
    with pytest.raises(ValueError, match="greater than 0"):
        Settings()
