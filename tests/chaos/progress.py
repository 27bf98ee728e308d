"""What a run's topics say: posteriors and dead letters, and what has been lost or applied twice by them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from beliefstream.schemas import DeadLetter
from beliefstream.streams.kafka.topics import MESSAGE_BYTES, TopicNames

Place = tuple[str, int, int, bytes]
"""Topic, partition, offset, and the value there: a topic that is made again has the same offsets again."""


@dataclass
class Taken:
    """The posteriors of one entity, as a reader takes them: those with a new sequence number."""

    sequence: int = 0
    prior_sequence: int = 0
    last: bytes = b""


@dataclass
class Progress:
    """Reads both topics as they grow.

    Attributes:
        grown: posteriors by partition, sent twice or not.
        faults: what no order of faults may bring about, in words.
        letters: dead letters by the place and the value of what they came from; how often each was sent.
    """

    servers: str
    names: TopicNames
    partitions: int
    grown: Counter[int] = field(default_factory=Counter)
    entities: dict[str, Taken] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    letters: Counter[Place] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._consumer = KafkaConsumer(
            bootstrap_servers=self.servers.split(","),
            group_id=None,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=MESSAGE_BYTES,
        )
        topics = (self.names.posteriors, self.names.dead_letters)
        self._consumer.assign([TopicPartition(topic, n) for topic in topics for n in range(self.partitions)])

    @property
    def applied(self) -> int:
        """Messages that are in the beliefs."""
        return sum(taken.sequence for taken in self.entities.values())

    def poll(self, seconds: float = 0.0) -> None:
        """Reads what is there."""
        for place, records in self._consumer.poll(timeout_ms=round(seconds * 1000)).items():
            if place.topic == self.names.dead_letters:
                for record in records:
                    letter = DeadLetter.from_record(record.key, record.value, record.headers)
                    self.letters[letter.topic, letter.partition, letter.offset, letter.value or b""] += 1
                continue
            self.grown[place.partition] += len(records)
            for record in records:
                self._take(record.key.decode(), record.value)

    def _take(self, entity: str, value: bytes) -> None:
        posterior: dict[str, Any] = orjson.loads(value)
        taken = self.entities.setdefault(entity, Taken())
        applied = posterior["applied"]
        sequence, stated = posterior["sequence"], posterior["prior_sequence"]
        if sequence <= taken.sequence:
            return
        if sequence > taken.sequence + len(applied) + stated - taken.prior_sequence:
            self.faults.append(f"{entity}: a gap in the sequence, from {taken.sequence} to {sequence}")
        self.entities[entity] = Taken(sequence, stated, value)

    def missing(self, due: Mapping[str, int]) -> int:
        """Messages that are not in the beliefs yet."""
        return sum(max(0, count - self._sequence(entity)) for entity, count in due.items())

    def double(self, due: Mapping[str, int]) -> int:
        """Messages too many in the beliefs."""
        return sum(max(0, self._sequence(entity) - count) for entity, count in due.items())

    def _sequence(self, entity: str) -> int:
        return self.entities[entity].sequence if entity in self.entities else 0

    def close(self) -> None:
        self._consumer.close()


class Committed:
    """What the workers' group has committed of one topic."""

    def __init__(self, servers: str, group: str, topic: str) -> None:
        self._topic = topic
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers.split(","), group_id=group, enable_auto_commit=False
        )

    def reached(self, ends: Mapping[int, int]) -> bool:
        """Whether all of these partitions are dealt with up to there."""
        try:
            return all(
                (self._consumer.committed(TopicPartition(self._topic, partition)) or 0) >= end
                for partition, end in ends.items()
            )
        except KafkaError:
            return False

    def reached_end(self, partitions: int) -> bool:
        """Whether all there is in the topic is dealt with."""
        places = [TopicPartition(self._topic, partition) for partition in range(partitions)]
        try:
            ends = self._consumer.end_offsets(places)
        except KafkaError:
            return False
        return self.reached({place.partition: end for place, end in ends.items() if end})

    def close(self) -> None:
        self._consumer.close()
