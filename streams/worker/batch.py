"""One batch: its entities, dead letters and metrics."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from faust.types import TP

from beliefstream.schemas import Reason
from beliefstream.schemas.dead_letter import replay_of
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.worker.dead_letters import ANNOUNCER, Example, dead_letter
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.misplaced_records import Misplaced


@dataclass
class Batch:
    """Entities by partition and key, dead letters to send, and counts."""

    names: TopicNames
    entities: dict[tuple[int, bytes], EntityBatch] = field(default_factory=dict)
    ends: dict[TP, int] = field(default_factory=dict)  # offset after the last message, by its place
    oldest: float = math.inf  # when the broker got the first of its messages
    # times of observations, by partition
    times: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    resets: list[Record] = field(default_factory=list)  # posteriors emitted for resets
    dead_letters: list[Record] = field(default_factory=list)
    rejected: Counter[tuple[str, Reason]] = field(default_factory=Counter)  # by topic and reason
    misplaced: list[Misplaced] = field(default_factory=list)
    examples: dict[Reason, Example] = field(default_factory=dict)  # the first of each reason
    duplicates: int = 0
    forgotten: int = 0  # observations forgotten by a reset

    def note(self, message: Any) -> None:
        """Note that a message is part of the batch."""
        place, stamp = message.tp, message.timestamp
        if message.offset >= self.ends.get(place, 0):
            self.ends[place] = message.offset + 1
        if stamp and stamp < self.oldest:
            self.oldest = stamp

    def reject(self, message: Any, reason: Reason, detail: str) -> None:
        """Reject a message as Faust delivered it."""
        source = (message.topic, message.partition, message.offset)
        self.dead_letter(source, (message.key, message.value), reason, detail, replay_of(message.headers))

    def dead_letter(
        self,
        source: tuple[str, int, int],
        content: tuple[bytes | None, bytes | None],
        reason: Reason,
        detail: str,
        replayed: str | None = None,
    ) -> None:
        """Reject a message given by its source (topic, partition, offset), key and value.

        `replayed` names the dead letter from which it was sent again.
        """
        self.dead_letters.append(
            dead_letter(self.names.dead_letters, reason, detail, source, *content, replayed)
        )
        self.rejected[source[0], reason] += 1
        self.examples.setdefault(reason, Example(source, content[0], detail))

    def measure(self) -> None:
        """Update the metrics; call it when all results are durable."""
        now, ticks = time.time(), time.monotonic()
        if self.oldest < math.inf:
            metrics.RECORD_AGE_SECONDS.observe(max(0.0, now - self.oldest))
        for (topic, reason), count in self.rejected.items():
            metrics.DEAD_LETTERS.labels(reason.value).inc(count)
            ANNOUNCER.note(reason, self.examples[reason], count)
            if topic == self.names.observations:
                metrics.OBSERVATIONS.labels("rejected").inc(count)
        metrics.OBSERVATIONS.labels("duplicate").inc(self.duplicates)
        metrics.OBSERVATIONS.labels("forgotten").inc(self.forgotten)
        arrivals = [each for entity in self.entities.values() for each in entity.arrivals]
        metrics.OBSERVATIONS.labels("accepted").inc(len(arrivals))
        # NaN, which is not counted, for a message that was not received by the consumer
        received = np.array([received for received, _ in arrivals], dtype=float)
        metrics.END_TO_END_SECONDS.observe(np.maximum(0.0, ticks - received))
        times = np.array([time for _, time in arrivals])
        metrics.EVENT_LAG_SECONDS.observe(np.maximum(0.0, now - times))


def by_partition(ends: Mapping[TP, int]) -> dict[int, dict[str, int]]:
    """Return offsets by partition and topic."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for (topic, partition), end in ends.items():
        found[partition][topic] = end
    return dict(found)
