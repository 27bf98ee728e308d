"""What the beliefs of a partition were computed from, and what to do when that is not there any more.

Beside the beliefs a changelog partition holds one record of ours: the ids of the topics that the offsets in the beliefs
count in, and where the changelog itself began. At every recovery it is held against what the broker has now.

- The changelog begins later, or does not hold our record: beliefs have been deleted. Kafka does that to no compacted
  topic by itself, but a wrong `cleanup.policy`, `kafka-delete-records` or a topic made again do. The partition's
  observations and priors are read from their beginning: what a belief holds already is skipped, what has lost its
  belief gets it again.
- A source topic has another id: it was deleted and made again, and its offsets count anew. The offsets in the beliefs
  are forgotten, or as many new observations would be taken for old ones; the beliefs go on.

The committed offsets are moved first, then the record is written: killed in between, a worker does it again. What the
source log does not hold any more cannot be computed: it is said in an error, and counted where it can be
(`beliefstream_lost_offsets_total`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Origin:
    """Of one partition's beliefs. `changelog_start`: its first offset; `topics`: their ids by name.

    `partitions`: of the observations; 0 where the broker does not say.
    """

    changelog_start: int
    topics: Mapping[str, str]
    partitions: int = 0


class Repartitioned(ValueError):
    """Observations have another number of partitions than when the beliefs were computed."""


class Origins:
    """Compares what the beliefs were computed from with what is there.

    Args:
        store: of the beliefs.
        producer: gives the running aiokafka producer.
    """

    def __init__(
        self,
        names: TopicNames,
        store: BeliefStore,
        fencing: Fencing,
        producer: Callable[[], Awaitable[AIOKafkaProducer]],
    ) -> None:
        self._names, self._store = names, store
        self._fencing, self._producer = fencing, producer

    async def examine(self, consumer: Any, partitions: Collection[int]) -> bool:
        """After the beliefs of these partitions are restored; whether the committed offsets have been moved back.

        Raises:
            Repartitioned: entities are in other partitions than their beliefs.
            aiokafka.errors.KafkaError, TimeoutError: the broker cannot be asked.
        """
        changelog = self._names.beliefs_changelog
        starts = await consumer.earliest_offsets(*(TP(changelog, partition) for partition in partitions))
        states = await consumer.take_topics((self._names.observations, self._names.priors))
        ids = {name: state.id for name, state in states.items()}
        count = states[self._names.observations].partitions if self._names.observations in states else 0
        moved = False
        for partition in partitions:
            now = Origin(starts.get(TP(changelog, partition)) or 0, ids, count)
            known = self._known(partition)
            self._check_partitions(known, count)
            if known == now:
                continue
            remade = {name for name in ids if known is not None and known.topics.get(name) != ids[name]}
            again = set(ids) if self._emptied(known, now) else remade
            if again and not await self._move_back(consumer, partition, again):
                return False  # another rebalance has begun, and will come here again
            moved |= bool(again)
            changed = self._without_offsets(partition, remade)
            await self._write(partition, [*changed, (ORIGIN_KEY % partition, orjson.dumps(asdict(now)))])
        return moved

    def _check_partitions(self, known: Origin | None, count: int) -> None:
        if known is None or 0 in (known.partitions, count) or known.partitions == count:
            return
        raise Repartitioned(
            f"partitions: the beliefs in {self._names.beliefs_changelog!r} were computed from {known.partitions} "
            f"partitions of {self._names.observations!r}, which has {count} now; make the topics again with "
            f"{known.partitions}, or begin with another application and other topics"
        )

    def _emptied(self, known: Origin | None, now: Origin) -> bool:
        """Whether beliefs may be missing that were there.

        A changelog without our record is new, or was made again under a worker that has written more beliefs since.
        """
        return known is None or now.changelog_start > known.changelog_start

    async def _move_back(self, consumer: Any, partition: int, names: Collection[str]) -> bool:
        places = [TP(name, partition) for name in names]
        earliest = await consumer.earliest_offsets(*places)
        committed = consumer._committed_offset
        back = {place: earliest[place] or 0 for place in places if committed.get(place)}
        if not back:
            return True  # a new partition
        log.error(
            "the changelog has lost beliefs or their offsets: the source log is read again",
            partition=partition,
            offsets={place.topic: offset for place, offset in back.items()},
        )
        if lost := {place.topic: offset for place, offset in back.items() if offset > 0}:
            log.error(
                "what the source log held before these offsets is lost", partition=partition, offsets=lost
            )
        return bool(await consumer._commit(back))

    def _without_offsets(self, partition: int, remade: Collection[str]) -> list[tuple[bytes, bytes]]:
        """The partition's records as they are once the offsets in these topics are forgotten."""
        if not remade:
            return []
        log.error(
            "a topic was made again: its offsets count anew", partition=partition, topics=sorted(remade)
        )
        changed = []
        for key, value in self._store.items(partition):
            record = BeliefRecord.decode(value)
            if self._names.observations in remade:
                record.observation_offset = -1
            if self._names.priors in remade:
                record.prior_offset = -1
            changed.append((key, record.encode()))
        return changed

    def _known(self, partition: int) -> Origin | None:
        raw = self._store.read(partition, ORIGIN_KEY % partition)
        return Origin(**orjson.loads(raw)) if raw is not None else None

    async def _write(self, partition: int, changed: Sequence[tuple[bytes, bytes]]) -> None:
        changelog = self._names.beliefs_changelog
        records = [Record(changelog, partition, key, value) for key, value in changed]
        offsets = await send_all(await self._producer(), records, self._fencing.leases)
        last = offsets.get(TopicPartition(changelog, partition), NOT_KNOWN)
        self._store.keep(partition, dict(changed), last, 0)
