"""Sends many records at once, and returns when the broker has acknowledged all of them.

`AIOKafkaProducer.send` costs a future and several task switches per record. Batches filled here cost them once per
batch, and send two to three times as many records a second. A batch may be sent again: under a lease (see
`streams.state.fencing`) it has a sequence number, and the broker stores it once.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from beliefstream.streams.kafka.aiokafka_clients import largest_request, set_producer_state

# Records that take at least so many bytes of a batch are checked against the producer's `max_request_size`. A batch
# accepts any first record, and only the broker would refuse it.
LARGE_BYTES = 64 * 1024
SEQUENCES = 2**31  # sequence numbers start again at 0 after this many


class Record(msgspec.Struct, frozen=True):
    """A record to send, with its topic and partition.

    Attributes:
        topic: the topic's name.
        partition: the partition's number; no partitioner is used.
        key: bytes, or None.
        value: bytes, or None to delete the key from a compacted topic; key and value must not both be None.
        headers: (name, value) pairs.
    """

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        size = len(self.key or b"") + len(self.value or b"")
        for name, value in self.headers:
            size += len(name) + len(value)
        return size


@dataclass
class Lease:
    """The right to write the results of one partition, until another worker takes it (`streams.state.fencing`).

    Attributes:
        identity: the transactional id.
        producer, epoch: written in every batch.
        since: when it was taken or renewed, seconds of the monotonic clock.
    """

    identity: str
    producer: int
    epoch: int
    since: float = field(default_factory=time.monotonic)
    _next: dict[TopicPartition, int] = field(default_factory=dict)

    def number(self, place: TopicPartition, count: int) -> int:
        """Return the first sequence number of a batch of `count` records for `place`, and advance to the next batch."""
        first = self._next.get(place, 0)
        self._next[place] = (first + count) % SEQUENCES
        return first


@dataclass
class ProducerBatch:
    """Records of one partition that are sent together.

    Attributes:
        delivered: whether the broker has acknowledged them.
        last: the offset of the last record; None if not known.
    """

    filled: Any
    delivered: bool = False
    last: int | None = None


ProducerBatches = Mapping[TopicPartition, Sequence[ProducerBatch]]


async def send_all(
    producer: AIOKafkaProducer, records: Iterable[Record], leases: Mapping[int, Lease] | None = None
) -> dict[TopicPartition, int]:
    """Send the records, in order for each partition, and wait until all are acknowledged.

    Args:
        producer: a started producer without serializers. With `acks="all"` (or idempotence) acknowledged records
            survive the loss of a broker. Its `max_batch_size` (bytes) limits the records sent together.
        records: any number, for any number of partitions.
        leases: the right to write, by partition; None to write without.

    Returns:
        For every partition the offset of the last of its records.

    Raises:
        aiokafka.errors.KafkaError: at least one record was not acknowledged, and others may have been. This is the
            first error, raised when the outcome of all records is known.
        aiokafka.errors.ProducerFenced: another worker has taken the lease.
        KeyError: `leases` is given, and has none for a partition.
    """
    return await deliver(producer, pack_batches(producer, records, leases))


def pack_batches(
    producer: AIOKafkaProducer, records: Iterable[Record], leases: Mapping[int, Lease] | None = None
) -> ProducerBatches:
    """Pack the records into batches, which can be sent more than once.

    Raises:
        aiokafka.errors.MessageSizeTooLargeError: a record is larger than the producer's `max_request_size`.
        KeyError: as in `send_all`.
    """
    partitions: defaultdict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        partitions[record.topic, record.partition].append(record)
    filled = {TopicPartition(*place): _filled(producer, several) for place, several in partitions.items()}
    if leases is not None:
        held = {place: leases[place.partition] for place in filled}
        for place, batches in filled.items():
            _number(batches, place, held[place])
    return filled


def _filled(producer: AIOKafkaProducer, records: Sequence[Record]) -> list[ProducerBatch]:
    filled = [producer.create_batch()]
    for record in records:
        taken = _append(filled[-1], record)
        if taken is None:
            filled.append(producer.create_batch())
            taken = _append(filled[-1], record)  # an empty batch accepts a record of any size
        if taken.size >= LARGE_BYTES and record.size > (limit := largest_request(producer)):
            raise MessageSizeTooLargeError(f"{record.topic}: {record.size} bytes are more than {limit}")
    for batch in filled:
        batch.close()  # otherwise another `send` could add to it, and the last offset would be wrong
    return [ProducerBatch(batch) for batch in filled]


def _append(batch: Any, record: Record) -> Any:
    """Append the record, and return its metadata; None if it did not fit into the batch."""
    return batch.append(timestamp=None, key=record.key, value=record.value, headers=list(record.headers))


def _number(batches: Sequence[ProducerBatch], place: TopicPartition, lease: Lease) -> None:
    for each in batches:
        first = lease.number(place, each.filled.record_count())
        set_producer_state(each.filled, lease.producer, lease.epoch, first)


def attempts(
    may_retry: Callable[[BaseException], bool], seconds: float, first: float, longest: float
) -> AsyncRetrying:
    """Retry for `seconds` while `may_retry(error)` holds; waits grow from `first` to `longest` seconds."""
    return AsyncRetrying(
        retry=retry_if_exception(may_retry),
        stop=stop_after_delay(seconds),
        wait=wait_random_exponential(first, longest),
        reraise=True,
    )


def retry_unless(*final: type[Exception]) -> Callable[[BaseException], bool]:
    """Return a test for errors of Kafka and of connections, TimeoutError included, but not for the `final` ones."""
    return lambda error: isinstance(error, KafkaError | OSError) and not isinstance(error, final)


async def deliver(producer: AIOKafkaProducer, batches: ProducerBatches) -> dict[TopicPartition, int]:
    """Send the batches not delivered yet; returns and raises as `send_all` does.

    An offset is left out if the broker only answers that it already has the batch.
    """
    # In parallel: a partition's next batch is accepted only after its previous one is sent.
    outcomes = await asyncio.gather(
        *(deliver_partition(producer, place, several) for place, several in batches.items()),
        return_exceptions=True,
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    lasts = {place: several[-1].last for place, several in batches.items()}
    return {place: last for place, last in lasts.items() if last is not None}


async def deliver_partition(
    producer: AIOKafkaProducer, place: TopicPartition, batches: Sequence[ProducerBatch]
) -> None:
    """Send those batches of one partition that are not delivered yet; raises as `send_all` does."""
    sent: list[tuple[ProducerBatch, asyncio.Future[Any]]] = []
    try:
        for batch in batches:
            if not batch.delivered:
                future = await producer.send_batch(batch.filled, place.topic, partition=place.partition)
                sent.append((batch, future))
    finally:
        # Even if a later batch could not be passed to the producer, await all that are in flight.
        answers = [await _answered(batch, future) for batch, future in sent]
    for fault in answers:
        if fault is not None:
            raise fault


async def _answered(batch: ProducerBatch, future: asyncio.Future[Any]) -> Exception | None:
    """Await the acknowledgement of a batch; returns the error if there is one."""
    try:
        answer = await future
    except Exception as error:
        return error
    batch.delivered = True
    if answer.offset >= 0:  # the acknowledgement has the offset of the batch's first record
        batch.last = answer.offset + batch.filled.record_count() - 1
    return None
