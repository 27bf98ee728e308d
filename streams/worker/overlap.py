"""Computes a batch while the one before it is sent.

The model needs the processor, and sending waits for a broker. At most one batch is ahead, and a batch is sent only when
the one before it is durable. So posteriors, changelog and offsets keep their order. If a batch cannot be delivered, the
process ends, and the batch ahead with it: both are delivered again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

__all__ = ["Overlap"]

B = TypeVar("B")
R = TypeVar("R")


class Overlap(Generic[B, R]):
    """Runs the two steps of batches, the second one in the background.

    Args:
        compute: turns a batch into results.
        deliver: makes a batch's results durable; must not raise.
        is_alone: whether the next batch may begin only after the last one is delivered.
    """

    def __init__(
        self,
        compute: Callable[[B], Awaitable[R]],
        deliver: Callable[[B, R], Awaitable[None]],
        is_alone: Callable[[], bool],
    ) -> None:
        self._compute, self._deliver, self._is_alone = compute, deliver, is_alone
        self._delivery: asyncio.Task[None] | None = None

    async def process(self, batch: B) -> None:
        """Compute a batch, wait for the delivery of the one before, and begin its own."""
        if self._is_alone():
            await self.finish()
        results = await self._compute(batch)
        await self.finish()
        self._delivery = asyncio.create_task(self._run(batch, results))
        await asyncio.sleep(0)  # it begins before the next batch is computed

    async def finish(self) -> None:
        """Wait until nothing is being delivered; a cancelled wait does not cancel the delivery."""
        if self._delivery is not None:
            await asyncio.shield(self._delivery)
            self._delivery = None

    async def _run(self, batch: B, results: R) -> None:
        await self._deliver(batch, results)
