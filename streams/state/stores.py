"""Base class of the stores of beliefs: `streams.state.memory_store` and `streams.state.disk`.

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
from typing import Any

import structlog
from faust.stores import base
from faust.types import TP, EventT

from beliefstream.streams.monitoring.logs import SERVICES
from beliefstream.streams.state.codec import UnknownVersion
from beliefstream.streams.state.record import INTERNAL, VERSION

log = structlog.get_logger()
Changes = Mapping[bytes, bytes | None]
"""Records by key; None for a deleted record."""
STORE_FAILED = (
    "beliefs cannot be written to disk: free space there, or use an empty BELIEFSTREAM_DATA_DIRECTORY"
)
NOT_KNOWN = -1
"""The offset of a record whose offset the broker has not returned."""


class StoreFault(RuntimeError):
    """The local store cannot be written; the changelog is complete."""


@contextmanager
def or_stop(failure: str) -> Iterator[None]:
    """End the process if the block fails: Faust may hang when one of its services crashes."""
    try:
        yield
    except StoreFault as fault:
        log.error(STORE_FAILED, detail=str(fault))
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
        with or_stop("beliefs cannot be restored, the worker stops"):
            for place, records in by_place.items():
                self.restore(place, records)

    def restore(self, place: TP, records: Sequence[Any]) -> None:
        """Apply changelog records of one partition; they have `key`, `value` and `offset`."""
        changes: dict[bytes, bytes | None] = {}
        for record in records:
            key, value = record.key or b"", record.value
            changes[key] = value
            self.unreadable.pop((place, key), None)
            if value is not None and key[:1] != INTERNAL:
                try:
                    check_version(value, place.topic, place.partition, key)
                except UnknownVersion as fault:
                    self.unreadable[place, key] = str(fault)
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


def check_version(raw: bytes, topic: str, partition: int, key: bytes) -> None:
    """Raise UnknownVersion, with the record's place, if this program cannot read it."""
    version = raw[0] if raw else 0
    if not 1 <= version <= VERSION:
        place = f"topic {topic}, partition {partition}, key {key.decode(errors='replace')!r}"
        raise UnknownVersion(
            f"changelog: {place}: a record of version {version}, this program reads 1 to {VERSION}. Start the version "
            "of Beliefstream that wrote it, or start again with another BELIEFSTREAM_APPLICATION."
        )
