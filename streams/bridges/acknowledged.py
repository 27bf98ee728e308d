"""Writes messages to Kafka from an event loop, and says of each whether Kafka has it.

Messages of one partition wait while a batch of it is under way, and then travel together. aiokafka packs and sends them
in the same event loop: kafka-python's thread would compete with the loop for every message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import count
from typing import Any, NamedTuple
from uuid import uuid4

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, NodeNotReadyError

from beliefstream.schemas import Observation, Prior, cloudevents
from beliefstream.streams.client import BrokerUnavailable, Place
from beliefstream.streams.kafka.aiokafka_clients import set_producer_state, use_safe_connections
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.kafka.producing import Lease, attempts
from beliefstream.streams.kafka.requests import new_producer_id
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)
MOST_IN_FLIGHT = 64 * 1024 * 1024  # bytes of messages that Kafka has not acknowledged; more are refused
SLICE = 100  # messages taken before other requests have a turn
BATCH_BYTES = 262144
CLOSE_SECONDS = 5.0


class QueuedMessage(NamedTuple):
    """A message that waits: its record, and where its outcome belongs."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]
    position: int
    outcomes: Outcomes


class PartitionQueue:
    """Messages of one partition, in order."""

    def __init__(self, place: TopicPartition) -> None:
        self.place = place
        self.waiting: deque[QueuedMessage] = deque()  # not sent yet
        self.sent: list[QueuedMessage] = []  # in the batch that is under way
        self.is_moving = False  # whether a task sends them

    def pack(self, batch: Any) -> bool:
        """Move the first message to the batch; False if it is full. An empty batch takes any message."""
        message = self.waiting[0]
        taken = batch.append(timestamp=None, key=message.key, value=message.value, headers=message.headers)
        if taken is not None:
            self.sent.append(self.waiting.popleft())
        return taken is not None


class Outcomes:
    """What becomes of the messages of one request; `settled` is done once all are known."""

    def __init__(self, count: int) -> None:
        self.settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._results: list[Place | Exception | None] = [None] * count
        self._left = count

    def settle(self, position: int, result: Place | Exception) -> None:
        """Note the outcome of one message."""
        self._results[position] = result
        self._finish(1)

    def fail_from(self, position: int, error: Exception) -> None:
        """Note that this message and all after it were not sent."""
        count = len(self._results) - position
        self._results[position:] = [error] * count
        self._finish(count)

    def closed(self, late: Exception) -> list[Place | Exception]:
        """All outcomes, with `late` for those that are not known."""
        return [late if each is None else each for each in self._results]

    def _finish(self, count: int) -> None:
        self._left -= count
        if not self._left and not self.settled.done():
            self.settled.set_result(None)


class NotAcknowledged(ConnectionError):
    """Kafka has not acknowledged a message in time, or cannot be reached; it may have it all the same."""


