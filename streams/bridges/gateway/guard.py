"""Asks for the bearer token, and counts requests."""

from __future__ import annotations

from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beliefstream.streams.bridges.gateway import metrics
from beliefstream.streams.bridges.gateway.answers import problem
from beliefstream.streams.monitoring.bearer import CHALLENGE, may_read

OPEN = ("/healthz", "/readyz", "/openapi.json")
COUNTED = (*OPEN, "/metrics", "/v1/observations", "/v1/priors", "/v1/posteriors")
ENTITY = "/v1/posteriors/"


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
