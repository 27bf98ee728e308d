"""Who may see the page and send priors: tokens and their sessions, origins, and the headers of every answer."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from beliefstream.streams.monitoring.bearer import LOOPBACK

log = structlog.get_logger(__name__)

COOKIE = "beliefstream_live"
SESSION_SECONDS = 12 * 3600.0
MAXIMUM_SESSIONS = 1000  # the oldest make room
REFUSED_SECONDS = 0.5  # the answer to a wrong token waits: guessing takes long
OPEN_PATHS = ("/login", "/app.css", "/icon.svg")  # without a session
POLICY = "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Session(NamedTuple):
    """What a cookie stands for."""

    ends: float  # by the monotonic clock
    may_write: bool


class Access:
    """Sessions of two tokens, and the hosts and origins that are served.

    Args:
        token: opens everything; without any token everybody on this machine is let in, and may do everything.
        origins: further origins at which a proxy serves the page, such as `https://maps.example.org`.
        read_token: opens the page to look only: no priors are taken.
    """

    def __init__(
        self, token: str | None = None, origins: Collection[str] = (), read_token: str | None = None
    ) -> None:
        self._tokens = [(each, each is token) for each in (token, read_token) if each is not None]
        self._origins = {origin.rstrip("/").lower() for origin in origins}
        self._hosts = {urlsplit(origin).netloc for origin in self._origins}
        self._sessions: dict[str, Session] = {}

    @property
    def needs_token(self) -> bool:
        """Whether there is a token."""
        return bool(self._tokens)

    def allows_host(self, connection: HTTPConnection) -> bool:
        """Whether the request names this machine: with a token any name will do.

        Without one, a page elsewhere could point its own name at 127.0.0.1 and would be of the same origin.
        """
        host = connection.headers.get("host", "").lower()
        return self.needs_token or host in self._hosts or urlsplit(f"//{host}").hostname in LOOPBACK

    def allows_origin(self, connection: HTTPConnection) -> bool:
        """Whether the request comes from the page itself, or not from a browser, which always names an origin."""
        origin = connection.headers.get("origin")
        if origin is None:
            return True
        return (
            origin.lower() in self._origins
            or urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower()
        )

    def session(self, connection: HTTPConnection) -> bool:
        """Whether the request has the cookie of a login that has not expired."""
        if not self.needs_token:
            return True
        return self._session(connection).ends > time.monotonic()

    def may_write(self, connection: HTTPConnection) -> bool:
        """Whether the request, of a session, may send priors."""
        return not self.needs_token or self._session(connection).may_write

    def _session(self, connection: HTTPConnection) -> Session:
        return self._sessions.get(connection.cookies.get(COOKIE, ""), Session(0.0, False))

    async def login(self, token: str, connection: HTTPConnection) -> Response:
        """Answer a login: a cookie and the way to the page, or 403."""
        client = connection.client.host if connection.client else ""
        rights = [may_write for each, may_write in self._tokens if _same(each, token)]
        if not rights:
            log.warning("login refused", client=client)
            await asyncio.sleep(REFUSED_SECONDS)
            return PlainTextResponse("The token is wrong.", 403)
        identifier = secrets.token_urlsafe(32)
        while len(self._sessions) >= MAXIMUM_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[identifier] = Session(time.monotonic() + SESSION_SECONDS, any(rights))
        log.info("login", client=client, may_write=any(rights))
        answer = RedirectResponse(".", 303)
        secure = any(origin.startswith("https:") for origin in self._origins)
        # without a path: that of the login, so that the page can live under one
        answer.set_cookie(COOKIE, identifier, path=None, secure=secure, httponly=True, samesite="strict")
        return answer


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


class Guard:
    """ASGI middleware that refuses what `access` does not allow, and sets the headers of every answer.

    Args:
        pictures: scheme and host from which the page may load pictures too.
    """

    def __init__(self, app: ASGIApp, access: Access, pictures: str = "") -> None:
        self._app, self._access = app, access
        policy = f"{POLICY}; img-src 'self' {pictures}" if pictures else POLICY
        self._headers = {**HEADERS, "Content-Security-Policy": policy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on or refuse a request."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        refusal = self._refusal(HTTPConnection(scope), scope)
        if scope["type"] == "websocket":
            if refusal is None:
                return await self._app(scope, receive, send)
            await receive()  # websocket.connect
            # refused before it was accepted: HTTP 403
            return await send({"type": "websocket.close", "code": 4403})

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, connection: HTTPConnection, scope: Scope) -> Response | None:
        changes = scope["type"] == "websocket" or scope["method"] not in ("GET", "HEAD")
        if not self._access.allows_host(connection):
            return PlainTextResponse("This name of the host is not served; --origin adds one.", 403)
        if changes and not self._access.allows_origin(connection):
            return PlainTextResponse("The request comes from a foreign page.", 403)
        if scope["path"] in OPEN_PATHS or self._access.session(connection):
            return None
        if scope["path"] == "/":
            return RedirectResponse("login", 303)
        return PlainTextResponse("Log in first.", 401)
