"""Batches of a stream's events, taken from its queue at once; with fixes for Faust 0.15.3.

**A batch waits for a clock.** `Stream.noack_take` looks at its buffer every `within` seconds. So an event waits half of
that on average, even if nothing else arrives. `batches` wakes up with the first event.

**Each event costs several task switches.** `noack_take` passes each event through the stream's iterator, with
processors and a buffer. `batches` takes all events of the queue in one step. As the iterator does, it skips those of an
earlier assignment, and counts the others as not acknowledged. It tells Faust's sensors of the newest of each partition
only: nothing reads how many there were, but Faust looks for partitions from which nothing comes. `acknowledge` leaves
out what sensors do after an event, because they have no state of it.

Fixed upstream when `noack_take` waits for its first event, and takes what is in the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, cast

from faust.types import ChannelT, EventT, StreamT

IDLE_SECONDS = 1.0  # between two looks at whether the stream stops, while no event arrives


async def batches(stream: StreamT[Any], most: int, seconds: float) -> AsyncIterator[list[EventT[Any]]]:
    """Yield batches of up to `most` events, in order for each partition, none of them acknowledged.

    A batch is complete when it is full, or `seconds` after its first event. While no event arrives, it yields an empty
    one each second, so that whoever keeps events of earlier batches can finish them.
    """
    app: Any = stream.app
    queue = cast(ChannelT[Any], stream.channel).queue
    await stream.maybe_start()
    while not stream.should_stop:
        try:
            batch = await _next_batch(queue, most, seconds)
        except StopAsyncIteration:  # a stream that stops throws it into its queue
            return
        # events of earlier assignments are delivered again
        is_active, generation = app.flow_control.is_active(), app.consumer_generation_id
        batch = [event for event in batch if is_active and event.message.generation_id == generation]
        app.consumer.track([event.message for event in batch if not event.message.tracked])
        for place, event in {event.message.tp: event for event in batch}.items():
            app.sensors.on_stream_event_in(place, event.message.offset, stream, event)
        yield batch


def acknowledge(stream: StreamT[Any], events: Iterable[EventT[Any]]) -> None:
    """Acknowledge events, as `Stream.ack` does, which is a coroutine for each."""
    cast(Any, stream.app).consumer.acknowledge([event.message for event in events])


async def _next_batch(queue: Any, most: int, seconds: float) -> list[EventT[Any]]:
    """Wait for the first event, at most `IDLE_SECONDS`, and then `seconds` for others."""
    loop = asyncio.get_running_loop()
    batch: list[EventT[Any]] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(IDLE_SECONDS):
            batch.append(await queue.get())
    if not batch:
        return batch
    deadline = loop.time() + seconds
    with suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            batch.extend(_waiting(queue, most - len(batch)))
            while len(batch) < most and loop.time() < deadline:
                batch.append(await queue.get())
                batch.extend(_waiting(queue, most - len(batch)))
    return batch


def _waiting(queue: Any, most: int) -> list[EventT[Any]]:
    """Take up to `most` events that are in the queue."""
    if queue.empty():
        return []
    count = min(most, queue.qsize() or 1)  # one without an event is an error that was thrown into the queue
    return [queue.get_nowait() for _ in range(count)]
