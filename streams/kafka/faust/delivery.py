"""A consumer that delivers what a fetch brings in bulk, with a fix for Faust 0.15.3.

**Each record costs ten coroutines.** Faust passes each record through generators, a lock, the flow control, a decoder
and the queue of a stream. `BulkConsumer` puts a part of a fetch, up to `PART` records of a partition, on the queue at
once. It does so only where nothing can differ: one stream reads the partition, takes its bytes as they are, and has
room for them; the offsets follow one another; nothing has to wait. Faust delivers every other record: `getmany` yields
only these, and Faust's loop does not know of the others.

A scheduler of Faust's consumer gives the order in which a fetch is delivered. Here it gives parts, in Faust's own round
robin between topics and partitions. So Faust looks at the flow, the generation and the active partitions before each
part, no longer before each record. `_to_message`, with which Faust converts what the scheduler gives, lets parts pass.
Fixed upstream when Faust's conductor delivers the records of a fetch together.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, cast

from faust.serializers.schemas import Schema
from faust.transport.drivers.aiokafka import Consumer
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message
from mode.services import WaitResults

PART = 64  # records of a partition that are delivered at once, before those of another
PAUSE = 100  # messages after which other tasks may run, as in Faust


class DeliveringConsumer(Consumer):
    """Consumer that makes tasks for a delivery only if it has to wait.

    **Each record costs four tasks.** Faust delivers a record to the stream with `Service.wait_first`, together with a
    wait for the end of the flow, because a full queue may block the delivery. That makes four tasks and a wait of them
    all. But a queue is almost never full. `DeliveringConsumer` runs the delivery until it waits for something. Only
    then does it make the tasks. Fixed upstream when `Consumer._drain_messages` does so.
    """

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


class BulkConsumer(DeliveringConsumer):
    """Consumer that delivers in bulk what needs not wait (see the module)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.scheduler = _Parts()  # type: ignore[abstract]  # of an `__init__` that none defines
        self._since_pause = 0  # messages delivered since other tasks could run

    def on_record(self, partition: TP, offset: int) -> None:
        """Called with the first offset of a part, before it is delivered."""

    def is_read_again(self) -> bool:
        """Whether the records of the last fetch will be fetched again."""
        return False

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch for up to `timeout` seconds, deliver in bulk, and yield the messages that Faust must deliver."""
        async with aclosing(cast(AsyncGenerator[tuple[TP, Any], None], super().getmany(timeout))) as parts:
            async for place, records in parts:
                generation = self.app.consumer_generation_id
                if self.is_read_again():
                    return
                self.on_record(place, records[0].offset)
                while records:
                    count = self._deliver(place, records)
                    if not count:
                        count = 1
                        yield place, super()._to_message(place, records[0])
                    records = records[count:]
                    self._since_pause += count
                    if self._since_pause > PAUSE:
                        self._since_pause = 0
                        await asyncio.sleep(0)
                    if self.is_read_again() or not self.flow_active:
                        return
                    if self.app.consumer_generation_id != generation:
                        return

    def _to_message(self, tp: TP, record: Any) -> Any:
        return record if type(record) is list else super()._to_message(tp, record)

    def _deliver(self, place: TP, records: list[Any]) -> int:
        """Put records on the queue of their stream; returns how many, 0 if Faust must deliver the next one."""
        queue, first, read = self._queue_of(place), records[0].offset, self._read_offset.get(place)
        commit_is_due = self._commit_every is not None and self._n_acked >= self._commit_every
        follows = read is None or read <= first <= read + 1
        if queue is None or commit_is_due or not follows:
            return 0
        if records[-1].offset - first >= len(records):  # offsets are missing
            records = [record for due, record in enumerate(records, first) if record.offset == due]
        # at the high mark Faust must deliver one, and pauses the partition
        most = queue.maxsize if place in self._buffered_partitions else queue.pressure_high_size
        records = records[: max(most - queue.qsize(), 0)]
        app, put = cast(Any, self.app), queue.force_put_nowait
        make_event, generation = app.conf.Event, app.consumer_generation_id
        for record in records:
            message = _message(place, record, generation)
            put(make_event(app, message.key, message.value, message.headers, message))
        if records:
            self._read_offset[place] = records[-1].offset
        return len(records)

    def _queue_of(self, place: TP) -> Any:
        """The queue of the only stream that reads the partition; None if bytes cannot go straight onto it now."""
        app = cast(Any, self.app)
        channels, waiting = app.topics._tp_index.get(place, ()), app.producer.buffer
        if (
            len(channels) != 1
            or app.topics._tp_to_callback_lock.locked()
            or not app.flow_control.is_active()
            or waiting.size > waiting.max_messages
            or self.should_stop
        ):
            return None
        (channel,) = channels
        return channel.queue if _takes_bytes(channel.schema) else None


class _Parts(DefaultSchedulingStrategy):
    """Faust's round robin, of parts of what a fetch has brought of a partition."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Iterate over partitions and lists of records, none of them empty."""
        return super().iterate({place: _parts(found) for place, found in records.items()})


def _parts(records: list[Any]) -> list[list[Any]]:
    return [records[start : start + PART] for start in range(0, len(records), PART)]


def _takes_bytes(schema: Any) -> bool:
    """Whether a channel with this schema gives keys and values as they are in the log."""
    are_bytes = schema.key_type is bytes and schema.value_type is bytes
    return type(schema) is Schema and are_bytes and schema.key_serializer == schema.value_serializer == "raw"


def _message(place: TP, record: Any, generation: int) -> ConsumerMessage:
    """The message of a record for one stream, as Faust makes it."""
    stamp = record.timestamp  # none in the oldest formats of a log
    message = ConsumerMessage(
        place.topic,
        place.partition,
        record.offset,
        cast(float, None) if stamp is None else stamp / 1000.0,
        record.timestamp_type,
        record.headers,
        record.key,
        record.value,
        record.checksum,
        record.serialized_key_size,
        record.serialized_value_size,
        place,
        generation_id=generation,
    )
    message.refcount = 1
    return message
