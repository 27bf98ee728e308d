"""Consumers without a group for all topics that the page shows."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient

from beliefstream.schemas import Model, Posterior, Sensor, Unusable, parse, parse_sensor
from beliefstream.streams.client.dead_letters import ReceivedDeadLetter
from beliefstream.streams.kafka.aiokafka_clients import client_of, stop_consumer, use_safe_connections
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live.beliefs import Seen
from beliefstream.streams.live.posteriors import Group, PlainPosterior, groups_of, plain, read_posteriors

log = structlog.get_logger(__name__)

LOOK_BACK = 200  # posteriors and dead letters of a partition that are read at the start
# A broker answers after this long, with all that has come: records together cost less, and go into one frame.
# 30 ms would bring a posterior to the page 20 ms earlier, for a seventh more of the processor; 120 ms have the reverse.
FETCH_OPTIONS = {"fetch_max_wait_ms": 80, "fetch_min_bytes": 4 << 20, "max_partition_fetch_bytes": 4 << 20}
TURNS = 4  # of the loop, in which the consumer asks for the next records: the broker waits while these are decoded


@dataclass
class Batch:
    """What has been read in one go; None for a definition or a sensor's health that was removed."""

    # of an entity only the newest, once the start has been read; and the times of their records by place, seconds
    posteriors: list[Group] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    received: int = 0  # how many posteriors there were
    delay: float | None = None  # seconds from the newest posterior's record to its reading
    observations: dict[str, deque[Seen]] = field(default_factory=dict)  # by entity
    observed: int = 0  # how many observations there were
    sensors: dict[str, Sensor | None] = field(default_factory=dict)
    models: dict[str, Model | None] = field(default_factory=dict)
    dead_letters: list[ReceivedDeadLetter] = field(default_factory=list)
    # the newest record of each partition and sensor; and the time of each partition's newest that removes none, seconds
    sensor_health: dict[tuple[int, bytes], bytes | None] = field(default_factory=dict)
    health_stamps: dict[int, float] = field(default_factory=dict)


