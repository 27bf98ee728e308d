"""Token, limits and the pages that say how a gateway is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from beliefstream.streams.bridges.gateway.bodies import RateLimit
from beliefstream.streams.bridges.gateway.openapi import document
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.settings import Settings
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.bridges.running_gateway import LINES, RunningGateway, lines, observation, running
from tests.streams.cli.conftest import (
    NOBODY,
    Run,
    assert_one_line,
    run as run,  # the fixture
)

TOKEN = "a-token-of-the-gateway"


def test_pages_say_that_it_lives_and_is_ready(gateway: RunningGateway) -> None:
    assert gateway.get("/healthz").json == {"ok": True}
    assert gateway.get("/readyz").json == {"ready": True, "waiting_for": []}
    assert gateway.get("/nowhere").status == 404
    assert "/nowhere" in gateway.get("/nowhere").json["error"]
    assert gateway.get("/v1/observations").status == 405
    assert gateway.metric('beliefstream_gateway_requests_total{path="other",status="404"}') >= 2


def test_the_document_has_the_messages_and_every_path(gateway: RunningGateway) -> None:
    found = gateway.get("/openapi.json").json
    assert found == json.loads(json.dumps(document(Settings())))
    assert found["openapi"] == "3.1.0"
    assert {"Observation", "Prior", "Posterior", "Mixture"} <= found["components"]["schemas"].keys()
    names = {place.rpartition("/")[2] for place in _references(found)}
    assert names <= found["components"]["schemas"].keys()
    assert "security" not in found
    assert document(Settings(gateway_token=SecretStr(TOKEN)))["security"] == [{"bearer": []}]


def _references(part: object) -> set[str]:
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*map(_references, part.values()))
    return set().union(*map(_references, part)) if isinstance(part, list) else set()


def test_limits_are_kept_and_a_token_is_asked_for(
    embedded_broker: EmbeddedNode, names: Names, tmp_path: Path
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    settings = {"gateway_token": TOKEN, "gateway_body_bytes": "5000", "gateway_rate": "40"}
    with running(embedded_broker, names, tmp_path, **settings) as gateway:
        _asks_for_the_token(gateway)
        _refuses_what_is_too_large(gateway)
        _slows_down_who_sends_too_much(gateway)


def _asks_for_the_token(gateway: RunningGateway) -> None:
    for path in ("/v1/posteriors/mower", "/v1/posteriors", "/metrics", "/nowhere"):
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}x"}, {"Authorization": f"Basic {TOKEN}"}):
            answer = gateway.get(path, **headers)
            assert (answer.status, answer.json) == (401, {"error": "a bearer token is needed"})
            assert answer.headers["www-authenticate"].startswith("Bearer")
    assert gateway.post("/v1/observations", observation()).status == 401
    assert gateway.get("/healthz").status == gateway.get("/openapi.json").status == 200
    assert gateway.get("/v1/posteriors/mower", Authorization=f"Bearer {TOKEN}").status == 404
    assert TOKEN not in gateway.log()


def _refuses_what_is_too_large(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/observations", b" " * 5001, Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.json["reason"]) == (413, "too_large")
    assert "5001 bytes, more than 5000" in answer.json["error"]


def _slows_down_who_sends_too_much(gateway: RunningGateway) -> None:
    # of 40 a second: the second batch is still admitted, and what it takes too much is back within a second
    batch = lines(*(observation(number) for number in range(39)))
    assert gateway.post("/v1/observations", batch, LINES, Authorization=f"Bearer {TOKEN}").status == 202
    assert gateway.post("/v1/observations", batch, LINES, Authorization=f"Bearer {TOKEN}").status == 202
    answer = gateway.post("/v1/observations", observation(), Authorization=f"Bearer {TOKEN}")
    assert (answer.status, answer.headers["retry-after"]) == (429, "1")


def test_too_many_messages_at_once_are_413(gateway: RunningGateway) -> None:
    answer = gateway.post("/v1/observations", b"1\n" * 10_001, LINES)
    assert answer.status == 413
    assert "10001 messages, more than 10000" in answer.json["error"]


def test_an_address_that_has_sent_more_than_its_rate_waits_for_what_it_took() -> None:
    now = 0.0
    limit = RateLimit(10, lambda: now)
    limit.spend("a", 9)
    assert limit.wait("a") == 0
    limit.spend("a", 21)
    assert limit.wait("a") == pytest.approx(2.1)
    assert limit.wait("b") == 0
    now = 2.2
    assert limit.wait("a") == 0
    now = 100.0
    limit.spend("a", 10)  # no more than a second's worth is saved
    assert limit.wait("a") > 0


def test_any_rate_may_be_allowed() -> None:
    limit = RateLimit(float("inf"))
    for _ in range(10):
        limit.spend("a", 1_000_000)
        assert limit.wait("a") == 0


def test_a_short_token_is_refused_at_the_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_GATEWAY_TOKEN", "short")
    result = run("gateway", "--port", "0")
    assert_one_line(result, "BELIEFSTREAM_GATEWAY_TOKEN: expected 16 to 512 of the characters")
    assert "short" not in result.err


def test_a_gateway_for_others_wants_a_token_or_to_be_told_that_it_needs_none(run: Run) -> None:
    assert_one_line(run("gateway", "--host", "0.0.0.0"), "--host 0.0.0.0", "TOKEN_FILE", "--no-token")
    assert_one_line(run("gateway", "--host", "0.0.0.0", "--port", "0", "--no-token"), NOBODY)


def test_a_port_in_use_is_named(run: Run, gateway: RunningGateway) -> None:
    assert_one_line(run("gateway", "--port", str(gateway.port)), f"127.0.0.1:{gateway.port}", "--port")
