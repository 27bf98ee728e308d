"""Writes messages to Kafka from an event loop, and says of each whether Kafka has it.

Messages of one partition wait while others of it are under way, and then travel together. aiokafka packs and sends them
in the same event loop: kafka-python's thread would compete with the loop for every message.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, count, islice, repeat
from typing import Any
from uuid import uuid4

import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, KafkaTimeoutError

from beliefstream.schemas import DeadLetter, Observation, Prior, cloudevents
from beliefstream.streams.client import BrokerUnavailable, Place
from beliefstream.streams.kafka.aiokafka_clients import use_safe_connections
from beliefstream.streams.kafka.partitioners import partition_of
from beliefstream.streams.kafka.producing import (
    Lease,
    ProducerBatch,
    Record,
    attempts,
    deliver_partition,
    pack_batches,
)
from beliefstream.streams.kafka.requests import new_producer_id
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)
MOST_IN_FLIGHT = 64 * 1024 * 1024  # bytes of messages that Kafka has not acknowledged; more are refused
SLICE = 100  # messages taken before other requests have a turn
BATCH_BYTES = 262144
REQUEST_SECONDS = 30.0  # for one answer of a broker, at most
CLOSE_SECONDS = 5.0

Message = Observation | Prior | DeadLetter
Outcome = Place | Exception


class NotAcknowledged(ConnectionError):
    """Kafka has not acknowledged a message in time, or cannot be reached; it may have it all the same."""


@dataclass(eq=False)
class Portion:
    """Messages of one partition that were given at once; their outcomes are set together.

    Attributes:
        positions: of the messages among those that were given.
    """

    outcomes: asyncio.Future[list[Outcome]]
    records: list[Record] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    size: int = 0  # bytes of values


class Writer:
    """Sends messages, and waits until Kafka has acknowledged them. Used in one event loop.

    Batches have sequence numbers of a producer id, so that the broker stores a batch once that is sent again. After a
    failure the next batch has another producer id, since it is not known whether the broker has the failed one.

    Args:
        source: URI reference of the sender, for the CloudEvents headers.
        kinds: what is sent: observations, priors, dead letters.
        seconds: how long it is tried.
    """

    def __init__(
        self, settings: Settings, source: str, kinds: Sequence[type[Message]], seconds: float
    ) -> None:
        self._settings, self._source, self._seconds = settings, source, seconds
        topics = {
            Observation: settings.names.observations,
            Prior: settings.names.priors,
            DeadLetter: settings.names.dead_letters,
        }
        self._topics: dict[type[Message], str] = {kind: topics[kind] for kind in kinds}
        self._events, self._numbers = uuid4().hex, count(1)
        self._queues: dict[TopicPartition, deque[Portion]] = {}
        self._moving: set[TopicPartition] = set()  # the partitions whose messages a task sends
        self._counts: dict[str, int] = {}
        self._lease: Lease | None = None
        self._identifying, self._renewing = asyncio.Lock(), asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.in_flight = 0  # bytes of messages that Kafka has not acknowledged
        self.failing = False  # whether the last outcome was a failure

    @property
    def topics(self) -> list[str]:
        """The topics that are written to."""
        return [*self._topics.values()]

    @property
    def client(self) -> AIOKafkaClient:
        """The connections to brokers."""
        return self._producer.client

    async def start(self) -> None:
        """Connect.

        Raises:
            BrokerUnavailable: no broker answers in time.
        """
        self._producer = await self._started()
        try:
            async with asyncio.timeout(min(self._seconds, REQUEST_SECONDS)):
                await self._identify()
        except (KafkaError, OSError) as error:
            await self._producer.stop()
            raise BrokerUnavailable(self._settings.brokers, error) from error

    async def write(self, messages: Sequence[Message]) -> list[Outcome]:
        """Send the messages in order; returns the place of each, or why Kafka may not have it.

        The offset of a place is -1 if the broker only says that it has the message already.
        """
        late = NotAcknowledged(f"Kafka has not acknowledged it within {self._seconds:g} s")
        outcomes: list[Outcome] = [late] * len(messages)
        portions: list[Portion] = []
        try:
            async with asyncio.timeout(self._seconds + 1):
                for start in range(0, len(messages), SLICE):
                    if start:
                        await asyncio.sleep(0)
                    if self.in_flight > MOST_IN_FLIGHT:
                        refused = NotAcknowledged("too much waits for Kafka to acknowledge it")
                        outcomes[start:] = [refused] * (len(messages) - start)
                        break
                    portions += self._add(messages, start)
                for portion in portions:
                    await portion.outcomes
        except TimeoutError:
            self.failing = True
        finally:
            for portion in portions:
                portion.outcomes.cancel()  # if it is not settled: what still waits is not sent any more
        for portion in portions:
            if not portion.outcomes.cancelled():
                for position, outcome in zip(portion.positions, portion.outcomes.result(), strict=True):
                    outcomes[position] = outcome
        return outcomes

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
            request_timeout_ms=int(min(self._seconds, REQUEST_SECONDS) * 1000),
            max_request_size=MESSAGE_BYTES,
            max_batch_size=BATCH_BYTES,
            **self._settings.client_options,
        )
        try:
            async with asyncio.timeout(min(self._seconds, REQUEST_SECONDS)):
                await producer.start()
        except (KafkaError, OSError) as error:
            await producer.stop()
            raise BrokerUnavailable(self._settings.brokers, str(error) or "no answer in time") from error
        return producer

    def _add(self, messages: Sequence[Message], start: int) -> list[Portion]:
        """Queue the messages from `start` to the end of its slice."""
        portions: dict[TopicPartition, Portion] = {}
        for position in range(start, min(start + SLICE, len(messages))):
            record = self._record(messages[position])
            place = TopicPartition(record.topic, record.partition)
            portion = portions.get(place)
            if portion is None:
                portion = portions[place] = Portion(asyncio.get_running_loop().create_future())
            portion.records.append(record)
            portion.positions.append(position)
            portion.size += len(record.value or b"")
        for place, portion in portions.items():
            self.in_flight += portion.size
            self._queues.setdefault(place, deque()).append(portion)
            if place not in self._moving:
                self._moving.add(place)
                self._background(self._move(place))
        return [*portions.values()]

    def _record(self, message: Message) -> Record:
        topic = self._topics[type(message)]
        count = self._counts[topic]
        if not isinstance(message, (Observation, Prior)):
            headers = message.headers()
            return Record(topic, next(self._numbers) % count, message.key, message.value, headers)
        kind = cloudevents.OBSERVATION if isinstance(message, Observation) else cloudevents.PRIOR
        key = message.entity.encode()
        event = message.id or f"{self._events}-{next(self._numbers)}"
        headers = cloudevents.headers(kind, self._source, event, message.time)
        return Record(topic, partition_of(key, count), key, message.to_json(), headers)

    async def _move(self, place: TopicPartition) -> None:
        """Send what waits for a partition, in order."""
        queue = self._queues[place]
        try:
            while portions := self._next(queue):
                await self._send(place, portions)
        finally:
            self._moving.discard(place)

    def _next(self, queue: deque[Portion]) -> list[Portion]:
        """The portions to send together, without those whose sender was told that they are not taken."""
        portions: list[Portion] = []
        size = 0
        while queue and (not portions or size + queue[0].size <= BATCH_BYTES):
            portion = queue.popleft()
            if portion.outcomes.cancelled():
                self.in_flight -= portion.size
                continue
            portions.append(portion)
            size += portion.size
        return portions

    async def _send(self, place: TopicPartition, portions: list[Portion]) -> None:
        """Send the portions, and settle them; if that fails, those that wait behind them fail too."""
        batches: Sequence[ProducerBatch] = ()
        fault: Exception = NotAcknowledged("the bridge has failed; its log says why")
        try:
            # aiokafka gives a batch up after a while, but not once it has stopped to ask for leaders
            async with asyncio.timeout(2 * self._seconds + 1):
                lease = await self._identify()
                records = [record for portion in portions for record in portion.records]
                batches = pack_batches(self._producer, records, {place.partition: lease})[place]
                await self._deliver(place, batches)
            self.failing = False
        except (KafkaError, OSError) as error:
            fault = _explained(error)
        finally:
            if not batches or not all(batch.delivered for batch in batches):
                self.failing, self._lease = True, None
                portions += self._queues[place]
                self._queues[place].clear()
            self._settle(portions, chain(_outcomes(place, batches, fault), repeat(fault)))

    async def _deliver(self, place: TopicPartition, batches: Sequence[ProducerBatch]) -> None:
        async for attempt in attempts(_may_retry, self._seconds, first=0.05, longest=0.5):
            with attempt:
                await deliver_partition(self._producer, place, batches)
                return

    def _settle(self, portions: Sequence[Portion], outcomes: Iterator[Outcome]) -> None:
        for portion in portions:
            self.in_flight -= portion.size
            found = [*islice(outcomes, len(portion.records))]
            if not portion.outcomes.done():
                portion.outcomes.set_result(found)

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
        producer = self._producer
        self._counts = {topic: len(await producer.partitions_for(topic)) for topic in self.topics}
        return Lease("", *await new_producer_id(producer.client))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _outcomes(place: TopicPartition, batches: Sequence[ProducerBatch], fault: Exception) -> Iterator[Outcome]:
    """The outcome of each record of the batches."""
    for batch in batches:
        number = batch.filled.record_count()
        if not batch.delivered:
            yield from repeat(fault, number)
            continue
        for offset in range(number):
            known = -1 if batch.last is None else batch.last - number + 1 + offset
            yield Place(place.topic, place.partition, known)


def _may_retry(error: BaseException) -> bool:
    """Whether a batch may be sent again: aiokafka gives it up after the time for one answer."""
    return isinstance(error, KafkaTimeoutError) or (isinstance(error, KafkaError) and bool(error.retriable))


def _explained(error: BaseException) -> Exception:
    """The error of Kafka's client as one that says what it means here."""
    if isinstance(error, (NotAcknowledged, BrokerUnavailable)):
        return error
    return NotAcknowledged(f"{type(error).__name__}: {error}")
