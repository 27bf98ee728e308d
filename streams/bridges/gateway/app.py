"""The gateway as an ASGI application."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from beliefstream.schemas import Observation, Prior, Unusable
from beliefstream.streams.bridges.acknowledged import Writer
from beliefstream.streams.bridges.broker_check import BrokerCheck
from beliefstream.streams.bridges.gateway import metrics
from beliefstream.streams.bridges.gateway.bodies import (
    JSON,
    LINES,
    Outcome,
    RateLimit,
    Silent,
    answer,
    problem,
    read_body,
    read_messages,
    report,
    unavailable,
)
from beliefstream.streams.bridges.gateway.middleware import Draining, Guard
from beliefstream.streams.bridges.gateway.openapi import document
from beliefstream.streams.bridges.gateway.posteriors import Posteriors, Reader, Subscription
from beliefstream.streams.settings import Settings

MOST_STREAMS = 500  # clients that follow posteriors at once
MOST_ENTITIES = 1000  # that one stream may name
KEEP_ALIVE_SECONDS = 15.0  # proxies end a connection that is silent for longer, often after 30 s
READING = "the posteriors of the last hours are still being read"


class Gateway:
    """The endpoints; `app` is the ASGI application."""

    def __init__(
        self, settings: Settings, writer: Writer, check: BrokerCheck, posteriors: Posteriors, reader: Reader
    ) -> None:
        self._settings, self._writer, self._check = settings, writer, check
        self._posteriors, self._reader = posteriors, reader
        self._limit = RateLimit(self._settings.gateway_rate)
        self._document = document(self._settings)
        routes = [
            Route("/v1/observations", self.observations, methods=["POST"]),
            Route("/v1/priors", self.priors, methods=["POST"]),
            Route("/v1/posteriors", self.stream, methods=["GET"]),
            Route("/v1/posteriors/{entity:path}", self.latest, methods=["GET"]),
            Route("/openapi.json", self.openapi, methods=["GET"]),
            Route("/healthz", self.healthz, methods=["GET"]),
            Route("/readyz", self.readyz, methods=["GET"]),
            Route("/metrics", self.metrics, methods=["GET"]),
        ]
        handlers: dict[Any, Any] = {HTTPException: _not_found, 500: _failed}
        application = Starlette(routes=routes, exception_handlers=handlers)
        self.app = Draining(Guard(application, self._settings.token_of_gateway))

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

    async def healthz(self, request: Request) -> Response:
        """Whether the process answers."""
        return answer({"ok": True})

    async def readyz(self, request: Request) -> Response:
        """Whether messages can be taken and posteriors given out, and if not, why."""
        waits = [] if self._check.fault is None else [self._check.fault]
        if not self._reader.caught_up:
            waits.append(READING)
        return answer({"ready": not waits, "waiting_for": waits}, 503 if waits else 200)

    async def metrics(self, request: Request) -> Response:
        """Answer with the metrics in Prometheus' format."""
        metrics.BROKER_REACHABLE.set(self._check.fault is None)
        metrics.IN_FLIGHT.set(self._writer.in_flight)
        return Response(generate_latest(metrics.REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _take(self, request: Request, message: type[Observation | Prior], topic: str) -> Response:
        address = request.client.host if request.client else ""
        if (seconds := self._limit.wait(address)) > 0:
            headers = {"Retry-After": str(int(seconds) + 1)}
            return problem(
                429, f"more than {self._settings.gateway_rate:g} messages a second", headers=headers
            )
        if (refusal := _refusal(request)) is not None:
            return refusal
        if (fault := self._check.fault) is not None:
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
        return report(await self._write(found, topic))

    async def _write(self, found: Sequence[Observation | Prior | Unusable], topic: str) -> list[Outcome]:
        """What becomes of each; the good ones are sent whatever the others are."""
        began = time.perf_counter()
        good = [each for each in found if not isinstance(each, Unusable)]
        written = iter(await self._writer.write(good) if good else ())
        outcomes: list[Outcome] = [each if isinstance(each, Unusable) else next(written) for each in found]
        if good:
            metrics.ACKNOWLEDGE_SECONDS.observe(time.perf_counter() - began)
        for kind, count in Counter(map(_kind, outcomes)).items():
            metrics.MESSAGES.labels(topic, kind).inc(count)
        return outcomes


def _kind(outcome: Outcome) -> str:
    if isinstance(outcome, Exception):
        return "rejected" if isinstance(outcome, Unusable) else "failed"
    return "accepted"


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


async def _not_found(request: Request, error: HTTPException) -> Response:
    return problem(error.status_code, f"{request.url.path[:128]}: {error.detail}", headers=error.headers)


async def _failed(request: Request, error: Exception) -> Response:
    return problem(500, "the gateway has failed; its log says why")
