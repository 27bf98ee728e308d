"""Stores of beliefs: their base class, and the store in memory.

Faust's stores take one entry at a time, and find its partition in the event being processed. Faust's disk store saves
its changelog offset before the data up to that offset. If a worker is killed in between, it later continues from
incomplete beliefs. These stores write a batch's changes to a partition and their changelog offset in one step.
"""

from __future__ import annotations

import abc
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import structlog
from aiokafka.errors import UnknownTopicOrPartitionError
from faust.stores import base
from faust.types import TP, EventT

from beliefstream.streams.monitoring.logs import SERVICES
from beliefstream.streams.state.codec import UnknownVersion
from beliefstream.streams.state.record import INTERNAL, check_version

log = structlog.get_logger()
STORE_FAILED = (
    "beliefs cannot be written to disk: free space there, or use an empty BELIEFSTREAM_DATA_DIRECTORY"
)
TOPICS_MISSING = "topics do not exist, the worker stops: `beliefstream topics create` creates them"
NOT_RESTORED = "beliefs cannot be restored, the worker stops"
NOT_KNOWN = -1
"""The offset of a record whose offset the broker has not returned."""

Changes = Mapping[bytes, bytes | None]
"""Records by key; None for a deleted record."""


class Fault(RuntimeError):
    """A fault at which a worker stops: a line of its log says the `event`, with the text of the fault as detail."""

    event: ClassVar[str]


class StoreFault(Fault):
    """The local store cannot be written; the changelog is complete."""

    event = STORE_FAILED


@contextmanager
def or_stop(failure: str) -> Iterator[None]:
    """End the process if the block fails: Faust would continue, or hang."""
    try:
        yield
    except Fault as fault:
        log.error(fault.event, detail=str(fault))
    except UnknownTopicOrPartitionError as missing:
        log.error(TOPICS_MISSING, detail=str(missing))
    except Exception:
        log.exception(failure)
    else:
        return
    os._exit(70)


class BeliefStore(base.Store[bytes, bytes], abc.ABC):
    """A store of records by partition and key; Faust calls the methods for recovery, the worker the others."""

    logger = SERVICES
    on_disk = True

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.partitions: set[int] = set()  # assigned partitions
        self.unreadable: dict[tuple[TP, bytes], str] = {}  # the reason, by partition and key

    @abc.abstractmethod
    def read(self, partition: int, key: bytes) -> bytes | None:
        """Return the record, if there is one."""

    @abc.abstractmethod
    def write(self, partition: int, changes: Changes, offset: int, growth: int | None = None) -> None:
        """Write the changes and their changelog offset atomically.

        `growth` is the increase in the number of beliefs, if the caller knows it.
        """

    def write_own(self, partition: int, changes: Changes, last: int, growth: int) -> None:
        """Write this worker's own changes; `last` is their changelog offset, or `NOT_KNOWN`."""
        self.write(partition, changes, last, growth)

    def check_against(self, tp: TP, first: int, last: int) -> None:
        """Discard data that cannot come from a changelog with these first and last offsets; called before recovery."""

    @or_stop(NOT_RESTORED)
    def start_offset(self, tp: TP, first: int, last: int) -> int | None:
        """Return the last restored offset after `check_against`; None for nothing restored."""
        self.check_against(tp, first, last)
        return self.persisted_offset(tp)

    def complete(self, tp: TP, last: int) -> None:
        """Note that the store contains the changelog up to that offset; called after a recovery."""

    @abc.abstractmethod
    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        """Iterate over a snapshot of a partition's beliefs, without internal records (`INTERNAL`).

        May run in another thread than `write`.
        """

    @abc.abstractmethod
    def internal(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over a snapshot of a partition's internal records whose keys begin with `prefix`."""

    @abc.abstractmethod
    def size(self, partition: int) -> int:
        """Return the number of beliefs in a partition, without internal records."""

    def __len__(self) -> int:
        return sum(self.size(partition) for partition in self.partitions)

    def apply_changelog_batch(
        self, batch: Iterable[EventT[Any]], to_key: Callable[[Any], Any], to_value: Callable[[Any], Any]
    ) -> None:
        """Apply changelog records, and note records of an unknown version unless a later one replaces them."""
        by_place: dict[TP, list[Any]] = defaultdict(list)
        for event in batch:
            by_place[event.message.tp].append(event.message)
        for place, records in by_place.items():
            self.restore(place, records)

    @or_stop(NOT_RESTORED)
    def restore(self, place: TP, records: Sequence[Any]) -> None:
        """Apply changelog records of one partition; they have `key`, `value` and `offset`."""
        changes: dict[bytes, bytes | None] = {}
        for record in records:
            key, value = record.key or b"", record.value
            changes[key] = value
            self.unreadable.pop((place, key), None)
            if value is not None and key[:1] != INTERNAL:
                try:
                    check_version(value)
                except UnknownVersion as fault:
                    name = key.decode(errors="replace")
                    self.unreadable[place, key] = (
                        f"changelog: topic {place.topic}, partition {place.partition}, key {name!r}: {fault}. Start "
                        "the version of Beliefstream that wrote it, or start again with another "
                        "BELIEFSTREAM_APPLICATION."
                    )
        self.write(place.partition, changes, records[-1].offset)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Release moved partitions; Faust calls this before a recovery."""
        topics = self.table.changelog_topic.topics
        self.partitions = {tp.partition for tp in assigned if tp.topic in topics}
        for tp in revoked | newly_assigned:
            if tp.topic in topics:
                self.release(tp.partition)
                self.unreadable = {place: why for place, why in self.unreadable.items() if place[0] != tp}

    async def backup_partition(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    def restore_backup(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("the changelog is the backup")

    @abc.abstractmethod
    def release(self, partition: int) -> None:
        """Drop a partition that another worker owns, or has owned."""


class MemoryStore(BeliefStore):
    """Keeps records in memory."""

    on_disk = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._records: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._internal: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self._of(partition, key).get(key)

    def _of(self, partition: int, key: bytes) -> dict[bytes, bytes]:
        return (self._internal if key[:1] == INTERNAL else self._records)[partition]

    def write(self, partition: int, changes: Changes, offset: int, growth: int | None = None) -> None:
        for key, value in changes.items():
            records = self._of(partition, key)
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        return iter(list(self._records[partition].items()))

    def internal(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([each for each in self._internal[partition].items() if each[0].startswith(prefix)])

    def size(self, partition: int) -> int:
        return len(self._records[partition])

    def release(self, partition: int) -> None:
        # if the partition comes back, the changelog is read again, and may no longer have tombstones of old records
        self._records.pop(partition, None)
        self._internal.pop(partition, None)

    def persisted_offset(self, tp: TP) -> int | None:
        return None

    def reset_state(self) -> None:
        self._records.clear()
        self._internal.clear()
