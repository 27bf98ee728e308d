"""Bounds on what one client may send."""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable

from starlette.requests import Request

from beliefstream.schemas import Reason, Unusable

__all__ = ["RateLimit", "Silent", "read_body"]

MOST_ADDRESSES = 10_000  # that are remembered; one forgotten begins anew


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
