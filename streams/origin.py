"""What the beliefs of a partition were computed from, and what to do when that is not there any more.

With every batch of beliefs a changelog partition gets one record of ours: the ids of the changelog and of the topics
that the offsets in the beliefs count in, and how far these had been read. At every recovery it is held against what
the broker has now.

- The changelog has another id, begins later, or does not hold our record: beliefs have been deleted. Kafka does that to
  no compacted topic by itself, but a wrong `cleanup.policy`, `kafka-delete-records` or a topic made again do. The
  partition's observations and priors are read from their beginning: what a belief holds already is skipped, what has
  lost its belief gets it again.
- The group has committed more than the record says was read: the changelog has lost its end, as after a power cut. Or
  there is nothing to be read in between, as where a transaction ends. What was read after the last commit before that
  record is read again.
- A source topic has another id: it was deleted and made again, and its offsets count anew. The offsets in the beliefs
  are forgotten, or as many new observations would be taken for old ones; the beliefs go on.
- A source topic ends before what was read: it has lost its end. Beliefs hold what it said; their offsets are set back
  to where it ends, or as many new observations would be taken for old ones.

The committed offsets are moved first, then the record is written: killed in between, a worker does it again. What the
source log does not hold any more cannot be computed: it is said in an error, and counted where it can be
(`beliefstream_lost_offsets_total`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import orjson
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from faust.types import TP

from streams.beliefs import INTERNAL, BeliefRecord
from streams.fencing import Fencing
from streams.sending import Record, send_all
from streams.stores import NOT_KNOWN, BeliefStore
from streams.topics import TopicNames

log = structlog.get_logger()
ORIGIN_KEY = INTERNAL + b"origin-%d"
READ_AGAIN = "the changelog has lost beliefs or their offsets: the source log is read again"
ENDS_EARLY = "the log ends before what was read from it: it has lost its end, which beliefs hold"
CUT_LOOKS = 5  # a second apart, before a log is believed to have lost its end: a new leader may be behind for a moment


@dataclass(frozen=True)
class Origin:
    """Of one partition's beliefs.

    Attributes:
        changelog: its id. changelog_start: its first offset.
        topics: ids of the source topics by name.
        partitions: of the observations.
        read: offsets after the last messages that are in the beliefs, by topic.
        committed: what the group had committed when this was written, by topic.
    """

    changelog: str
    changelog_start: int
    topics: Mapping[str, str]
    partitions: int
    read: Mapping[str, int] = field(default_factory=dict)
    committed: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def decode(cls, raw: bytes | None) -> Origin | None:
        """None where there is none, or one that says less; what a later version says more is passed over."""
        found = orjson.loads(raw) if raw is not None else {}
        try:
            return cls(**{each.name: found[each.name] for each in fields(cls) if each.name in found})
        except TypeError:
            return None

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self))

    def is_of(self, other: Origin) -> bool:
        """Whether both are of the same topics."""
        return replace(self, read={}, committed={}) == replace(other, read={}, committed={})


class Repartitioned(ValueError):
    """Observations have another number of partitions than when the beliefs were computed."""


@dataclass(frozen=True)
class Faults:
    """What is wrong with one partition.

    Attributes:
        emptied: whether beliefs may be missing that were there.
        remade: source topics. cut: where those end that have lost their end.
        back: the offsets that the group is to go on from.
    """

    emptied: bool
    remade: Collection[str]
    cut: Mapping[str, int]
    back: Mapping[str, int]


class Origins:
    """Compares what the beliefs were computed from with what is there, and says it with every batch.

    Args:
        store: of the beliefs.
        producer: gives the running aiokafka producer.
        committed: what the group has committed there; 0 for nothing.
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
        self._sources = (names.observations, names.priors)
        self._current: dict[int, Origin] = {}

    def record(self, partition: int, read: Mapping[str, int]) -> tuple[bytes, bytes]:
        """Key and value that go ahead of a batch's beliefs of that partition, which holds messages up to `read`."""
        known = self._current[partition]
        read = {**known.read, **{name: max(end, known.read.get(name, 0)) for name, end in read.items()}}
        committed = {name: self._committed(TP(name, partition)) for name in self._sources}
        self._current[partition] = replace(known, read=read, committed=committed)
        return ORIGIN_KEY % partition, self._current[partition].encode()

    async def examine(self, consumer: Any, partitions: Collection[int]) -> bool:
        """After the beliefs of these partitions are restored; whether the committed offsets have been moved back.

        Raises:
            Repartitioned: entities are in other partitions than their beliefs.
            RuntimeError: the offsets could not be moved.
            aiokafka.errors.KafkaError, TimeoutError: the broker cannot be asked.
        """
        changelog = self._names.beliefs_changelog
        states = await consumer.take_topics((*self._sources, changelog))
        starts = await consumer.earliest_offsets(*(TP(changelog, partition) for partition in partitions))
        ids = {name: states[name].id for name in self._sources}
        moved = False
        known = {partition: self._known(partition) for partition in partitions}
        ends = await self._ends(consumer, known)
        for partition, before in known.items():
            start = starts.get(TP(changelog, partition)) or 0
            now = Origin(states[changelog].id, start, ids, states[self._names.observations].partitions)
            self._check_partitions(before, now.partitions)
            faults = await self._faults(consumer, partition, before, now, ends)
            if before is not None and before.is_of(now) and not faults.cut and not faults.back:
                self._current[partition] = before
                continue
            await self._move(consumer, partition, faults)
            moved |= bool(faults.back)
            self._current[partition] = replace(now, read=_read_then(before, faults))
            await self._write(partition, [*self._adapted(partition, faults), self.record(partition, {})])
        return moved

    async def _ends(self, consumer: Any, known: Mapping[int, Origin | None]) -> Mapping[TP, int]:
        """Of the source topics; looked at again while one ends before what was read."""
        places = [TP(name, partition) for partition in known for name in self._sources]
        ends: dict[TP, int] = {}
        for look in range(CUT_LOOKS):
            if look:
                await asyncio.sleep(1.0)
            found = {TP(*place): end for place, end in (await consumer.highwaters(*places)).items()}
            ends = {place: found.get(place) or 0 for place in places}
            if all(self._read(place, known[place.partition]) <= end for place, end in ends.items()):
                break
        return ends

    def _read(self, place: TP, known: Origin | None) -> int:
        """The offset after the last message that was dealt with there."""
        return max(self._committed(place), known.read.get(place.topic, 0) if known is not None else 0)

    async def _faults(
        self, consumer: Any, partition: int, known: Origin | None, now: Origin, ends: Mapping[TP, int]
    ) -> Faults:
        places = {name: TP(name, partition) for name in self._sources}
        committed = {name: count for name, place in places.items() if (count := self._committed(place))}
        if known is None:
            remade, emptied = set[str](), True
        else:
            remade = {name for name, id_ in known.topics.items() if now.topics.get(name, id_) != id_}
            emptied = known.changelog != now.changelog or now.changelog_start > known.changelog_start
        cut = {
            name: ends[place]
            for name, place in places.items()
            if name not in remade and self._read(place, known) > ends[place]
        }
        again = set(self._sources) if emptied else remade
        earliest = await consumer.earliest_offsets(*(places[name] for name in again)) if again else {}
        back = {name: earliest.get(places[name]) or 0 for name in again & committed.keys()}
        for name, count in committed.items():
            if name in again:
                continue
            if known is not None and count > known.read.get(name, 0):
                back[name] = known.committed.get(name, 0)
            if name in cut:
                back[name] = min(back.get(name, cut[name]), cut[name])
        return Faults(emptied, remade, cut, back)

    def _check_partitions(self, known: Origin | None, count: int) -> None:
        if known is None or known.partitions == count:
            return
        raise Repartitioned(
            f"partitions: the beliefs in {self._names.beliefs_changelog!r} were computed from {known.partitions} "
            f"partitions of {self._names.observations!r}, which has {count} now; make the topics again with "
            f"{known.partitions}, or begin with another application and other topics"
        )

    async def _move(self, consumer: Any, partition: int, faults: Faults) -> None:
        for name, end in faults.cut.items():
            log.error(ENDS_EARLY, topic=name, partition=partition, end=end)
        if not faults.back:
            return  # also in a new partition
        if faults.emptied or faults.remade:
            log.error(READ_AGAIN, partition=partition, offsets=dict(faults.back))
        else:
            log.warning("the last batches are read again", partition=partition, offsets=dict(faults.back))
        earliest = await consumer.earliest_offsets(*(TP(name, partition) for name in faults.back))
        if lost := {
            name: first
            for name, offset in faults.back.items()
            if (first := earliest.get(TP(name, partition)) or 0) >= max(offset, 1)
        }:
            log.error(
                "what the source log held before these offsets is lost", partition=partition, offsets=lost
            )
        if not await consumer._commit({TP(name, partition): offset for name, offset in faults.back.items()}):
            raise RuntimeError(f"the committed offsets of partition {partition} could not be moved back")

    def _adapted(self, partition: int, faults: Faults) -> Iterator[tuple[bytes, bytes]]:
        """The partition's records as they are once offsets that are not true any more are set back or forgotten."""
        if faults.remade:
            log.error(
                "a topic was made again: its offsets count anew",
                partition=partition,
                topics=sorted(faults.remade),
            )
        last = {**{name: end - 1 for name, end in faults.cut.items()}, **dict.fromkeys(faults.remade, -1)}
        if not last:
            return
        for key, value in self._store.items(partition):
            record = BeliefRecord.decode(value)
            observed = last.get(self._names.observations, record.observation_offset)
            stated = last.get(self._names.priors, record.prior_offset)
            if record.observation_offset > observed or record.prior_offset > stated:
                record.observation_offset = min(record.observation_offset, observed)
                record.prior_offset = min(record.prior_offset, stated)
                yield key, record.encode()

    def _known(self, partition: int) -> Origin | None:
        return Origin.decode(self._store.read(partition, ORIGIN_KEY % partition))

    async def _write(self, partition: int, changed: Sequence[tuple[bytes, bytes]]) -> None:
        changelog = self._names.beliefs_changelog
        records = [Record(changelog, partition, key, value) for key, value in changed]
        offsets = await send_all(await self._producer(), records, self._fencing.leases)
        last = offsets.get(TopicPartition(changelog, partition), NOT_KNOWN)
        self._store.keep(partition, dict(changed), last, 0)


def _read_then(before: Origin | None, faults: Faults) -> dict[str, int]:
    """How far the sources are read once the faults are seen to; never less than what the group has committed."""
    read = {name: end for name, end in before.read.items() if name not in faults.remade} if before else {}
    read |= faults.cut
    return read | {name: max(offset, read.get(name, 0)) for name, offset in faults.back.items()}
