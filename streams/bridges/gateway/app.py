"""The gateway as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from beliefstream.schemas import Observation, Prior, Unusable
from beliefstream.streams.bridges.bridge import Bridge
from beliefstream.streams.bridges.gateway.bodies import (
    JSON,
    LINES,
    RateLimit,
    Silent,
    read_body,
    read_messages,
    report,
    unavailable,
)
from beliefstream.streams.bridges.gateway.middleware import Draining, Guard
from beliefstream.streams.bridges.gateway.openapi import document
from beliefstream.streams.bridges.gateway.posteriors import Posteriors, Reader, Subscription
from beliefstream.streams.bridges.serving import answer, application, problem

MOST_STREAMS = 500  # clients that follow posteriors at once
MOST_ENTITIES = 1000  # that one stream may name
KEEP_ALIVE_SECONDS = 15.0  # proxies end a connection that is silent for longer, often after 30 s
READING = "the posteriors of the last hours are still being read"


class Gateway:
    """The endpoints; `app` is the ASGI application."""

    def __init__(self, bridge: Bridge, posteriors: Posteriors, reader: Reader) -> None:
        self._bridge, self._settings = bridge, bridge.settings
        self._posteriors, self._reader = posteriors, reader
        self._limit = RateLimit(self._settings.gateway_rate)
        self._document = document(self._settings)
        routes = [
            Route("/v1/observations", self.observations, methods=["POST"]),
            Route("/v1/priors", self.priors, methods=["POST"]),
            Route("/v1/posteriors", self.stream, methods=["GET"]),
            Route("/v1/posteriors/{entity:path}", self.latest, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
        ]
        token = self._settings.token_of_gateway
        self.app = Draining(Guard(application(bridge, token, self._waiting_for, *routes), token))

    def _waiting_for(self) -> list[str]:
        return [] if self._reader.caught_up else [READING]

    async def observations(self, request: Request) -> Response:
        """Take observations."""
        return await self._take(request, Observation, "observations")

    async def priors(self, request: Request) -> Response:
        """Take priors."""
        return await self._take(request, Prior, "priors")

    async def latest(self, request: Request) -> Response:
        """Answer with the latest posterior of an entity."""
        entity = request.path_params["entity"]
        found = self._posteriors.latest(entity)
        if found is not None:
            return Response(found, media_type=JSON)
        if not self._reader.caught_up:
            return unavailable(READING)
        return problem(404, f"entity: no posterior of {entity[:128]!r} is kept")

    async def stream(self, request: Request) -> Response:
        """Follow posteriors by server-sent events."""
        entities = dict.fromkeys(request.query_params.getlist("entity"))
        if unknown := sorted(request.query_params.keys() - {"entity"}):
            return problem(
                400, f"{unknown[0][:128]}: no such parameter; there is entity, which may be repeated"
            )
        if len(entities) > MOST_ENTITIES:
            return problem(
                400, f"entity: {len(entities)} entities, more than {MOST_ENTITIES} are not followed"
            )
        if not self._reader.caught_up:
            return unavailable(READING)
        if self._posteriors.streams >= MOST_STREAMS:
            return unavailable(f"{MOST_STREAMS} clients follow posteriors already")
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = _events(self._posteriors.subscribe(entities))
        return StreamingResponse(events, headers=headers, media_type="text/event-stream")

    async def openapi(self, request: Request) -> Response:
        """Answer with the OpenAPI document."""
        return answer(self._document)

    async def _take(
        self,
        request: Request,
        message: type[Observation | Prior],
        topic: Literal["observations", "priors"],
    ) -> Response:
        address = request.client.host if request.client else ""
        if (seconds := self._limit.wait(address)) > 0:
            headers = {"Retry-After": str(int(seconds) + 1)}
            return problem(
                429, f"more than {self._settings.gateway_rate:g} messages a second", headers=headers
            )
        if (refusal := _refusal(request)) is not None:
            return refusal
        if (fault := self._bridge.fault) is not None:
            return unavailable(fault)
        try:
            body = await read_body(request, self._settings.gateway_body_bytes, self._settings.gateway_silence)
            lines = _media_type(request) in LINES
            found = list(read_messages(message, body, lines, self._settings.maximum_message_bytes))
        except ClientDisconnect:
            return problem(400, "body: the client left before its end")
        except Silent as error:
            return problem(408, str(error), headers={"Connection": "close"})
        except Unusable as error:
            return problem(413 if error.reason == "too_large" else 400, error.detail, error.reason)
        self._limit.spend(address, len(found))
        return report(await self._bridge.forward(found, topic))


async def _events(subscribed: AbstractContextManager[Subscription]) -> AsyncIterator[bytes]:
    with subscribed as subscription:
        yield b": posteriors\n\n"
        while (found := await subscription.take(KEEP_ALIVE_SECONDS)) is not None:
            dropped, subscription.dropped = subscription.dropped, 0
            events = [b'event: dropped\ndata: {"count":%d}\n\n' % dropped] if dropped else []
            events += [b"event: posterior\ndata: %s\n\n" % posterior for posterior in found]
            yield b"".join(events) or b": nothing new\n\n"


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()


def _refusal(request: Request) -> Response | None:
    """An answer to a body in a form that is not read."""
    if (media := _media_type(request)) not in (JSON, *LINES):
        return problem(415, f"Content-Type: expected {JSON} or {LINES[0]}, got {media[:80]!r}")
    if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
        return problem(415, f"Content-Encoding: expected none, got {encoding[:80]!r}")
    return None
