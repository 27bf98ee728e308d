"""Posteriors by HTTP."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from beliefstream.schemas import Mixture, Posterior, parse
from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import Names, eventually
from tests.http_answers import PATIENCE
from tests.streams.bridges.running_gateway import RunningGateway, running
from tests.streams.client.topics import posterior, put

STREAMS = "beliefstream_gateway_streams"
LARGE = Mixture(  # 4.5 kB
    weights=(1 / 64,) * 64,
    means=[(number / 3, number / 7) for number in range(64)],
    covariances=[((1.5, 0.25), (0.25, 2.5))] * 64,
)


class Events:
    """A stream of server-sent events."""

    def __init__(self, gateway: RunningGateway, query: str = "", receive_buffer: int = 0) -> None:
        self._connection = HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE)
        if receive_buffer:
            self._connection.sock = socket.socket()
            self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self._connection.sock.connect(("127.0.0.1", gateway.port))
        self._connection.request("GET", f"/v1/posteriors{query}")
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.media = self._answer.headers["content-type"]

    def next(self) -> tuple[str, bytes]:
        """The name and the data of the next event."""
        name = ""
        while line := self._answer.readline():
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            elif line.startswith(b"data: "):
                return name, line[6:].strip()
        return "end", b""

    def posteriors(self, count: int) -> list[Posterior]:
        return [parse(Posterior, self.next()[1]) for _ in range(count)]

    def close(self) -> None:
        self._answer.close()
        self._connection.close()


@contextmanager
def following(gateway: RunningGateway, query: str = "", receive_buffer: int = 0) -> Iterator[Events]:
    before = gateway.metric(STREAMS)
    events = Events(gateway, query, receive_buffer)
    eventually(lambda: gateway.metric(STREAMS) == before + 1, PATIENCE, "the stream has begun")
    try:
        yield events
    finally:
        events.close()


def test_the_latest_posterior_of_an_entity_is_given_out(
    gateway: RunningGateway, topics: Names, raw: Any
) -> None:
    sent = [posterior(1, "a/b"), posterior(2, "a/b"), posterior(1, "other")]
    put(raw, topics.topics.posteriors, *sent)

    def latest() -> bool:
        answer = gateway.get("/v1/posteriors/a/b")
        return answer.status == 200 and parse(Posterior, answer.body) == sent[1]

    eventually(latest, PATIENCE, "the second posterior is the latest")
    assert gateway.get("/v1/posteriors/a%2Fb").json["sequence"] == 2
    assert gateway.get("/v1/posteriors/other").headers["content-type"] == "application/json"


def test_an_entity_without_a_posterior_is_404(gateway: RunningGateway) -> None:
    answer = gateway.get("/v1/posteriors/nobody")
    assert (answer.status, answer.json["error"]) == (404, "entity: no posterior of 'nobody' is kept")


def test_posteriors_are_streamed_to_all_who_follow(gateway: RunningGateway, topics: Names, raw: Any) -> None:
    with following(gateway) as one, following(gateway) as another:
        assert (one.status, one.media.partition(";")[0]) == (200, "text/event-stream")
        sent = [posterior(number, "streamed") for number in range(1, 6)]
        put(raw, topics.topics.posteriors, *sent)
        assert one.posteriors(5) == sent
        assert another.posteriors(5) == sent
    eventually(lambda: gateway.metric(STREAMS) == 0, PATIENCE, "the streams have ended")


def test_a_stream_has_only_the_entities_that_it_names(
    gateway: RunningGateway, topics: Names, raw: Any
) -> None:
    with following(gateway, "?entity=b&entity=c/1") as events:
        entities = ("a", "b", "c/1", "d", "b")
        put(raw, topics.topics.posteriors, *(posterior(n, each) for n, each in enumerate(entities, 50)))
        assert [each.entity for each in events.posteriors(3)] == ["b", "c/1", "b"]


def test_a_slow_client_loses_the_oldest_is_told_and_holds_nobody_up(
    gateway: RunningGateway, topics: Names, raw: Any
) -> None:
    dropped = gateway.metric("beliefstream_gateway_dropped_total")
    with following(gateway, "?entity=busy", 4096) as slow, following(gateway, "?entity=busy") as quick:
        count = 3_000  # some 13 MB, more than sockets keep
        for start in range(1, count, 100):
            part = [posterior(number, "busy", mixture=LARGE) for number in range(start, start + 100)]
            put(raw, topics.topics.posteriors, *part)
            assert quick.posteriors(100) == part
        eventually(
            lambda: gateway.metric("beliefstream_gateway_dropped_total") > dropped,
            PATIENCE,
            "some are dropped",
        )
        lost, seen = 0, list[int]()
        while not seen or seen[-1] < count:
            name, data = slow.next()
            if name == "dropped":
                lost += int(data.partition(b":")[2].strip(b"}"))
            else:
                seen.append(parse(Posterior, data).sequence)
        assert seen == sorted(seen)
        assert len(seen) + lost == count
        assert seen[-256:] == list(range(count - 255, count + 1))


def test_a_parameter_that_is_not_there_is_named(gateway: RunningGateway) -> None:
    answer = gateway.get("/v1/posteriors?entitty=a")
    assert answer.status == 400
    assert "entitty" in answer.json["error"]


def test_the_latest_posteriors_are_known_after_a_start_and_streams_have_only_new_ones(
    embedded_broker: EmbeddedNode, names: Names, raw: Any, folder: Path
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    put(raw, names.topics.posteriors, *(posterior(1, f"e{number}") for number in range(5)))
    with running(embedded_broker, names, folder, gateway_entities="3") as gateway:
        found = [gateway.get(f"/v1/posteriors/e{number}").status for number in range(5)]
        assert found == [404, 404, 200, 200, 200]  # three are kept
        with following(gateway) as events:
            put(raw, names.topics.posteriors, posterior(2, "e0"))
            assert [(each.entity, each.sequence) for each in events.posteriors(1)] == [("e0", 2)]
            gateway.process.terminate()
            assert events.next()[0] == "end"
        assert gateway.process.wait(PATIENCE) == 0
