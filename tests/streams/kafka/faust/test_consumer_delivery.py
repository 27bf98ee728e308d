"""Deliveries run without tasks until they wait; the service and the flow end those that wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faust
import pytest

from beliefstream.streams.kafka.faust.consumer import SafeConsumer, use_safe_consumer


@contextmanager
def consuming() -> Iterator[SafeConsumer]:
    """A worker's consumer of the running loop, without its thread."""
    app = faust.App("delivery", broker="kafka://127.0.0.1:1", loop=asyncio.get_running_loop())
    use_safe_consumer(app)
    made: Any = app.consumer
    try:
        yield made
    finally:
        made._thread.thread_loop.close()


async def tasks_made_by(work: Any) -> tuple[Any, int]:
    """The result, and how many tasks were made on the way."""
    loop, made = asyncio.get_running_loop(), 0

    def make(loop: Any, coroutine: Any, **options: Any) -> Any:
        nonlocal made
        made += 1
        return asyncio.Task(coroutine, loop=loop, **options)

    loop.set_task_factory(make)
    try:
        return await work, made
    finally:
        loop.set_task_factory(None)


@pytest.mark.filterwarnings("error")
def test_a_delivery_that_does_not_wait_makes_no_task() -> None:
    async def deliver() -> int:
        return 7

    async def run() -> None:
        with consuming() as consumer:
            found, made = await tasks_made_by(consumer.wait_first(deliver(), asyncio.Event().wait()))
        assert (found.results, found.stopped, made) == ([7], False, 0)

    asyncio.run(run())


def test_a_delivery_that_waits_goes_on_when_it_may() -> None:
    async def run() -> None:
        room, steps = asyncio.Event(), []

        async def deliver() -> int:
            steps.append("begun")
            await room.wait()
            await asyncio.sleep(0)
            try:
                await asyncio.wait_for(asyncio.Event().wait(), 0.01)
            except TimeoutError:
                steps.append("an error within it is its own")
            return 7

        asyncio.get_running_loop().call_later(0.05, room.set)
        with consuming() as consumer:
            found = await consumer.wait_first(deliver(), asyncio.Event().wait())
        assert found.results == [7]
        assert steps == ["begun", "an error within it is its own"]

    asyncio.run(run())


def test_a_delivery_that_waits_ends_with_the_flow() -> None:
    async def run() -> None:
        ended = asyncio.Event()

        async def deliver() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        flow = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, flow.set)
        with consuming() as consumer:
            found = await consumer.wait_first(deliver(), flow.wait())
        assert found.results == [True]
        await asyncio.wait_for(ended.wait(), 5)

    asyncio.run(run())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("waits", [False, True])
def test_an_error_of_a_delivery_is_raised(waits: bool) -> None:
    async def deliver() -> None:
        if waits:
            await asyncio.sleep(0.01)
        raise LookupError("no such topic")

    async def run() -> None:
        with consuming() as consumer, pytest.raises(LookupError, match="no such topic"):
            await consumer.wait_first(deliver(), asyncio.Event().wait())

    asyncio.run(run())


def test_no_detector_takes_an_idle_stream_for_a_stalled_one() -> None:
    async def run() -> None:
        with consuming() as consumer:
            detectors = [task for task in consumer._get_tasks() if "livelock" in task.fun.__name__]
            assert detectors
            for task in detectors:  # Faust's has no end
                await asyncio.wait_for(task(consumer), 5.0)

    asyncio.run(run())
