"""Detects when the source of a partition's beliefs has changed or is missing, and repairs the beliefs.

Every batch of beliefs in a changelog partition has two internal records. Before the beliefs, `SourceRecord` has the ids
of the changelog and of the topics that their offsets refer to. After them, `ReadProgress` says how far these topics
have been read. Every recovery compares the records with the broker.

- The changelog has another id, begins later, or lacks these records: beliefs have been deleted. Kafka never deletes
  them from a compacted topic by itself. A wrong `cleanup.policy`, `kafka-delete-records` or a topic created again does.
  The partition's observations and priors are read from their beginning. A belief skips the messages it already
  contains, and lost beliefs are computed again.
- The group has committed more than the changelog says was read: the changelog has lost its end, as after a power cut.
  Or there is nothing to read in between, as at the end of a transaction. Messages after the last commit before that
  record are read again.
- A source topic has another name, because a setting was changed: the worker stops. Otherwise the beliefs would forget
  their offsets in the former topic, and a worker with the former setting would read all of it once more.
- A source topic has another id: it was deleted and created again, and its offsets start at 0 again. The offsets in the
  beliefs are reset, and the beliefs stay. Otherwise new observations would count as already applied.
- A source topic ends before the read offset: it has lost its end. The beliefs keep its messages, and their offsets are
  set back to the end of the log. Otherwise new observations would count as already applied.

The committed offsets are moved first, then the record is written. If the worker is killed in between, the next one
repeats both. Messages that are no longer in the source log cannot be applied again. An error reports them, and
`beliefstream_lost_offsets_total` counts them where possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

import orjson
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from faust.types import TP

from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.state.fencing import Fencing
from beliefstream.streams.state.record import INTERNAL, BeliefRecord
from beliefstream.streams.state.sensor_records import PREFIX, without_offsets
from beliefstream.streams.state.stores import NOT_KNOWN, BeliefStore, Fault

T = TypeVar("T", bound="SourceRecord | ReadProgress")
log = structlog.get_logger()
READ_AGAIN = "the changelog has lost beliefs or their offsets, the source log is read again"
CREATED_AGAIN = "a topic was deleted and created again, its offsets start at 0 again"
ENDS_EARLY = "the log ends before the offset read: it has lost messages that the beliefs contain"
MOST_OFFSET = 2**63 - 2
END_CHECKS = 5  # checks, a second apart, before a log counts as cut: a new leader may be behind for a moment

Offsets = Mapping[str, int]
"""Offsets by topic."""


@dataclass(frozen=True)
class SourceRecord:
    """The source of one partition's beliefs.

    Attributes:
        changelog: the id of the changelog topic.
        changelog_start: the first offset of the changelog partition.
        topics: the ids of the source topics, by name.
        partitions: the number of partitions of the observations topic.
    """

    changelog: str
    changelog_start: int
    topics: Mapping[str, str]
    partitions: int


@dataclass(frozen=True)
class ReadProgress:
    """How far the sources of one partition's beliefs have been read.

    Attributes:
        read: offsets before which all messages are processed.
        held: offsets after the last messages that a belief may contain; beyond `read` while messages are read again, or
            wait although later ones of other entities are applied.
        committed: the group's committed offsets when this was written; all messages before them were processed.
    """

    read: Offsets = field(default_factory=dict)
    held: Offsets = field(default_factory=dict)
    committed: Offsets = field(default_factory=dict)

    def after(self, read: Offsets, held: Offsets, committed: Offsets) -> ReadProgress:
        """Return the progress after a batch; all messages before `read` are processed, and none from `held` on."""
        return ReadProgress(_larger_offsets(self.read, read), _larger_offsets(self.held, held), committed)


@dataclass(frozen=True)
class Logs:
    """A partition's source logs at the broker, and the group's committed offsets."""

    earliest_offsets: Offsets
    end_offsets: Offsets
    committed: Offsets


@dataclass(frozen=True)
class Faults:
    """Faults of one partition.

    Attributes:
        beliefs_lost: whether beliefs may have been lost.
        recreated: source topics that were deleted and created again.
        truncated: the end offsets of source topics that have lost their end.
        starting_offsets: the offsets from which the group must continue.
        progress: the progress after all faults are repaired.
    """

    beliefs_lost: bool
    recreated: Collection[str]
    truncated: Offsets
    starting_offsets: Offsets
    progress: ReadProgress

    def __bool__(self) -> bool:
        return bool(self.beliefs_lost or self.recreated or self.truncated or self.starting_offsets)


def compare(known: SourceRecord | None, progress: ReadProgress, now: SourceRecord, logs: Logs) -> Faults:
    """Compare the recorded source with the broker's state."""
    committed = {name: count for name, count in logs.committed.items() if count}
    beliefs_lost, recreated = known is None, set[str]()
    if known is not None:
        beliefs_lost = known.changelog != now.changelog or now.changelog_start > known.changelog_start
        recreated = {name for name, id_ in now.topics.items() if known.topics.get(name) != id_}
    same = now.topics.keys() - recreated
    held = {name: end for name, end in progress.held.items() if name in same}
    due = _larger_offsets(held, {name: end for name, end in committed.items() if name in same})
    truncated = {name: logs.end_offsets[name] for name, end in due.items() if end > logs.end_offsets[name]}
    starting_offsets = {}
    for name, count in committed.items():
        place = count
        if beliefs_lost or name in recreated:
            place = logs.earliest_offsets[name]
        elif count > progress.read.get(name, 0):
            place = progress.committed.get(name, 0)
        place = min(place, truncated.get(name, place))
        if place != count or beliefs_lost or name in recreated:
            starting_offsets[name] = place
    read = {name: end for name, end in progress.read.items() if name in same} | truncated | starting_offsets
    held = _larger_offsets(
        {name: end for name, end in held.items() if name not in truncated} | truncated, starting_offsets
    )
    return Faults(
        beliefs_lost, recreated, truncated, starting_offsets, ReadProgress(read, held, progress.committed)
    )


