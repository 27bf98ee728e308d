"""A consumer that delivers records without tasks, with a fix for Faust 0.15.3.

**Each record costs four tasks.** Faust delivers a record to the stream with `Service.wait_first`, together with a wait
for the end of the flow, because a full queue may block the delivery. That makes four tasks and a wait of them all. But
a queue is almost never full. `DeliveringConsumer` runs the delivery until it waits for something. Only then does it
make the tasks. Fixed upstream when `Consumer._drain_messages` does so.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from functools import partial
from typing import Any

from faust.transport.drivers.aiokafka import Consumer
from mode.services import WaitResults

__all__ = ["DeliveringConsumer"]


class DeliveringConsumer(Consumer):
    """Consumer that makes tasks for a delivery only if it has to wait (see the module)."""

    async def wait_first(self, *coros: Any, timeout: Any = None) -> WaitResults:
        """Wait until the first is done or the service stops; does not wait if the first one need not."""
        first, *others = coros
        if not asyncio.iscoroutine(first) or self.should_stop:
            return await super().wait_first(*coros, timeout=timeout)
        try:
            waits_for = first.send(None)
        except BaseException as end:
            for other in filter(asyncio.iscoroutine, others):
                other.close()
            if isinstance(end, StopIteration):
                return WaitResults([first], [end.value], False)
            raise
        return await super().wait_first(_rest_of(first, waits_for), *others, timeout=timeout)


async def _rest_of(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Any:
    """Continue a coroutine that waits for `waits_for`, and return its result."""
    return await _steps(coroutine, waits_for)


@types.coroutine
def _steps(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:
            step = partial(coroutine.throw, error)
        else:
            step = partial(coroutine.send, sent)
        try:
            waits_for = step()
        except StopIteration as end:
            return end.value
