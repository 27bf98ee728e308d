"""A live page in a thread of the test, on topics of its own, and a viewer that needs no browser."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from kafka import KafkaProducer
from numpy.typing import NDArray
from starlette.types import ASGIApp, Receive, Scope, Send
from websockets.sync.client import ClientConnection, connect

from beliefstream.schemas import Posterior
from beliefstream.streams.cli.setup import listen
from beliefstream.streams.client import PriorPublisher
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live.access import Access
from beliefstream.streams.live.beliefs import BLOCK, MAXIMUM_OBSERVATIONS, METHODS, Plane
from beliefstream.streams.live.content import Content
from beliefstream.streams.live.group import GroupReader
from beliefstream.streams.live.layers import Layers
from beliefstream.streams.live.reading import TopicsReader
from beliefstream.streams.live.server import LivePage, make_server
from beliefstream.streams.live.viewers import FRAME, MAGIC
from beliefstream.streams.settings.addresses import Address
from tests.conftest import eventually
from tests.http_answers import PATIENCE, ask


@dataclass
class Page:
    """A page that is served.

    Attributes:
        address: of the page, with a slash at its end.
        raw: a producer for what the topics shall have.
    """

    address: str
    topics: TopicNames
    raw: Any
    page: LivePage

    @property
    def socket(self) -> str:
        return self.address.replace("http", "ws") + "ws"

    def put(self, *posteriors: Posterior) -> None:
        for each in posteriors:
            self.raw.send(self.topics.posteriors, key=each.entity.encode(), value=each.to_json())
        self.raw.flush()

    def request(
        self, path: str = "", body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, Any]:
        """Status, text and headers of an answer; redirections are not followed."""
        request = urllib.request.Request(self.address + path, body, headers or {})
        answer = ask(request)
        return answer.status, answer.body.decode(), answer.headers

    def post_prior(self, headers: dict[str, str] | None = None, **fields: Any) -> tuple[int, dict[str, Any]]:
        status, text, _ = self.request("priors", json.dumps(fields).encode(), headers)
        return status, json.loads(text) if text.startswith("{") else {"text": text}


@contextmanager
def served(
    servers: str,
    topics: TopicNames,
    access: Access | None = None,
    plane: Plane | None = None,
    path: str = "/",
    layers: Layers | None = None,
) -> Iterator[Page]:
    """The page on a free port, until the block ends; under a path as a proxy has it."""
    listening = listen(Address("127.0.0.1", 0))
    raw = KafkaProducer(bootstrap_servers=servers)
    reader = TopicsReader(servers, topics, MAXIMUM_OBSERVATIONS)
    with listening, PriorPublisher(servers, topics.priors, observations=topics.observations) as publisher:
        application = topics.beliefs_changelog.removesuffix("-beliefs-changelog")
        group = GroupReader(servers, application, (topics.observations, topics.priors))
        broker = Reachability((topics.observations, topics.posteriors))
        page = LivePage(Content(broker, plane), reader, publisher, group, access or Access(), layers)
        server = make_server(page.app() if path == "/" else _under(path, page.app()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            eventually(lambda: server.started, PATIENCE, "the page is served")
            yield Page(f"http://127.0.0.1:{listening.getsockname()[1]}{path}", topics, raw, page)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
            raw.close()


def _under(path: str, app: ASGIApp) -> ASGIApp:
    """What a proxy does that removes the path."""

    async def pass_on(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            assert scope["path"].startswith(path)
            scope = {**scope, "path": "/" + scope["path"].removeprefix(path)}
        await app(scope, receive, send)

    return pass_on


@dataclass
class Shown:
    """An entity as a frame says it."""

    efficiency: float
    method: str
    stamp: float  # time of the record
    time: float
    components: NDArray[np.float32]  # (K, 6): weight, mean, covariance


@dataclass
class Browser:
    """A viewer: what it has been sent, and how many frames."""

    connection: ClientConnection
    entities: dict[str, Shown] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    samples: list[Any] = field(default_factory=list)
    frames: int = 0
    _names: dict[int, str] = field(default_factory=dict)

    def send(self, **message: Any) -> None:
        self.connection.send(json.dumps(message))

    def receive(self, timeout: float = PATIENCE, acknowledge: bool = True) -> None:
        """Take messages up to a frame, and acknowledge it; raises TimeoutError."""
        while isinstance(message := self.connection.recv(timeout), str):
            self._note(json.loads(message))
        self._frame(message)
        if acknowledge:
            self.send(type="drawn")

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Receive until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"no {what}: {self.notes}, {sorted(self.entities)}"
            self.receive()

    def wait_for(self, what: str) -> Any:
        """Receive until there is such a note, and return it."""
        self.wait_until(lambda: self.notes.get(what), what)
        return self.notes[what]

    def wait_for_entities(self, *names: str) -> None:
        self.wait_until(lambda: set(names) <= set(self.entities), "entity")

    def wait_for_time(self, name: str, time: float) -> None:
        self.wait_until(lambda: self.entities[name].time >= time, f"{name} at {time}")

    def _note(self, notes: dict[str, Any]) -> None:
        self._names.update({number: name for number, name, *_ in notes.pop("names", [])})
        self.samples += notes.get("details", {}).get("samples", [])
        self.notes.update(notes)

    def _frame(self, frame: bytes) -> None:
        magic, _, _, count, _ = FRAME.unpack_from(frame)
        assert magic == MAGIC
        place = FRAME.size
        for _ in range(count):
            number, components, method, efficiency, stamp, when = BLOCK.unpack_from(frame, place)
            place += BLOCK.size
            rows = np.frombuffer(frame, "<f4", 6 * components, place).reshape(components, 6)
            place += rows.nbytes
            self.entities[self._names[number]] = Shown(efficiency, METHODS[method], stamp, when, rows)
        assert place == len(frame)
        self.frames += 1


@contextmanager
def watched(page: Page, headers: dict[str, str] | None = None) -> Iterator[Browser]:
    """A viewer of the page."""
    with connect(page.socket, additional_headers=headers, proxy=None) as connection:
        yield Browser(connection)
