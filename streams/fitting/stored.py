"""Observations that a topic holds, as a recording."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from beliefstream.schemas import Observation, Reason, Unusable, parse
from beliefstream.streams.bridges.mapping import Found
from beliefstream.streams.kafka.connection import BrokerUnavailable, Span, TopicReader

READING_SECONDS = 60.0
SLOWEST = 5000.0  # records that are read in a second, at least


class Part(NamedTuple):
    """Which observations are kept: of these entities, or of all if there is none, from a time on, and the newest.

    At most `most` are held in memory at a time.
    """

    most: int
    entities: Collection[str] = ()
    since: float = -math.inf


@dataclass
class Refusals:
    """Messages that cannot be used: their number, and the first, of each reason."""

    counts: Counter[Reason] = field(default_factory=Counter)
    first: dict[Reason, Found] = field(default_factory=dict)

    def add(self, found: Found) -> None:
        """Count a message whose `observation` is why it cannot be used."""
        assert isinstance(found.observation, Unusable)
        self.counts[found.observation.reason] += 1
        self.first.setdefault(found.observation.reason, found)


@dataclass
class Stored:
    """What was read of a topic.

    Attributes:
        found: the observations that are kept, in no order.
        older: observations that were left out, as there were more than may be kept.
        records: records from the beginning of the topic to its end at the start, at most: some may be deleted.
        unread: places of partitions that could not be read to that end in time.
    """

    records: int
    found: list[Found] = field(default_factory=list)
    older: int = 0
    unread: list[str] = field(default_factory=list)


def read_observations(
    servers: str | list[str],
    topic: str,
    *,
    part: Part,
    refusals: Refusals,
    seconds: float | None = None,
    **kafka_options: Any,
) -> Stored:
    """Read a topic of observations from its beginning to its present end, without a group.

    Args:
        servers: `host:port`, or several in a list or separated by commas.
        topic: of observations.
        part: which are kept.
        refusals: counts the messages that are no observations, or whose key is not their entity.
        seconds: after which reading ends with what was read; None for a minute, and more of a long topic.
        kafka_options: options of `kafka.KafkaConsumer`, such as `security_protocol`, `sasl_*` and `ssl_*`.

    Raises:
        BrokerUnavailable: no broker answers in time.
        TopicMissing: the broker has no such topic.
    """
    with TopicReader(servers, topic, kafka_options) as reader:
        spans = reader.spans()
        stored = Stored(sum(span.end - span.begin for span in spans.values()))
        limit = READING_SECONDS + stored.records / SLOWEST if seconds is None else seconds
        kept: list[tuple[float, int, Found]] = []  # a heap, the oldest first; numbers order those of one time
        for number, found in enumerate(_read(reader, spans, limit, stored.unread)):
            if isinstance(found.observation, Unusable):
                refusals.add(found)
                continue
            time, entity = found.observation.time, found.observation.entity
            if time < part.since or (part.entities and entity not in part.entities):
                continue
            heapq.heappush(kept, (time, number, found))
            if len(kept) > part.most:
                heapq.heappop(kept)
                stored.older += 1
    stored.found = [found for _, _, found in kept]
    return stored


def _read(reader: TopicReader, spans: dict[int, Span], seconds: float, unread: list[str]) -> Iterator[Found]:
    """Yield what the records up to the ends are; partitions whose end does not come in time are noted."""
    done = {number: span.begin for number, span in spans.items()}
    try:
        for record in reader.read(spans, seconds):
            done[record.partition] = record.offset + 1
            if record.offset < spans[record.partition].end:
                yield _found(record)
    except BrokerUnavailable:
        unread += [
            f"{place.topic}-{place.partition} from {done[place.partition]} to {spans[place.partition].end - 1}"
            for place in reader.partitions
            if done[place.partition] < spans[place.partition].end
        ]


def _found(record: Any) -> Found:
    place = f"{record.topic} {record.partition}:{record.offset}"
    try:
        observation = parse(Observation, record.value)
        if record.key != observation.entity.encode():
            raise Unusable(Reason.key_mismatch, f"entity: {observation.entity!r} is not the record's key")
    except Unusable as fault:
        return Found(place, fault)
    return Found(place, observation)
