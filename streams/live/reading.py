"""One consumer without a group for all topics that the page shows."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import structlog
from kafka import KafkaConsumer, TopicPartition

from beliefstream.schemas import DeadLetter, Model, Posterior, Sensor, Unusable, parse, parse_sensor
from beliefstream.streams.client.publisher import Place
from beliefstream.streams.client.received_dead_letter import ReceivedDeadLetter
from beliefstream.streams.kafka.connection import TopicReader, connect
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live.latencies import Seen
from beliefstream.streams.live.posteriors import AnyPosterior, plain_posterior

log = structlog.get_logger(__name__)

LOOK_BACK = 200  # posteriors and dead letters of a partition that are read at the start
FETCH_MOST = 5000  # records at once


@dataclass
class Batch:
    """What has been read in one go.

    Attributes:
        posteriors: in the order of each partition; of an entity only the newest, once the start has been read.
        received: how many posteriors there were.
        delay: seconds from a posterior's record to its reading, of the newest; None if there was none.
        stamps: time of the record of each posterior, in seconds.
        observations: by entity, as they are on the topic.
        observed: how many observations there were.
        sensors, models: by name; None for those that were removed.
        sensor_health: the newest of each partition and sensor, as they are on the topic.
    """

    posteriors: list[AnyPosterior] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    received: int = 0
    delay: float | None = None
    observations: dict[str, deque[Seen]] = field(default_factory=dict)
    observed: int = 0
    sensors: dict[str, Sensor | None] = field(default_factory=dict)
    models: dict[str, Model | None] = field(default_factory=dict)
    dead_letters: list[ReceivedDeadLetter] = field(default_factory=list)
    sensor_health: dict[tuple[int, bytes], bytes | None] = field(default_factory=dict)


class TopicsReader:
    """Reads definitions and sensor health from the beginning, and the other topics from shortly before their end.

    Args:
        servers: `host:port`, or several separated by commas.
        names: of the topics.
        kept: how many observations of an entity are returned at most.
        **options: of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*`, `ssl_*`.

    Attributes:
        ends: of each partition, after the last record that was read or there at the start.

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
        starts = _starts(servers, look_back, options)
        self.ends = {place: end for place, (_, end) in starts.items()}
        self._behind = {place: end for place, (start, end) in starts.items() if start < end}
        settings = {
            **options,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # only if records have been deleted before they were read
        }
        self._consumer: Any = connect(KafkaConsumer, servers, settings)
        self._consumer.assign(list(starts))
        for place, (start, _) in starts.items():
            self._consumer.seek(place, start)

    def collect(self, seconds: float) -> Batch:
        """Read for that long, or until the first fetch after it."""
        deadline, records = time.monotonic() + seconds, list[Any]()
        while (left := deadline - time.monotonic()) > 0:
            for fetched in self._consumer.poll(timeout_ms=left * 1000, max_records=FETCH_MOST).values():
                records.extend(fetched)
                last = fetched[-1]
                self.ends[TopicPartition(last.topic, last.partition)] = last.offset + 1
        return self._sort(records)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(autocommit=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sort(self, records: Iterable[Any]) -> Batch:
        batch, names = Batch(), self._names
        posteriors: list[Any] = []
        for record in records:
            if record.topic == names.posteriors:
                posteriors.append(record)
            elif record.topic == names.observations:
                self._observation(batch, record)
            elif record.topic == names.priors:
                continue  # read for their number only
            elif record.topic == names.sensor_health:
                batch.sensor_health[record.partition, record.key or b""] = record.value
            else:
                _read(record, lambda record=record: self._other(batch, record))
        batch.received = len(posteriors)
        if posteriors:
            batch.delay = max(0.0, time.time() - posteriors[-1].timestamp / 1000)
        for record in self._wanted(posteriors):
            _read(record, lambda record=record: self._posterior(batch, record))
        return batch

    def _wanted(self, records: list[Any]) -> list[Any]:
        """All of them at the start, for the history; then the newest of each entity, which cost less."""
        if not self._behind:
            return list({record.key: record for record in records}.values())
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            if record.offset + 1 >= self._behind.get(place, record.offset + 2):
                del self._behind[place]
        self._behind = {
            place: end for place, end in self._behind.items() if place.topic == self._names.posteriors
        }
        return records

    def _posterior(self, batch: Batch, record: Any) -> None:
        batch.posteriors.append(plain_posterior(record.value) or parse(Posterior, record.value))
        batch.stamps.append(record.timestamp / 1000)

    def _observation(self, batch: Batch, record: Any) -> None:
        batch.observed += 1
        if record.key is not None and record.value is not None:
            entity = record.key.decode(errors="replace")
            seen = Seen(record.partition, record.offset, record.timestamp / 1000, record.value)
            batch.observations.setdefault(entity, deque(maxlen=self._kept)).append(seen)

    def _other(self, batch: Batch, record: Any) -> None:
        if record.topic == self._names.dead_letters:
            letter = DeadLetter.from_record(record.key, record.value, record.headers)
            place = Place(record.topic, record.partition, record.offset)
            batch.dead_letters.append(ReceivedDeadLetter(letter, place, record.timestamp / 1000))
            return
        key = (record.key or b"").decode(errors="replace")
        if record.topic == self._names.sensors:
            batch.sensors[key] = None if record.value is None else parse_sensor(record.value)
        else:
            batch.models[key] = None if record.value is None else parse(Model, record.value)


def _read(record: Any, read: Any) -> None:
    """Call `read`; skip a record that is not valid, as clients do."""
    try:
        read()
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