def _larger_offsets(one: Offsets, other: Offsets) -> dict[str, int]:
    """For every topic the larger of both offsets."""
    return {name: max(one.get(name, 0), other.get(name, 0)) for name in {**one, **other}}


SOURCE_KEY, PROGRESS_KEY = INTERNAL + b"origin-%d", INTERNAL + b"progress-%d"
KeyValue = tuple[bytes, bytes | None]


class Repartitioned(Fault):
    """The observations topic has another number of partitions than when the beliefs were computed."""

    event = "entities are in other partitions than their beliefs, the worker stops"


class OtherSource(Fault):
    """A setting names another source topic than that from which the beliefs were computed."""

    event = "the beliefs were computed from another topic, the worker stops"


class Lineage:
    """Compares the recorded source of the beliefs with the broker, and records it with every batch.

    Args:
        store: holds the beliefs.
        producer: returns the running aiokafka producer.
        committed: returns the group's committed offset; 0 for none.
    """

    def __init__(
        self,
        names: TopicNames,
        store: BeliefStore,
        fencing: Fencing,
        producer: Callable[[], Awaitable[AIOKafkaProducer]],
        committed: Callable[[TP], int],
    ) -> None:
        self._names, self._store = names, store
        self._fencing, self._producer, self._committed = fencing, producer, committed
        self._source_topics = (names.observations, names.priors)
        self._source_records: dict[int, SourceRecord] = {}
        self._progress: dict[int, ReadProgress] = {}

    def source_entry(self, partition: int) -> tuple[bytes, bytes]:
        """Return key and value of the record before a batch's beliefs of that partition."""
        return SOURCE_KEY % partition, orjson.dumps(asdict(self._source_records[partition]))

    def progress_entry(self, partition: int, read: Offsets, held: Offsets) -> tuple[bytes, bytes]:
        """Return key and value of the record after the beliefs.

        All messages before `read` are processed. The batch has none from `held` on, but may have some between.
        """
        progress = self._progress[partition].after(read, held, self._committed_of(partition))
        self._progress[partition] = progress
        return PROGRESS_KEY % partition, orjson.dumps(asdict(progress))

    def observations_id(self, partition: int) -> str | None:
        """Return the broker's id of the observations topic; None before the partition is examined."""
        source = self._source_records.get(partition)
        return source.topics.get(self._names.observations) if source is not None else None

    async def examine(self, consumer: Any, partitions: Collection[int]) -> bool:
        """Check partitions after their beliefs are restored; returns whether committed offsets were moved back."""
        changelog = self._names.beliefs_changelog
        states = await consumer.take_topics((*self._source_topics, changelog))
        starts = await consumer.earliest_offsets(*(TP(changelog, partition) for partition in partitions))
        ids = {name: states[name].id for name in self._source_topics}
        count = states[self._names.observations].partitions
        known = {partition: self._known(partition) for partition in partitions}
        now: dict[int, SourceRecord] = {}
        for partition in partitions:
            start = starts.get(TP(changelog, partition)) or 0
            now[partition] = SourceRecord(states[changelog].id, start, ids, count)
            check_source(self._names, known[partition][0], now[partition])
        found = await self._compared(consumer, known, now)
        for partition, (logs, faults) in found.items():
            await self._move(consumer, partition, faults, logs)
            self._source_records[partition], self._progress[partition] = now[partition], faults.progress
            if faults or known[partition][0] != now[partition]:
                corrected = list(self._corrected(partition, faults))
                await self._write(
                    partition,
                    [self.source_entry(partition), *corrected, self.progress_entry(partition, {}, {})],
                )
        return any(faults.starting_offsets for _, faults in found.values())

    async def _compared(
        self,
        consumer: Any,
        known: Mapping[int, tuple[SourceRecord | None, ReadProgress]],
        now: Mapping[int, SourceRecord],
    ) -> Mapping[int, tuple[Logs, Faults]]:
        """Compare, and repeat while a log ends before the offset read."""
        places = [TP(name, partition) for partition in known for name in self._source_topics]
        earliest = await consumer.earliest_offsets(*places)
        found: dict[int, tuple[Logs, Faults]] = {}
        for attempt in range(END_CHECKS):
            if attempt:
                await asyncio.sleep(1.0)
            ends = {TP(*place): end for place, end in (await consumer.highwaters(*places)).items()}
            for partition, (source, progress) in known.items():
                logs = Logs(
                    {name: earliest.get(TP(name, partition)) or 0 for name in self._source_topics},
                    {name: ends.get(TP(name, partition)) or 0 for name in self._source_topics},
                    self._committed_of(partition),
                )
                found[partition] = logs, compare(source, progress, now[partition], logs)
            if not any(faults.truncated for _, faults in found.values()):
                break
        return found

    def _committed_of(self, partition: int) -> dict[str, int]:
        return {name: self._committed(TP(name, partition)) for name in self._source_topics}

    async def _move(self, consumer: Any, partition: int, faults: Faults, logs: Logs) -> None:
        for name, end in faults.truncated.items():
            metrics.LOG_FAULTS.labels("cut").inc()
            log.error(ENDS_EARLY, topic=name, partition=partition, end=end)
        if not faults.starting_offsets:
            return  # also in a new partition
        if faults.beliefs_lost or faults.recreated:
            metrics.LOG_FAULTS.labels("emptied").inc(faults.beliefs_lost)
            log.error(READ_AGAIN, partition=partition, offsets=dict(faults.starting_offsets))
        else:
            log.warning(
                "the last batches are read again", partition=partition, offsets=dict(faults.starting_offsets)
            )
        if lost := {
            name: first
            for name, to in faults.starting_offsets.items()
            if (first := logs.earliest_offsets[name]) >= max(to, 1)
        }:
            metrics.LOG_FAULTS.labels("gone").inc()
            log.error(
                "what the source log had before these offsets is lost", partition=partition, offsets=lost
            )
        moved = {TP(name, partition): to for name, to in faults.starting_offsets.items()}
        if not await consumer.commit_offsets(moved):
            raise RuntimeError(f"the committed offsets of partition {partition} could not be moved back")

    def _corrected(self, partition: int, faults: Faults) -> Iterator[KeyValue]:
        """Yield the partition's records whose offsets were invalid, with corrected offsets.

        If beliefs are lost, all observations are counted again, so the health of sensors is forgotten.
        """
        if faults.beliefs_lost:
            yield from ((key, None) for key, _ in self._store.internal(partition, PREFIX))
        if faults.recreated:
            metrics.LOG_FAULTS.labels("remade").inc(len(faults.recreated))
            log.error(CREATED_AGAIN, partition=partition, topics=sorted(faults.recreated))
        last = {name: end - 1 for name, end in faults.truncated.items()} | dict.fromkeys(faults.recreated, -1)
        if not last:
            return
        if self._names.observations in last and not faults.beliefs_lost:
            yield from without_offsets(self._store.internal(partition, PREFIX))
        for key, value in self._store.items(partition):
            record = BeliefRecord.decode(value)
            before = record.observation_offset, record.prior_offset, record.forgotten_before
            observed = last.get(self._names.observations, MOST_OFFSET)
            record.observation_offset = min(record.observation_offset, observed)
            record.prior_offset = min(record.prior_offset, last.get(self._names.priors, MOST_OFFSET))
            record.forgotten_before = min(record.forgotten_before, observed + 1)
            if before != (record.observation_offset, record.prior_offset, record.forgotten_before):
                yield key, record.encode()

    def _known(self, partition: int) -> tuple[SourceRecord | None, ReadProgress]:
        source = self._store.read(partition, SOURCE_KEY % partition)
        progress = self._store.read(partition, PROGRESS_KEY % partition)
        return _decoded(SourceRecord, source), _decoded(ReadProgress, progress) or ReadProgress()

    async def _write(self, partition: int, entries: Sequence[KeyValue]) -> None:
        changelog = self._names.beliefs_changelog
        records = [Record(changelog, partition, key, value) for key, value in entries]
        offsets = await send_all(await self._producer(), records, self._fencing.leases)
        last = offsets.get(TopicPartition(changelog, partition), NOT_KNOWN)
        self._store.write_own(partition, dict(entries), last, 0)