class Writer:
    """Sends observations and priors, and waits until Kafka has acknowledged them. Used in one event loop.

    Batches have sequence numbers of a producer id, so that the broker stores a batch once that is sent again. After a
    failure the next batch has another producer id, since it is not known whether the broker has the failed one.
    """

    def __init__(self, settings: Settings, source: str) -> None:
        self._settings, self._source = settings, source
        self._seconds = settings.acknowledge_seconds
        self._events, self._numbers = uuid4().hex, count(1)
        self._queues: dict[TopicPartition, PartitionQueue] = {}
        self._counts: dict[str, int] = {}
        self._lease: Lease | None = None
        self._identifying, self._renewing = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight = 0  # bytes of messages that Kafka has not acknowledged
        self.failing = False  # whether the last outcome was a failure

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: no broker answers in time.
        """
        self._producer = await self._started()

    async def write(self, messages: Sequence[Observation | Prior]) -> list[Place | Exception]:
        """Send the messages in order; returns the place of each, or why Kafka may not have it.

        The offset of a place is -1 if the broker only says that it has the message already.
        """
        outcomes = Outcomes(len(messages))
        try:
            async with asyncio.timeout(self._seconds + 1):
                for position, message in enumerate(messages):
                    if position % SLICE == SLICE - 1:
                        await asyncio.sleep(0)
                    if (fault := await self._refusal(message)) is not None:
                        outcomes.fail_from(position, fault)
                        break
                    self._add(message, position, outcomes)
                await outcomes.settled
        except TimeoutError:
            self.failing = True
        late = NotAcknowledged(f"Kafka has not acknowledged it within {self._seconds:g} s")
        return outcomes.closed(late)

    async def renew(self) -> None:
        """Replace the connection; what is under way is still sent by the former one, if it can."""
        if self._renewing.locked():
            return
        async with self._renewing:
            try:
                producer = await self._started()
            except BrokerUnavailable as error:
                log.warning("not connected again", error=str(error))
                return
            former, self._producer, self._lease = self._producer, producer, None
            self.failing = False
            self._background(former.stop())

    async def close(self) -> None:
        """Close the connection; what nobody waits for any more is given some seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._producer.stop(), CLOSE_SECONDS)

    async def _started(self) -> AIOKafkaProducer:
        use_safe_connections()
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.brokers,
            acks="all",
            request_timeout_ms=int(self._seconds * 1000),  # also when a batch is given up
            max_request_size=MESSAGE_BYTES,
            max_batch_size=BATCH_BYTES,
            **self._settings.client_options,
        )
        try:
            async with asyncio.timeout(self._seconds):
                await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise BrokerUnavailable(self._settings.brokers, str(error) or "no answer in time") from error
        return producer

    async def _refusal(self, message: Observation | Prior) -> Exception | None:
        """Why a message cannot be sent now, as far as is known."""
        if self.in_flight > MOST_IN_FLIGHT:
            return NotAcknowledged("too much waits for Kafka to acknowledge it")
        if not self._counts:
            try:
                await self._identify()
            except (KafkaError, OSError) as error:
                self.failing = True
                return _explained(error)
        return None

    def _add(self, message: Observation | Prior, position: int, outcomes: Outcomes) -> None:
        key, value = message.entity.encode(), message.to_json()
        if isinstance(message, Observation):
            topic, kind = self._settings.observations, cloudevents.OBSERVATION
        else:
            topic, kind = self._settings.priors, cloudevents.PRIOR
        event = message.id or f"{self._events}-{next(self._numbers)}"
        headers = cloudevents.headers(kind, self._source, event, message.time)
        place = TopicPartition(topic, partition_of(key, self._counts[topic]))
        queue = self._queues.get(place)
        if queue is None:
            queue = self._queues[place] = PartitionQueue(place)
        queue.waiting.append(QueuedMessage(key, value, headers, position, outcomes))
        self.in_flight += len(value)
        if not queue.is_moving:
            queue.is_moving = True
            self._background(self._move(queue))

    async def _move(self, queue: PartitionQueue) -> None:
        """Send what waits in a queue, one batch after the other."""
        try:
            while queue.waiting:
                try:
                    # aiokafka gives a batch up after half of this, but not once it has stopped to ask for leaders
                    async with asyncio.timeout(2 * self._seconds + 1):
                        await self._send_batch(queue)
                except (KafkaError, OSError) as error:
                    self._fail(queue, error)
        except Exception as error:
            self._fail(queue, error)
            raise
        finally:
            queue.is_moving = False

    async def _send_batch(self, queue: PartitionQueue) -> None:
        lease = await self._identify()
        batch = self._producer.create_batch()
        while queue.waiting:
            if queue.waiting[0].outcomes.settled.cancelled():  # its sender was told that it is not taken
                self._settle(queue.waiting.popleft(), NotAcknowledged("too late"))
            elif not queue.pack(batch):
                break
        batch.close()
        if not queue.sent:
            return
        set_producer_state(
            batch, lease.producer, lease.epoch, lease.number(queue.place, batch.record_count())
        )
        first = await self._offset_of(batch, queue.place)
        sent, queue.sent = queue.sent, []
        for offset, message in enumerate(sent, first):
            place = Place(queue.place.topic, queue.place.partition, offset if first >= 0 else first)
            self._settle(message, place)
        self.failing = False

    async def _offset_of(self, batch: Any, place: TopicPartition) -> int:
        """Send a batch, again if the broker is away for a moment; returns the offset of its first record."""
        async for attempt in attempts(_may_send_again, self._seconds, first=0.05, longest=0.5):
            with attempt:
                sent = await self._producer.send_batch(batch, place.topic, partition=place.partition)
                return int((await sent).offset)
        raise AssertionError("unreachable")

    def _fail(self, queue: PartitionQueue, error: Exception) -> None:
        """Give up the batch under way, and what waits behind it."""
        self.failing, self._lease = True, None
        failed, queue.sent = [*queue.sent, *queue.waiting], []
        queue.waiting.clear()
        for message in failed:
            self._settle(message, _explained(error))

    def _settle(self, message: QueuedMessage, outcome: Place | Exception) -> None:
        self.in_flight -= len(message.value)
        message.outcomes.settle(message.position, outcome)

    async def _identify(self) -> Lease:
        """The producer id of the next batch; also learns the number of partitions."""
        if self._lease is not None:
            return self._lease
        async with self._identifying:
            async for attempt in attempts(_may_retry, self._seconds, first=0.05, longest=1.0):
                with attempt:
                    if self._lease is None:
                        self._lease = await self._new_lease()
                    return self._lease
        raise AssertionError("unreachable")

    async def _new_lease(self) -> Lease:
        producer, topics = self._producer, (self._settings.observations, self._settings.priors)
        self._counts = {topic: len(await producer.partitions_for(topic)) for topic in topics}
        return Lease("", *await new_producer_id(producer.client))

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _may_retry(error: BaseException) -> bool:
    return isinstance(error, KafkaError) and bool(error.retriable)


def _may_send_again(error: BaseException) -> bool:
    """aiokafka itself tries again after other errors."""
    return isinstance(error, NodeNotReadyError | KafkaConnectionError)


def _explained(error: BaseException) -> Exception:
    """The error of Kafka's client as one that says what it means here."""
    if isinstance(error, (NotAcknowledged, BrokerUnavailable)):
        return error
    return NotAcknowledged(f"{type(error).__name__}: {error}")
