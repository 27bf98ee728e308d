"""Runs a bridge until SIGTERM, and serves its pages: /healthz, /readyz and /metrics, as a worker does."""

from __future__ import annotations

import asyncio
import math
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import SecretStr
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from beliefstream.schemas import printable
from beliefstream.streams.bridges.bridge import Bridge
from beliefstream.streams.bridges.metrics import REGISTRY
from beliefstream.streams.monitoring import logs
from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read

REPEATED_SECONDS = 5
T = TypeVar("T")

_Protocol: Any = AutoHTTPProtocol


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response with JSON."""
    return Response(to_json(content), status, headers, "application/json")


def problem(
    status: int, error: str, reason: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """A response that says in one line what is wrong, and in `reason` the reason from the closed list."""
    content = {"error": printable(error)} | ({"reason": reason} if reason else {})
    return answer(content, status, headers)


def application(
    bridge: Bridge, token: SecretStr | None, waiting_for: Callable[[], list[str]], *routes: Route
) -> Starlette:
    """The pages of a bridge, and its own routes.

    /metrics asks for the token, if there is one. The bridge is ready while it is `waiting_for` nothing, and a broker
    answers.
    """

    async def healthz(request: Request) -> Response:
        return answer({"ok": True})

    async def readyz(request: Request) -> Response:
        waits = [*waiting_for(), *([] if bridge.fault is None else [bridge.fault])]
        return answer({"ready": not waits, "waiting_for": waits}, 503 if waits else 200)

    async def metrics(request: Request) -> Response:
        if not may_read(request.headers.get("Authorization"), token):
            return problem(401, "a bearer token is needed", headers=CHALLENGE)
        bridge.show()
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    pages = [Route(f"/{page.__name__}", page, methods=["GET"]) for page in (healthz, readyz, metrics)]
    handlers: dict[Any, Any] = {HTTPException: _not_found, 500: _failed}
    return Starlette(routes=[*routes, *pages], exception_handlers=handlers)


async def _not_found(request: Request, error: HTTPException) -> Response:
    return problem(error.status_code, f"{request.url.path[:128]}: {error.detail}", headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return problem(500, "the bridge has failed; its log says why")


class Connection(_Protocol):  # type: ignore[misc]
    """A connection that ends if no request begins within `silence` seconds while none is answered.

    uvicorn limits the pause between two requests only. A device that loses its network before its first request, or
    within its headers, would keep a connection for ever. Fixed upstream when uvicorn has a limit for these too.
    """

    silence = math.inf
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, fault: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(fault)

    @property
    def _waits(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def _watch(self) -> None:
        if not self._waits:
            self._stop_timer()
        elif self._timer is None and self.silence < math.inf:
            self._timer = asyncio.get_running_loop().call_later(self.silence, self._end)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        if self._waits and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """Calls `stop` at SIGTERM: uvicorn would wait for the clients of streams to leave."""

    def __init__(self, config: uvicorn.Config, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at SIGTERM and SIGINT; uvicorn's own raises the signal again, and would end the process too early."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *caught: loop.call_soon_threadsafe(self.handle_exit, *caught))
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stop()
        super().handle_exit(sig, frame)


async def _write_repeated() -> None:
    logs.write_repeated()


async def serve(
    app: ASGIApp,
    listening: socket.socket,
    stop: Callable[[], None],
    source: Coroutine[Any, Any, None] | None = None,
    *,
    silence: float,
    grace: float,
) -> None:
    """Serve on a bound socket until SIGTERM or SIGINT, or until the source ends; raises what the source raises.

    Args:
        stop: called at the signal; ends streams and the source.
        source: runs beside the server until `stop` is called.
        silence: seconds after which a connection without a request is closed.
        grace: seconds for requests under way.
    """
    config = uvicorn.Config(
        app,
        http=type("Connection", (Connection,), {"silence": silence}),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        callback_notify=_write_repeated,
        timeout_notify=REPEATED_SECONDS,
        timeout_graceful_shutdown=int(grace),
    )
    server = _Server(config, stop)
    if source is None:
        await server.serve([listening])
        return
    running = asyncio.create_task(source)
    running.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await server.serve([listening])
    await running


def run(bridge: Coroutine[Any, Any, T]) -> T:
    """Run a bridge in an event loop: uvloop's, if it is installed, which answers a fifth more requests."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    with suppress(ImportError):
        from uvloop import new_event_loop

        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(bridge)
