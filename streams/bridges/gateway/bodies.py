"""Reads messages from the body of a request: one JSON object, a list of them, or one on each line (NDJSON)."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic_core import from_json, to_json
from starlette.requests import Request
from starlette.responses import Response

from beliefstream.schemas import Reason, Unusable, parse, printable
from beliefstream.schemas.base import Message, check_size
from beliefstream.streams.bridges.acknowledged import Outcome
from beliefstream.streams.bridges.serving import answer, problem
from beliefstream.streams.client import Place

RETRY_AFTER = 2  # seconds; as often as the broker is asked whether it is there
MOST_ADDRESSES = 10_000  # that are remembered; one forgotten begins anew
M = TypeVar("M", bound=Message)
JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MOST_ITEMS = 10_000  # in one request


def unavailable(error: str) -> Response:
    """A response that asks the client to come again later."""
    return problem(503, error, headers={"Retry-After": str(RETRY_AFTER)})


def report(outcomes: Sequence[Outcome]) -> Response:
    """What became of each message of a request: 202, or 207 where they differ, or 400 or 503 where none was taken."""
    items = [_item(index, outcome) for index, outcome in enumerate(outcomes)]
    statuses = {item["status"] for item in items}
    accepted = sum(item["status"] == 202 for item in items)
    content = {"accepted": accepted, "rejected": len(items) - accepted, "items": items}
    status = statuses.pop() if len(statuses) == 1 else 207
    if accepted == 0 and status == 207:
        status = 503  # some may be sent again
    headers = {"Retry-After": str(RETRY_AFTER)} if any(item["status"] == 503 for item in items) else None
    return answer(content, status, headers)


def _item(index: int, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Place):
        # a broker that has a message already does not always say where
        known = {"place": f"{outcome.partition}:{outcome.offset}"} if outcome.offset >= 0 else {}
        return {"index": index, "status": 202, **known}
    if isinstance(outcome, Unusable):
        return {"index": index, "status": 400, "reason": outcome.reason, "error": outcome.detail}
    return {"index": index, "status": 503, "error": printable(str(outcome))}


class Silent(Exception):
    """A client has sent a part of a body, and then nothing."""


class RateLimit:
    """A token bucket for each client address: `rate` messages a second, and as many at once.

    A request that is admitted may take more than is left: the next one then waits for it.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = rate, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at a time

    def wait(self, address: str) -> float:
        """Seconds until the address may send again; 0 if it may now."""
        tokens = self._tokens(address)
        return 0.0 if tokens > 0 else (1 - tokens) / self._rate

    def spend(self, address: str, count: int) -> None:
        """Count messages that the address has sent."""
        if math.isinf(self._rate):
            return
        self._buckets[address] = (self._tokens(address) - count, self._clock())
        self._buckets.move_to_end(address)
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)

    def _tokens(self, address: str) -> float:
        most = max(self._rate, 1.0)
        tokens, since = self._buckets.get(address, (most, 0.0))
        return most if tokens == most else min(most, tokens + (self._clock() - since) * self._rate)


async def read_body(request: Request, most: int, silence: float) -> bytes:
    """Return the body of a request.

    Raises:
        Silent: nothing has come for `silence` seconds.
        Unusable: `too_large`, if it has more than `most` bytes; the rest is not kept.
    """
    declared = int(request.headers.get("content-length", 0))
    parts, size = [], 0
    if declared <= most:
        stream = request.stream()
        while (part := await _next_part(stream, silence)) is not None:
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if max(declared, size) > most:
        raise Unusable(Reason.too_large, f"body: {max(declared, size)} bytes, more than {most} are not read")
    return b"".join(parts)


async def _next_part(stream: AsyncGenerator[bytes, None], silence: float) -> bytes | None:
    try:
        async with asyncio.timeout(None if math.isinf(silence) else silence):
            return await anext(stream, None)
    except TimeoutError:
        raise Silent(f"body: nothing has come for {silence:g} s, and it is not complete") from None


def read_messages(message: type[M], body: bytes, lines: bool, most_bytes: int) -> Iterator[M | Unusable]:
    """Yield the messages of a body, or of its non-empty lines, and for each that cannot be used the error in its place.

    Raises:
        Unusable: the body as a whole is not JSON, has no item or too many.
    """
    if lines:
        items: list[Any] = [line for line in body.splitlines() if line.strip()]
        _check_count(len(items))
        return (_parsed(message, line, most_bytes) for line in items)
    if body.lstrip()[:1] != b"[":
        return iter([_parsed(message, body, most_bytes)])
    try:
        items = from_json(body)
    except ValueError as error:
        raise Unusable(Reason.not_json, f"body: {error}") from error
    _check_count(len(items))
    return (_parsed(message, to_json(item, inf_nan_mode="constants"), most_bytes) for item in items)


def _check_count(count: int) -> None:
    if count == 0:
        raise Unusable(Reason.invalid, "body: expected at least one message, got none")
    if count > MOST_ITEMS:
        raise Unusable(
            Reason.too_large, f"body: {count} messages, more than {MOST_ITEMS} are not read at once"
        )


def _parsed(message: type[M], raw: bytes, most_bytes: int) -> M | Unusable:
    try:
        check_size(raw, most_bytes)
        return parse(message, raw)
    except Unusable as error:
        return error
