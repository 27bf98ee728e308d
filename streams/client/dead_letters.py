"""Consumer of dead letters."""

from __future__ import annotations

import hashlib
import heapq
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from pydantic_core import from_json

from beliefstream.schemas import DeadLetter, Reason, Replay, Unusable, cloudevents, parse
from beliefstream.streams.client.producers import Place
from beliefstream.streams.kafka.connection import (
    BrokerUnavailable,
    Closing,
    Span,
    TopicReader,
    connect,
    connect_timeout,
    require_known,
)

READ_BYTES = 64 * 1024  # entity and sensor are searched in the first bytes of a value
log = structlog.get_logger(__name__)
POLL_SECONDS = 0.2
SILENCE_SECONDS = 30.0  # reading fails after this time without a record before the end
FETCH_MOST = 2000  # records at once; a kafka-python fetch is 1 MiB per partition, or one larger record


@dataclass(frozen=True)
class ReceivedDeadLetter:
    """A dead letter with its position in the topic of dead letters.

    Attributes:
        letter: the message with its original key and value, the reason, the detail and the source.
        place: position of the dead letter.
        time: time of writing by the worker's clock, in seconds since the epoch.
    """

    letter: DeadLetter
    place: Place
    time: float

    @classmethod
    def of(cls, record: Any) -> Self:
        """Read a record; raises Unusable if it is no dead letter."""
        letter = DeadLetter.from_record(record.key, record.value, record.headers)
        return cls(letter, Place(record.topic, record.partition, record.offset), record.timestamp / 1000)

    @cached_property
    def id(self) -> str:
        """Identifier of the message, topic/partition:offset#digest; equal for two dead letters of one message."""
        letter = self.letter
        digest = hashlib.sha256()
        for part in (letter.key, letter.value):
            digest.update(b"-" if part is None else b"%d:" % len(part) + part)
        return f"{self.source}#{digest.hexdigest()[:16]}"

    @property
    def source(self) -> str:
        """Position of the original message, as topic/partition:offset."""
        return f"{self.letter.topic}/{self.letter.partition}:{self.letter.offset}"

    @cached_property
    def entity(self) -> str | None:
        """Entity in the message, otherwise its key; None if neither can be read. It is not validated."""
        return self._field("entity") or _text(self.letter.key)

    @cached_property
    def sensor(self) -> str | None:
        """Sensor in the message; None if it cannot be read. It is not validated."""
        return self._field("sensor")

    @cached_property
    def _fields(self) -> dict[str, Any]:
        try:  # fields can be read from an incomplete message too
            content = from_json((self.letter.value or b"")[:READ_BYTES], allow_partial=True)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _field(self, name: str) -> str | None:
        value = self._fields.get(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Selection:
    """A filter for dead letters; a letter must match all conditions.

    Attributes:
        reasons: allowed reasons; all if empty.
        sensors: allowed sensors; all if empty.
        entities: allowed entities, in the message or as its key; all if empty.
        since: earliest time of writing, in seconds since the epoch.
    """

    reasons: Collection[Reason] = ()
    sensors: Collection[str] = ()
    entities: Collection[str] = ()
    since: float = -math.inf

    @property
    def is_everything(self) -> bool:
        """Whether all dead letters match."""
        return not (self.reasons or self.sensors or self.entities) and self.since == -math.inf

    def __contains__(self, received: ReceivedDeadLetter) -> bool:
        letter = received.letter
        return (
            received.time >= self.since
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.sensors or received.sensor in self.sensors)
            and (not self.entities or bool({received.entity, _text(letter.key)} & {*self.entities}))
        )


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="backslashreplace")


