"""One batch: its entities, dead letters and metrics."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer, ConsumerRecord
from faust.types import TP

from beliefstream.schemas import DeadLetter, Reason, Sensor, printable
from beliefstream.schemas.dead_letter import replay_of
from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.worker.entity_batch import EntityBatch
from beliefstream.streams.worker.misplaced_records import Misplaced

log = structlog.get_logger()
PERIOD_SECONDS = 60.0  # between log lines with counts
LONGEST_ENTITY = 80  # bytes of a key in the log


def dead_letter(
    topic: str,
    reason: Reason,
    detail: str,
    source: tuple[str, int, int],
    key: bytes | None,
    value: bytes | None,
    replay_of: str | None = None,
) -> Record:
    """Build a dead letter with the original key and value.

    Headers hold reason, detail, `source` (topic, partition, offset) and `replay_of`.
    """
    name, partition, offset = source
    letter = DeadLetter(
        reason=reason, detail=detail, topic=name, partition=partition, offset=offset, replay_of=replay_of
    )
    # a record needs a key or a value; an empty value stands for a source without both
    content = value if key is not None or value is not None else b""
    return Record(topic, partition, key, content, letter.headers())


class Example(NamedTuple):
    """A dead letter to log; `source` is topic, partition and offset."""

    source: tuple[str, int, int]
    key: bytes | None
    detail: str

    def fields(self) -> dict[str, Any]:
        """The fields to log."""
        topic, partition, offset = self.source
        entity = None
        if self.key is not None:
            entity = printable(self.key[:LONGEST_ENTITY].decode(errors="backslashreplace"))
        place = {"topic": topic, "partition": partition, "offset": offset}
        return {**place, "entity": entity, "detail": printable(self.detail)}


class Announcer:
    """Logs dead letters: the first of a reason at once, and the counts every period.

    After a whole period without a dead letter of a reason, the next one is logged at once again.

    Args:
        clock: monotonic, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._since = clock, clock()
        self._known: set[Reason] = set()
        self._counts: Counter[Reason] = Counter()  # in this period
        self._logged = 0  # of these, logged one by one
        self._newest: Example | None = None
        self._total = 0

    def note(self, reason: Reason, example: Example, count: int = 1) -> None:
        """Count dead letters of a reason after they have been written."""
        self._counts[reason] += count
        self._total += count
        self._newest = example
        if reason not in self._known:
            self._known.add(reason)
            self._logged += 1
            log.warning(
                "dead letter",
                reason=reason.value,
                **example.fields(),
                more=f"the next ones of this reason are counted every {PERIOD_SECONDS:.0f} s",
            )

    def log_counts(self) -> None:
        """Log the counts if a period has passed; call this regularly."""
        if self._clock() - self._since >= PERIOD_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Log the counts since the last line, unless all were logged one by one."""
        now = self._clock()
        in_period = self._counts.total()
        if in_period > self._logged and self._newest is not None:
            log.warning(
                "dead letters",
                seconds=round(now - self._since),
                count=in_period,
                reasons={reason.value: count for reason, count in self._counts.most_common()},
                since_start=self._total,
                newest=self._newest.fields(),
            )
        self._known = {*self._counts}
        self._counts, self._logged, self._since = Counter(), 0, now


ANNOUNCER = Announcer()
"""The announcer of this worker."""


async def reject_definition(
    producer: Callable[[], Awaitable[AIOKafkaProducer]],
    dead_letters: str,
    record: ConsumerRecord,
    reason: Reason,
    detail: str,
) -> None:
    """Log a definition that cannot be used, and send it to the topic of dead letters."""
    log.warning("a definition cannot be used", topic=record.topic, key=record.key, detail=detail)
    place = (record.topic, record.partition, record.offset)
    letter = dead_letter(dead_letters, reason, detail, place, record.key, record.value)
    await send_all(await producer(), [letter])
    metrics.DEAD_LETTERS.labels(reason.value).inc()
    ANNOUNCER.note(reason, Example(place, record.key, detail))


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

    def measure(self, sensors: Mapping[str, Sensor]) -> None:
        """Update the metrics; call it when all results are durable, with the definitions of the sensors."""
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
        waits = (max(0.0, ticks - received) for received, *_ in arrivals if received is not None)
        metrics.observe_all(metrics.END_TO_END_SECONDS, waits)
        metrics.observe_all(metrics.EVENT_LAG_SECONDS, (max(0.0, now - each) for _, each, _ in arrivals))
        for sensor, count in Counter(each for *_, each in arrivals).items():
            if share := getattr(sensors.get(sensor), "outlier_probability", 0.0):
                metrics.count_expected_outliers(sensor, count * share)


def by_partition(ends: Mapping[TP, int]) -> dict[int, dict[str, int]]:
    """Return offsets by partition and topic."""
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for (topic, partition), end in ends.items():
        found[partition][topic] = end
    return dict(found)
