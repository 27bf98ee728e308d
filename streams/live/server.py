"""The server of the live page: reads the topics, and serves the page, its frames and its priors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import structlog
import uvicorn
from aiokafka.errors import KafkaError
from kafka.errors import KafkaError as PublishingError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import ASGIApp
from starlette.websockets import WebSocket

from beliefstream.schemas import Unusable
from beliefstream.streams.client import BrokerUnavailable, PriorPublisher
from beliefstream.streams.kafka.reachability import Reachability
from beliefstream.streams.live.access import Access, Guard
from beliefstream.streams.live.beliefs import MAXIMUM_OBSERVATIONS, Plane
from beliefstream.streams.live.content import Content
from beliefstream.streams.live.group import GroupReader
from beliefstream.streams.live.layers import PICTURES, Layers
from beliefstream.streams.live.priors import PriorService
from beliefstream.streams.live.reading import TopicsReader
from beliefstream.streams.live.viewers import Viewer
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)

STATIC = Path(__file__).parent / "static"
MAXIMUM_BODY = 1_000_000  # bytes of a request
MAXIMUM_MESSAGE = 64 * 1024  # bytes that a browser may send on the WebSocket
MAXIMUM_VIEWERS = 100
RETRY_SECONDS = 1.0
COLLECT_SECONDS = 0.5  # until a first record has come
# Of what is read together only the newest posterior of an entity is decoded: with nobody there, few are.
IDLE_SECONDS = 0.5
JUDGE_SECONDS = 0.25  # between two looks whether there is something to judge
ASK_SECONDS = 5.0  # between two questions for the workers' group
# Records and beliefs have no cycles. By default the collector would look at the newest ones after every 700 of them.
COLLECT_AFTER = 50_000
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".gz": "application/gzip",
    **PICTURES,
}


class LivePage:
    """Keeps what is shown up to date, and answers what browsers ask for."""

    def __init__(
        self,
        content: Content,
        reader: TopicsReader,
        publisher: PriorPublisher,
        group: GroupReader,
        access: Access,
        layers: Layers | None = None,
    ) -> None:
        self.content, self._priors = content, PriorService(publisher, content.beliefs, content.overview)
        self._reader, self._group, self._access = reader, group, access
        self._layers = layers or Layers()
        self._viewers: set[Viewer] = set()

    async def follow(self) -> None:
        """Read until cancelled; a broker that is away is waited for."""
        while True:
            try:
                await self._reader.start()
                self.content.apply(await self._reader.collect(COLLECT_SECONDS))
            except (KafkaError, OSError) as error:
                log.warning("topics cannot be read, trying again", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)
            for viewer in self._viewers:
                viewer.tell()
            if not self._viewers:
                await asyncio.sleep(IDLE_SECONDS)

    async def judge(self) -> None:
        """Judge the sensors until cancelled, while somebody looks."""
        while True:
            if self._viewers:
                await self.content.overview.verdicts.judge()
            await asyncio.sleep(JUDGE_SECONDS)

    async def ask(self) -> None:
        """Ask for the workers' group until cancelled, while somebody looks."""
        try:
            while True:
                if self._viewers:
                    ends = dict(self._reader.ends)
                    self.content.overview.group = await asyncio.to_thread(self._group.read, ends)
                await asyncio.sleep(ASK_SECONDS if self._viewers else IDLE_SECONDS)
        finally:
            self._group.close()

    async def watch(self) -> None:
        """Ask until cancelled whether a broker answers."""
        await self.content.broker.watch(lambda: self._reader.client)

    async def view(self, websocket: WebSocket) -> None:
        """Serve one browser."""
        if len(self._viewers) >= MAXIMUM_VIEWERS:
            await websocket.close(1013, "too many viewers")
            return
        await websocket.accept()
        viewer = Viewer(websocket, self.content, self._access.may_write(websocket))
        self._viewers.add(viewer)
        try:
            await viewer.run()
        finally:
            self._viewers.discard(viewer)

    async def prior(self, request: Request) -> Response:
        """Publish the prior in the body."""
        if not self._access.may_write(request):
            return JSONResponse({"error": "This token is one to look only."}, 403)
        client = request.client.host if request.client else ""
        try:
            fields = json.loads(await body_of(request))
        except (ValueError, RecursionError):
            return JSONResponse({"error": "The body is not JSON, or too long."}, 400)
        try:
            return JSONResponse(await self._priors.publish(fields, client))
        except Unusable as error:
            return JSONResponse({"error": error.detail}, 400)
        except (BrokerUnavailable, PublishingError, TimeoutError) as error:
            return JSONResponse({"error": f"The broker has not acknowledged it. {error}"}, 503)

    async def layers(self, _: Request) -> Response:
        """Tell what the map shows below the beliefs."""
        return JSONResponse(self._layers.to_json())

    async def login(self, request: Request) -> Response:
        """Show the form, or check the token that it sends; a link may carry the token too."""
        if not self._access.needs_token:
            return RedirectResponse(".", 303)
        if request.method == "POST":
            try:
                form = parse_qs((await body_of(request)).decode(errors="replace"))
            except ValueError:
                form = {}
            return await self._access.login(form.get("token", [""])[0], request)
        if token := request.query_params.get("token"):
            return await self._access.login(token, request)
        return FileResponse(STATIC / "login.html", media_type="text/html")

    def app(self) -> ASGIApp:
        """The ASGI application."""

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            works = self.follow, self.judge, self.ask, self.watch
            tasks = [asyncio.create_task(each()) for each in works]
            for task in tasks:
                task.add_done_callback(_complain)
            yield
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)
            await self._reader.close()

        files = [
            Route("/" if path.name == "index.html" else f"/{path.name}", partial(_static, path))
            for path in sorted(STATIC.iterdir())
            if path.suffix in TYPES and path.name != "login.html"
        ]
        routes = [
            *files,
            Route("/layers", self.layers),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/priors", self.prior, methods=["POST"]),
            WebSocketRoute("/ws", self.view),
        ]
        if (plan := self._layers.floor_plan) is not None:
            routes.append(Route("/floor-plan", partial(_file, plan.image)))
        return Guard(Starlette(routes=routes, lifespan=lifespan), self._access, self._layers.host)