class DeadLetterConsumer(Closing):
    """An iterator of dead letters, each with its reason, its source and the original bytes.

    >>> with DeadLetterConsumer("localhost:9092", from_beginning=True, timeout=0) as letters:
    ...     for received in letters:
    ...         print(received.time, received.letter.reason, received.letter.detail, received.letter.value)

    It starts at the end that the topic has when the consumer is created; `from_beginning`, `since` and `last` select
    an earlier start. Existing letters come in order of time, later ones in the order of arrival. Records that are
    neither dead letters nor replay notes are logged, counted in `skipped` and skipped. The consumer commits no
    offsets. It is not thread-safe.

    Args:
        bootstrap_servers: `host:port`, or several in a list or separated by commas.
        topic: topic of dead letters.
        reasons: select letters with these reasons; all if empty.
        sensors: select letters of these sensors, where the message can be read; all if empty.
        entities: select letters whose entity or key is one of these; all if empty.
        since: select letters written at or after this time, in seconds since the epoch.
        from_beginning: start with the oldest letter in the topic.
        last: start at most this many records before the end of each partition.
        timeout: seconds without a letter after which an iteration ends; never if None.
        **kafka_options: options of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers within 10 s (option `bootstrap_timeout_ms`), or while reading.
        TopicMissing: the broker has no such topic.

    Attributes:
        replays: the replay notes read so far.
        skipped: number of records that were neither dead letters nor replay notes.
    """

    def __init__(
        self,
        bootstrap_servers: str | list[str],
        topic: str = "dead-letters",
        *,
        reasons: Collection[Reason] = (),
        sensors: Collection[str] = (),
        entities: Collection[str] = (),
        since: float | None = None,
        from_beginning: bool = False,
        last: int | None = None,
        timeout: float | None = None,
        **kafka_options: Any,
    ) -> None:
        require_known(kafka_options, KafkaConsumer)
        self.topic, self.replays, self.skipped = topic, list[Replay](), 0
        first = -math.inf if since is None else since
        self.selection = Selection({*reasons}, {*sensors}, {*entities}, first)
        self._servers, self._timeout = bootstrap_servers, timeout
        with TopicReader(bootstrap_servers, topic, kafka_options) as reader:
            spans = reader.spans()
        self._spans = {TopicPartition(topic, number): span for number, span in spans.items()}
        options = {
            **kafka_options,
            "group_id": None,
            "enable_auto_commit": False,
            "auto_offset_reset": "earliest",  # only if letters have been deleted before they were read
        }
        self._consumer: Any = connect(KafkaConsumer, bootstrap_servers, options)
        self._next = self._starts(since, from_beginning, last, connect_timeout(kafka_options))

    def __iter__(self) -> Iterator[ReceivedDeadLetter]:
        yield from self.stored()
        deadline = self._deadline()
        while time.monotonic() < deadline:
            for received in self.poll(min(POLL_SECONDS, max(0.0, deadline - time.monotonic()))):
                yield received
                deadline = self._deadline()

    def stored(self) -> Iterator[ReceivedDeadLetter]:
        """Yield the letters that existed when the consumer was created, in order of time."""
        stored = map(self._stored_in, self._spans.items())
        for record in heapq.merge(*stored, key=lambda record: record.timestamp):
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
            if (received := self._accept(record)) is not None:
                yield received

    def poll(self, timeout: float = 1.0) -> list[ReceivedDeadLetter]:
        """Return the next letters, partition by partition; waits at most `timeout` seconds for the first."""
        self._assign(self._next)
        fetched = self._consumer.poll(timeout_ms=timeout * 1000, max_records=FETCH_MOST)
        self._next = {partition: self._consumer.position(partition) for partition in self._next}
        found = [self._accept(record) for records in fetched.values() for record in records]
        return [received for received in found if received is not None]

    @property
    def ends(self) -> dict[int, int]:
        """End offset of each partition when the consumer was created."""
        return {partition.partition: span.end for partition, span in self._spans.items()}

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def _deadline(self) -> float:
        return math.inf if self._timeout is None else time.monotonic() + self._timeout

    def _starts(
        self, since: float | None, from_beginning: bool, last: int | None, timeout: float
    ) -> dict[Any, int]:
        """Return the start offset of each partition; if it is too early, the selection excludes older letters."""
        if last is not None:
            return {each: max(span.begin, span.end - last) for each, span in self._spans.items()}
        if since is None:
            return {each: span.begin if from_beginning else span.end for each, span in self._spans.items()}
        stamp = max(0, math.floor(since * 1000))
        try:
            found = self._consumer.offsets_for_times(
                dict.fromkeys(self._spans, stamp), timeout_ms=timeout * 1000
            )
        except KafkaError as error:
            raise BrokerUnavailable(self._servers, error) from error
        # a partition without a record that new starts at its end, where every later letter is selected
        return {
            each: span.end if found.get(each) is None or found[each].offset < 0 else found[each].offset
            for each, span in self._spans.items()
        }

    def _assign(self, starts: Mapping[Any, int]) -> None:
        """Read only these partitions, from these offsets; pausing the others loses records in kafka-python 3.0."""
        if is_new := self._consumer.assignment() != starts.keys():
            self._consumer.assign(list(starts))
        for partition, start in starts.items():
            if is_new or self._consumer.position(partition) != start:
                self._consumer.seek(partition, start)

    def _stored_in(self, place: tuple[Any, Span]) -> Iterator[Any]:
        """Yield the records that a partition had when the consumer was created."""
        partition, span = place
        position = self._next[partition]
        while position < span.end:
            self._assign({partition: position})
            records: list[Any] = []
            deadline = time.monotonic() + SILENCE_SECONDS
            # deletion may have removed all remaining records
            while not records and (position := self._consumer.position(partition)) < span.end:
                if time.monotonic() > deadline:
                    raise BrokerUnavailable(
                        self._servers, f"the end of {self.topic} could not be read in time"
                    )
                fetched = self._consumer.poll(timeout_ms=POLL_SECONDS * 1000, max_records=FETCH_MOST)
                records = fetched.get(partition, [])
            position = self._consumer.position(partition)
            yield from (record for record in records if record.offset < span.end)

    def _accept(self, record: Any) -> ReceivedDeadLetter | None:
        """Return the letter in a record, if it is selected; replay notes are stored."""
        try:
            if cloudevents.parse(record.headers).get("type") == cloudevents.REPLAY:
                self.replays.append(parse(Replay, record.value))
                return None
            received = ReceivedDeadLetter.of(record)
        except Unusable as error:
            self.skipped += 1
            log.warning(
                "record skipped: not a dead letter",
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                detail=error.detail,
            )
            return None
        return received if received in self.selection else None
