"""Reads the rest of a request's body before the answer, so that the client sees the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beliefstream.streams.bridges.gateway import metrics
from beliefstream.streams.bridges.serving import problem
from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read

OPEN = ("/healthz", "/readyz", "/openapi.json")
COUNTED = (*OPEN, "/metrics", "/v1/observations", "/v1/priors", "/v1/posteriors")
ENTITY = "/v1/posteriors/"
MOST_BYTES = 32 * 1024 * 1024
SECONDS = 10.0


class Guard:
    """ASGI middleware: every path but `OPEN` needs the token, if there is one."""

    def __init__(self, app: ASGIApp, token: SecretStr | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        shown = path if path in COUNTED else f"{ENTITY}{{entity}}" if path.startswith(ENTITY) else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                metrics.REQUESTS.labels(shown, str(message["status"])).inc()
            await send(message)

        if path in OPEN or may_read(Headers(scope=scope).get("Authorization"), self._token):
            await self._app(scope, receive, counted)
            return
        refusal = problem(401, "a bearer token is needed", headers=CHALLENGE)
        await refusal(scope, receive, counted)


class Draining:
    """ASGI middleware that discards what is left of a body when the answer begins.

    A server that answers and closes while the client still sends makes the client see a broken pipe instead (RFC
    9112, section 9.6). A body of more than `most` bytes, or one that takes more than `seconds`, is cut off after the
    answer. A client that waits for `100 Continue` is answered at once, and sends no body.
    """

    def __init__(self, app: ASGIApp, most: int = MOST_BYTES, seconds: float = SECONDS) -> None:
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        more = "content-length" in headers or "transfer-encoding" in headers
        waits = headers.get("expect", "").lower() == "100-continue"

        async def received() -> Message:
            nonlocal more, waits
            waits = False  # the server has told it to continue
            message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start" and more:
                await self._discard(received, lambda: more and not waits)
                if more:
                    message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, received, sent)

    async def _discard(self, received: Receive, more: Callable[[], bool]) -> None:
        size = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(self._seconds):
                while more() and size < self._most:
                    size += len((await received()).get("body", b""))