def _complain(task: asyncio.Task[None]) -> None:
    """Tell of an error that no viewer would see: the page would stand still."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("the page no longer follows the topics", exc_info=error)


async def _file(path: Path, request: Request) -> Response:
    return FileResponse(path, media_type=TYPES[path.suffix.lower()])


async def _static(path: Path, request: Request) -> Response:
    """A file that the browser may keep if it asks each time whether that is still the newest."""
    answer = FileResponse(path, stat_result=path.stat(), media_type=TYPES[path.suffix])
    answer.headers["Cache-Control"] = "no-cache"
    kept = StaticFiles().is_not_modified(answer.headers, request.headers)
    return NotModifiedResponse(answer.headers) if kept else answer


async def body_of(request: Request) -> bytes:
    """The request's body; raises ValueError if it is longer than MAXIMUM_BODY."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAXIMUM_BODY:
            raise ValueError("the body is too long")
    return bytes(body)


def make_server(app: ASGIApp) -> uvicorn.Server:
    """A server that logs only warnings, since the page logs what matters itself."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    configuration = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=MAXIMUM_MESSAGE,
        ws_per_message_deflate=False,  # it costs more processor time than it saves on a local network
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(configuration)


def serve(
    settings: Settings,
    listening: socket.socket,
    access: Access,
    plane: Plane | None,
    layers: Layers,
    connected: Callable[[], None],
) -> None:
    """Serve the page on that socket until SIGINT or SIGTERM; `connected` is called once the brokers have answered.

    Raises:
        BrokerUnavailable: no broker answers.
        TopicMissing: the broker lacks one of the topics.
    """
    options: dict[str, Any] = settings.client_options
    reader = TopicsReader(settings.brokers, settings.names, MAXIMUM_OBSERVATIONS, **options)
    with PriorPublisher(
        settings.brokers,
        settings.names.priors,
        observations=settings.names.observations,
        source="/beliefstream/live",
        **options,
    ) as publisher:
        connected()
        gc.freeze()
        gc.set_threshold(COLLECT_AFTER)
        read = (settings.names.observations, settings.names.priors)
        group = GroupReader(settings.brokers, settings.application, read, **options)
        broker = Reachability((settings.names.observations, settings.names.posteriors), name="the live page")
        page = LivePage(Content(broker, plane), reader, publisher, group, access, layers)
        make_server(page.app()).run(sockets=[listening])
