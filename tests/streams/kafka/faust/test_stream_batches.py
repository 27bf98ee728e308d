"""Batches of a stream's events, from a channel of Faust without a broker."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import faust
import pytest
from faust.events import Event
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from beliefstream.streams.kafka.faust.consumer import use_safe_consumer
from beliefstream.streams.kafka.faust.stream_batches import acknowledge, batches

GENERATION = 7


class Channel:
    """A stream that reads from a channel, and an app that is in a generation of its group."""

    def __init__(self) -> None:
        self.app: Any = faust.App("batches", broker="kafka://127.0.0.1:1", loop=asyncio.get_running_loop())
        use_safe_consumer(self.app)
        self.app.flow_control.resume()
        self.app.consumer_generation_id = GENERATION
        self.stream: Any = self.app.stream(self.app.channel(value_type=bytes))
        self._offset = 0

    def put(self, count: int, generation: int = GENERATION) -> None:
        for _ in range(count):
            self._offset += 1
            place = TP("source", 0)
            message = ConsumerMessage(
                "source",
                0,
                self._offset,
                0.0,
                0,
                [],
                b"key",
                b"value",
                None,
                tp=place,
                generation_id=generation,
            )
            self.stream.channel.queue.force_put_nowait(Event(self.app, b"key", b"value", [], message))

    async def offsets(self, batches_wanted: int, most: int, seconds: float) -> list[list[int]]:
        """The offsets in each of the next batches that are not empty."""
        found: list[list[int]] = []
        async with asyncio.timeout(10):
            async for batch in batches(self.stream, most, seconds):
                if batch:
                    found.append([event.message.offset for event in batch])
                if len(found) == batches_wanted:
                    break
        return found

    def close(self) -> None:
        self.app.consumer._thread.thread_loop.close()


def test_a_batch_has_the_waiting_events_in_order_and_no_more_than_its_most() -> None:
    async def run() -> None:
        channel = Channel()
        channel.put(5)
        assert await channel.offsets(2, 3, 0.001) == [[1, 2, 3], [4, 5]]
        channel.close()

    asyncio.run(run())


def test_a_batch_is_not_acknowledged_and_counts_as_in_progress_from_when_it_is_taken() -> None:
    async def run() -> None:
        channel = Channel()
        channel.put(5)
        await channel.offsets(1, 3, 0.001)
        unacked = channel.app.consumer.unacked
        assert sorted(message.offset for message in unacked) == [1, 2, 3]
        assert not any(message.acked for message in unacked)
        channel.close()

    asyncio.run(run())


def test_acknowledged_events_are_no_longer_in_progress_and_may_be_committed() -> None:
    async def run() -> None:
        channel = Channel()
        channel.app.topics.acks_enabled_for = lambda topic: True
        channel.put(3)
        async with asyncio.timeout(10):
            batch = await anext(batches(channel.stream, 3, 0.001))
        acknowledge(channel.stream, batch[:2])
        acknowledge(channel.stream, batch[:1])  # a second time, without effect
        consumer = channel.app.consumer
        assert [message.offset for message in consumer.unacked] == [3]
        assert consumer._acked[TP("source", 0)] == [1, 2]
        assert [event.message.acked for event in batch] == [True, True, False]
        channel.close()

    asyncio.run(run())


def test_faust_knows_when_each_partition_had_its_newest_event() -> None:
    async def run() -> None:
        channel = Channel()
        channel.app.sensors.add(channel.app.monitor)
        channel.put(3)
        began = time.monotonic()
        await channel.offsets(1, 3, 0.001)
        assert channel.app.monitor.stream_inbound_time[TP("source", 0)] >= began
        channel.close()

    asyncio.run(run())


def test_a_lone_event_does_not_wait_longer_than_its_batch() -> None:
    async def run() -> None:
        channel = Channel()
        asyncio.get_running_loop().call_later(0.2, channel.put, 1)
        began = time.monotonic()
        assert await channel.offsets(1, 512, 0.01) == [[1]]
        assert 0.2 <= time.monotonic() - began < 5
        channel.close()

    asyncio.run(run())


def test_events_that_arrive_while_a_batch_fills_are_in_it() -> None:
    async def run() -> None:
        channel = Channel()
        channel.put(1)
        asyncio.get_running_loop().call_later(0.05, channel.put, 2)
        assert await channel.offsets(1, 3, 5.0) == [[1, 2, 3]]
        channel.close()

    asyncio.run(run())


def test_while_nothing_arrives_there_are_empty_batches() -> None:
    async def run() -> None:
        channel = Channel()
        async with asyncio.timeout(10):
            assert await anext(batches(channel.stream, 512, 0.001)) == []
        channel.close()

    asyncio.run(run())


@pytest.mark.parametrize("suspended", [False, True])
def test_events_of_an_earlier_assignment_are_left_out_and_do_not_count(suspended: bool) -> None:
    async def run() -> None:
        channel = Channel()
        loop = asyncio.get_running_loop()
        if suspended:
            channel.put(2)
            channel.app.flow_control._suspend.set()
            loop.call_later(0.1, channel.app.flow_control._suspend.clear)
        else:
            channel.put(2, GENERATION - 1)
        loop.call_later(0.2, channel.put, 1)
        assert await channel.offsets(1, 512, 0.001) == [[3]]
        assert [message.offset for message in channel.app.consumer.unacked] == [3]
        channel.close()

    asyncio.run(run())


@pytest.mark.parametrize("waiting", [0, 3])
def test_a_stream_that_stops_ends_the_batches(waiting: int) -> None:
    """Faust throws StopAsyncIteration into the queue of an agent that stops."""

    async def run() -> list[list[int]]:
        channel = Channel()
        channel.put(waiting)
        channel.stream.channel._throw(StopAsyncIteration())
        found = await channel.offsets(batches_wanted=2, most=10, seconds=0.01)
        channel.close()
        return found

    assert asyncio.run(run()) == []
