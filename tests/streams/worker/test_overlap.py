"""The order in which batches are computed and delivered, with steps that the test ends itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from beliefstream.streams.worker.overlap import Overlap


class Steps:
    """Steps that note when they begin, and end when they are told to."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.alone = False
        self._events: dict[str, asyncio.Event] = {}

    async def compute(self, batch: str) -> str:
        await self._step(f"compute {batch}")
        return f"results of {batch}"

    async def deliver(self, batch: str, results: str) -> None:
        assert results == f"results of {batch}"
        await self._step(f"deliver {batch}")

    async def _step(self, name: str) -> None:
        self.begun.append(name)
        await self._events.setdefault(name, asyncio.Event()).wait()
        self.ended.append(name)

    async def end(self, name: str) -> None:
        """End a step, and let everything run until it waits again."""
        self._events.setdefault(name, asyncio.Event()).set()
        await settle()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@asynccontextmanager
async def processing(steps: Steps, batches: str) -> AsyncIterator[asyncio.Task[None]]:
    overlap = Overlap(steps.compute, steps.deliver, lambda: steps.alone)

    async def run() -> None:
        try:
            for batch in batches:
                await overlap.process(batch)
        finally:
            await overlap.finish()

    task = asyncio.create_task(run())
    await settle()
    yield task


def run(test: Callable[[Steps], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(10):
            await test(Steps())

    asyncio.run(limited())


def test_a_batch_is_computed_while_the_one_before_is_delivered_and_no_further_one() -> None:
    async def test(steps: Steps) -> None:
        async with processing(steps, "abc") as task:
            await steps.end("compute a")
            assert steps.begun == ["compute a", "deliver a", "compute b"]
            await steps.end("compute b")
            assert "deliver b" not in steps.begun
            assert "compute c" not in steps.begun
            await steps.end("deliver a")
            assert steps.begun[3:] == ["deliver b", "compute c"]
            for name in ("deliver b", "compute c", "deliver c"):
                await steps.end(name)
            await task
        assert [name for name in steps.ended if "deliver" in name] == ["deliver a", "deliver b", "deliver c"]

    run(test)


def test_a_batch_that_must_be_alone_begins_when_all_others_are_delivered() -> None:
    async def test(steps: Steps) -> None:
        steps.alone = True
        async with processing(steps, "ab") as task:
            await steps.end("compute a")
            assert steps.begun == ["compute a", "deliver a"]
            await steps.end("deliver a")
            assert steps.begun[-1] == "compute b"
            await steps.end("compute b")
            await steps.end("deliver b")
            await task

    run(test)


def test_one_that_is_cancelled_still_delivers_what_is_computed() -> None:
    async def test(steps: Steps) -> None:
        async with processing(steps, "ab") as task:
            await steps.end("compute a")
            task.cancel()
            await settle()
            assert not task.done()
            await steps.end("deliver a")
            await asyncio.wait([task])
            assert task.cancelled()
        assert steps.ended == ["compute a", "deliver a"]

    run(test)