def check_source(names: TopicNames, known: SourceRecord | None, now: SourceRecord) -> None:
    """Raise OtherSource or Repartitioned if the beliefs cannot go on with these topics; `known` is their source."""
    if known is None:
        return
    sources = (("observations", names.observations), ("priors", names.priors))
    for (topic, name), former in zip(sources, known.topics, strict=False):  # in the order of `now.topics`
        if name not in known.topics:
            raise OtherSource(
                f"BELIEFSTREAM_TOPICS, {topic}: the beliefs in {names.beliefs_changelog!r} were computed from the "
                f"topic {former!r}, not {name!r}; name that one again, or begin anew with another "
                "BELIEFSTREAM_APPLICATION"
            )
    if known.partitions != now.partitions:
        raise Repartitioned(
            f"partitions: the beliefs in {names.beliefs_changelog!r} were computed from {known.partitions} partitions "
            f"of {names.observations!r}, which has {now.partitions} now; create the topics again with "
            f"{known.partitions}, or use another application and other topics"
        )


def _decoded(kind: type[T], raw: bytes | None) -> T | None:
    """Decode a record; None if it is absent or incomplete. Ignores extra fields of later versions."""
    found = orjson.loads(raw) if raw is not None else {}
    try:
        return kind(**{each.name: found[each.name] for each in fields(kind) if each.name in found})
    except TypeError:
        return None
