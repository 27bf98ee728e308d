"""Finds records in the wrong partition for their key, counts them, and logs each cause once.

Such a record would start a second belief of its entity, and nothing else would show that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import structlog

from beliefstream.streams.kafka.partitioners import Cause, partition_of, recognise
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics

log = structlog.get_logger()
REMEMBERED = 256  # newest keys and partitions of a topic, used to recognise the cause
QUIET_SECONDS = 600.0  # between two log lines about the same topic and cause
CHECK_SECONDS = 1.0  # between two attempts to recognise a cause, unless there is more evidence


class Misplaced(NamedTuple):
    """A record in the wrong partition for its key."""

    topic: str
    key: bytes
    partition: int
    offset: int
    belongs: int

    @property
    def detail(self) -> str:
        """The detail for its dead letter."""
        return (
            f"partition: the record of {self.key.decode(errors='replace')!r} is in partition {self.partition}, and "
            f"murmur2 of its key gives {self.belongs}; docs/producers.md says how to set the producer's partitioner"
        )


class _Seen:
    """Misplaced records of one topic."""

    def __init__(self) -> None:
        self.placements: dict[tuple[bytes, int], None] = {}
        self.unlogged = 0
        self.last_logged: dict[Cause, float] = {}
        self.next_check, self.last_count = 0.0, 0

    def add(self, record: Misplaced) -> None:
        place = (record.key, record.partition)
        self.placements.pop(place, None)
        self.placements[place] = None
        if len(self.placements) > REMEMBERED:
            del self.placements[next(iter(self.placements))]
        self.unlogged += 1


class Placement:
    """Finds misplaced records.

    Args:
        names: the topics' names; records of observations and priors are checked.
        partitions: the number of partitions of these topics.
        refuse: whether misplaced records become dead letters.
        clock: monotonic, seconds.
    """

    def __init__(
        self, names: TopicNames, partitions: int, refuse: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.refuse = refuse
        self._partitions, self._clock = partitions, clock
        self._seen = {topic: _Seen() for topic in (names.observations, names.priors)}
        for topic in self._seen:
            metrics.MISPLACED.labels(topic)

    def check(self, topic: str, key: bytes, partition: int, offset: int) -> Misplaced | None:
        """Return the record if it is misplaced; `key` must be a valid name, which bounds its length."""
        belongs = partition_of(key, self._partitions)
        return None if belongs == partition else Misplaced(topic, key, partition, offset, belongs)

    def note(self, records: Iterable[Misplaced]) -> None:
        """Count the records, and log a line for each topic and cause not logged recently."""
        last: dict[str, Misplaced] = {}
        for record in records:
            metrics.MISPLACED.labels(record.topic).inc()
            self._seen[record.topic].add(record)
            last[record.topic] = record
        for topic, record in last.items():
            self._log(self._seen[topic], record)

    def _log(self, seen: _Seen, record: Misplaced) -> None:
        now = self._clock()
        if now < seen.next_check and len(seen.placements) == seen.last_count:
            return
        seen.next_check, seen.last_count = now + CHECK_SECONDS, len(seen.placements)
        cause = recognise(seen.placements, self._partitions)
        if now < seen.last_logged.get(cause, -QUIET_SECONDS) + QUIET_SECONDS:
            return
        seen.last_logged[cause] = now
        log.error(
            "records are in the wrong partition for their keys",
            topic=record.topic,
            records=seen.unlogged,
            partitioner=cause.name,
            remedy=cause.remedy,
            refused=self.refuse,
            key=record.key.decode(errors="replace"),
            partition=record.partition,
            offset=record.offset,
            belongs=record.belongs,
        )
        seen.unlogged = 0