class TopicsReader:
    """Reads definitions and sensor health from the beginning, and the other topics from shortly before their end.

    Of an entity it returns at most `kept` observations at once.

    Raises:
        BrokerUnavailable: no broker answers within 10 s.
        TopicMissing: the broker lacks one of the topics.
    """

    def __init__(self, servers: str, names: TopicNames, kept: int, **options: Any) -> None:
        self._names, self._kept = names, kept
        look_back = {
            names.observations: 0,
            names.priors: 0,
            names.posteriors: LOOK_BACK,
            names.dead_letters: LOOK_BACK,
            names.sensors: None,
            names.models: None,
            names.sensor_health: None,
        }
        self._starts = _starts(servers, look_back, options)
        # of each partition, after the last record that was read or there at the start
        self.ends = {place: end for place, (_, end) in self._starts.items()}
        self._behind = {
            place: end
            for place, (start, end) in self._starts.items()
            if start < end and place.topic == names.posteriors
        }
        self._options = {**options, "bootstrap_servers": servers}
        # the others apart, as a consumer waits for all of its partitions together
        self._consumers: list[AIOKafkaConsumer] = []

    @property
    def client(self) -> AIOKafkaClient | None:
        """Its connections to brokers; None before the start."""
        return client_of(self._consumers[0]) if self._consumers else None

    async def start(self) -> None:
        """Connect, once, in the loop that then reads."""
        use_safe_connections()
        topics = (self._names.observations, self._names.posteriors)
        quick = {place for place in self._starts if place.topic in topics}
        plans: tuple[tuple[Collection[TopicPartition], Mapping[str, int]], ...]
        plans = (quick, FETCH_OPTIONS), (self._starts.keys() - quick, {})
        for places, options in plans[len(self._consumers) :]:
            self._consumers.append(await self._connected(places, options))

    async def _connected(
        self, places: Collection[TopicPartition], options: Mapping[str, int]
    ) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # only if records have been deleted before they were read
            **self._options,
            **options,
        )
        try:
            await consumer.start()
        except BaseException:
            await consumer.stop()
            raise
        consumer.assign(list(places))
        for place in places:
            consumer.seek(place, self._starts[place][0])
        return consumer

    async def collect(self, seconds: float) -> Batch:
        """Return what has come, after waiting at most so long for the first posterior or observation."""
        quick, others = self._consumers
        fetched = await quick.getmany(timeout_ms=int(1000 * seconds))
        fetched |= await others.getmany()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        batch, posteriors = Batch(), list[ConsumerRecord]()
        for place, records in fetched.items():
            self.ends[place] = records[-1].offset + 1
            self._sort(batch, place, records, posteriors)
        if posteriors:
            batch.received = len(posteriors)
            batch.delay = max(0.0, time.time() - max(each.timestamp for each in posteriors) / 1000)
            self._posteriors(batch, self._wanted(posteriors))
        return batch

    async def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers:
            await stop_consumer(consumer)

    def _sort(
        self,
        batch: Batch,
        place: TopicPartition,
        records: Sequence[ConsumerRecord],
        posteriors: list[ConsumerRecord],
    ) -> None:
        names = self._names
        if place.topic == names.posteriors:
            posteriors.extend(records)
        elif place.topic == names.observations:
            for record in records:
                self._observation(batch, record)
        elif place.topic == names.sensor_health:
            for record in records:
                batch.sensor_health[record.partition, record.key or b""] = record.value
                if record.value is not None:
                    batch.health_stamps[record.partition] = record.timestamp / 1000
        elif place.topic != names.priors:  # those are read for their number only
            for record in records:
                with _skipped_if_invalid(record):
                    self._other(batch, record)

    def _wanted(self, records: list[ConsumerRecord]) -> list[ConsumerRecord]:
        """All of them at the start, for the history; then the newest of each entity, which cost less."""
        if not self._behind:
            return list({record.key: record for record in records}.values())
        self._behind = {place: end for place, end in self._behind.items() if self.ends[place] < end}
        return records

    def _posteriors(self, batch: Batch, records: Sequence[ConsumerRecord]) -> None:
        batch.stamps = [record.timestamp / 1000 for record in records]
        batch.posteriors, left = read_posteriors([record.value for record in records])
        found: list[tuple[int, PlainPosterior]] = []
        for place in left:
            with _skipped_if_invalid(records[place]):
                found.append((place, plain(parse(Posterior, records[place].value))))
        batch.posteriors += groups_of(found)

    def _observation(self, batch: Batch, record: ConsumerRecord) -> None:
        batch.observed += 1
        if record.key is not None and record.value is not None:
            entity = record.key.decode(errors="replace")
            seen = Seen(record.partition, record.offset, record.timestamp / 1000, record.value)
            batch.observations.setdefault(entity, deque(maxlen=self._kept)).append(seen)

    def _other(self, batch: Batch, record: ConsumerRecord) -> None:
        if record.topic == self._names.dead_letters:
            batch.dead_letters.append(ReceivedDeadLetter.of(record))
            return
        key = (record.key or b"").decode(errors="replace")
        if record.topic == self._names.sensors:
            batch.sensors[key] = None if record.value is None else parse_sensor(record.value)
        else:
            batch.models[key] = None if record.value is None else parse(Model, record.value)


@contextmanager
def _skipped_if_invalid(record: ConsumerRecord) -> Iterator[None]:
    """Skip a record that is not valid, as clients do."""
    try:
        yield
    except Unusable as error:
        log.warning(
            "record skipped: not valid", topic=record.topic, offset=record.offset, detail=error.detail
        )


def _starts(
    servers: str, look_back: Mapping[str, int | None], options: dict[str, Any]
) -> dict[TopicPartition, tuple[int, int]]:
    """Where to begin in each partition, and its end; a topic without a number is read from its beginning."""
    starts = {}
    for topic, records in look_back.items():
        with TopicReader(servers, topic, options) as reader:
            for partition, span in reader.spans().items():
                start = span.begin if records is None else max(span.begin, span.end - records)
                starts[TopicPartition(topic, partition)] = (start, span.end)
    return starts
