"""A store of beliefs on a worker's local disk, in RocksDB: a restart reads only new changelog records.

The changelog is the source of truth. The store is a copy that saves time. An invalid copy is deleted and built again.
A copy is invalid if it belongs to another application or changelog, or has had records of another version. It is also
invalid if its offset is beyond the changelog, or if it is older than the retention of the changelog's tombstones.
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import rocksdict
import structlog
from faust.types import TP
from filelock import FileLock, Timeout

from beliefstream.streams.state.record import INTERNAL, VERSION
from beliefstream.streams.state.stores import STORE_FAILED, BeliefStore, Changes, StoreFault

log = structlog.get_logger()
STATE = INTERNAL + b"state"
WRITE_BUFFER_BYTES = 8 * 1024 * 1024  # for each partition, twice
LOG_BYTES = 2**20  # of the messages of RocksDB, of which two files are kept
BLOCK_CACHE_BYTES = 64 * 1024 * 1024  # for all partitions together
OPEN_FILES = 256  # for each partition
# Kafka deletes a tombstone a day after compaction (delete.retention.ms). A copy that missed it would keep a forgotten
# entity. Half that time leaves room for clock differences and for the recovery itself.
STALE_SECONDS = 12 * 3600.0
SKEW_SECONDS = 300.0  # a time further ahead means that the clock was set back: the copy's age is not known


class DirectoryInUse(RuntimeError):
    """Another worker uses this directory for its beliefs."""


def claim(directory: Path) -> FileLock:
    """Lock the directory until this process ends or crashes; raises DirectoryInUse."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise DirectoryInUse(
            f"{directory}: another worker stores its beliefs there; each worker needs its own "
            "BELIEFSTREAM_DATA_DIRECTORY"
        ) from None
    return lock


@dataclass(frozen=True)
class Copy:
    """Describes the copy of a partition on disk.

    Attributes:
        application, topic: names of the application and its changelog.
        topic_id: the broker's id of that topic, which changes if the topic is created again.
        version: of its records; another than `VERSION` once it has had a record of another.
        offset: the offset of the last changelog record in it; -1 for none.
        records: the number of beliefs in it.
        written: when it was last written, seconds since the epoch.
    """

    application: str
    topic: str
    topic_id: str
    version: int = VERSION
    offset: int = -1
    records: int = 0
    written: float = 0.0

    def fault(self, found: Copy) -> str | None:
        """Return why the copy that was found cannot be used, or None."""
        for field in ("application", "topic", "topic_id", "version"):
            wanted, there = getattr(self, field), getattr(found, field)
            if wanted != there:
                return f"its {field} is {there!r}, not {wanted!r}"
        return None


class DiskStore(BeliefStore):
    """One RocksDB per partition, kept open after its first assignment; writes survive a kill of the process."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        options: Any = self.options
        self._directory: Path = options["directory"]
        self._topic_id: Callable[[], Awaitable[str]] = options["topic_id"]
        self._databases: dict[int, rocksdict.Rdict] = {}
        self._copies: dict[int, Copy] = {}
        self._blank: Copy | None = None
        self._cache = rocksdict.Cache(BLOCK_CACHE_BYTES)

    def read(self, partition: int, key: bytes) -> bytes | None:
        found: bytes | None = self._database(partition).get(key)
        return found

    def write(self, partition: int, changes: Changes, offset: int, growth: int | None = None) -> None:
        database, copy = self._database(partition), self._copies[partition]
        beliefs = {key: value for key, value in changes.items() if key[:1] != INTERNAL}
        if growth is None:
            growth = sum(value is not None for value in beliefs.values()) - self._known(partition, beliefs)
        others = [value[0] for value in beliefs.values() if value and value[0] != VERSION]
        version = others[0] if others else copy.version
        copy = replace(
            copy, version=version, offset=offset, records=copy.records + growth, written=time.time()
        )
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in changes.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        batch.put(STATE, orjson.dumps(asdict(copy)))
        try:
            database.write(batch)
        except Exception as error:  # rocksdict raises plain Exception
            raise self._fault(partition, error) from error
        self._copies[partition] = copy

    def write_own(self, partition: int, changes: Changes, last: int, growth: int) -> None:
        offset = self._copy(partition).offset
        if last == offset + len(changes):
            offset = last
        else:
            # Another worker has written in between, and its records are missing here. Or a record was sent twice. The
            # next recovery continues from the last certain offset.
            log.warning(
                "the changelog has records that this worker did not write", partition=partition, offset=last
            )
        self.write(partition, changes, offset, growth)

    def _known(self, partition: int, changes: Changes) -> int:
        """How many of these keys the store already has."""
        if not self._copies[partition].records:
            return 0
        database = self._databases[partition]
        likely: list[Any] = [key for key in changes if database.key_may_exist(key)]
        found: Any = database.get(likely) if likely else ()
        return sum(value is not None for value in found)

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        every: Any = self._database(partition).items()
        return ((key, value) for key, value in every if key[:1] != INTERNAL)

    def internal(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        following: Any = self._database(partition).items(from_key=prefix)
        return itertools.takewhile(lambda each: each[0].startswith(prefix), following)

    def size(self, partition: int) -> int:
        return self._copy(partition).records

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)
        if self.partitions:  # the changelog may have been deleted and created again
            topic = self.table.changelog_topic.get_topic_name()
            self._blank = Copy(self.app.conf.id, topic, await self._topic_id())

    def release(self, partition: int) -> None:
        pass  # the copy stays valid up to its offset, and recovery continues there if the partition comes back

    def persisted_offset(self, tp: TP) -> int | None:
        offset = self._copy(tp.partition).offset
        return offset if offset >= 0 else None

    def reset_state(self) -> None:
        for partition in list(self._databases):
            self._discard(partition, "Faust has reset the table")

    def check_against(self, tp: TP, first: int, last: int) -> None:
        copy = self._copy(tp.partition)
        fault = self._new_copy().fault(copy)
        if fault is not None:
            self._discard(tp.partition, fault)
            return
        if copy.offset < 0 or copy.offset == last:
            return
        age = time.time() - copy.written
        if copy.offset > last:
            fault = f"it ends at offset {copy.offset}, the changelog at {last}"
        elif copy.offset + 1 < first:
            fault = f"it ends at offset {copy.offset}, and the changelog begins at {first}"
        elif not -SKEW_SECONDS < age < STALE_SECONDS:
            fault = f"it is {age / 3600:.0f} hours old, and the changelog may have lost its newer tombstones"
        else:
            return
        self._discard(tp.partition, fault)

    def complete(self, tp: TP, last: int) -> None:
        if last > self._copy(tp.partition).offset:
            self.write(tp.partition, {}, last, 0)

    async def on_stop(self) -> None:
        for partition, database in self._databases.items():
            try:
                database.close()
            except Exception as error:  # the changelog has the changes that were not written
                log.error(STORE_FAILED, detail=str(self._fault(partition, error)))
        self._databases.clear()

    def _path(self, partition: int) -> Path:
        return self._directory / f"partition-{partition}"

    def _database(self, partition: int) -> rocksdict.Rdict:
        database = self._databases.get(partition)
        return database if database is not None else self._open(partition)

    def _copy(self, partition: int) -> Copy:
        self._database(partition)
        return self._copies[partition]

    def _open(self, partition: int) -> rocksdict.Rdict:
        path, blank = self._path(partition), self._new_copy()
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            database = rocksdict.Rdict(str(path), self._rocksdb_options())
        except Exception as error:  # rocksdict raises plain Exception
            if str(error).startswith("IO error") and "No such file" not in str(error):
                raise self._fault(partition, error) from error
            return self._recreate(partition, f"it cannot be read: {error}")
        self._databases[partition], self._copies[partition] = database, blank
        raw = database.get(STATE)
        if raw is None:
            return database
        try:
            found = Copy(**orjson.loads(raw))
            fault = blank.fault(found)
        except (TypeError, ValueError):
            fault = "its description is damaged"
        if fault is not None:
            return self._discard(partition, fault)
        self._copies[partition] = found
        return database

    def _discard(self, partition: int, fault: str) -> rocksdict.Rdict:
        self._databases.pop(partition).close()
        return self._recreate(partition, fault)

    def _recreate(self, partition: int, fault: str) -> rocksdict.Rdict:
        path = self._path(partition)
        log.warning(
            "a partition's beliefs on disk are discarded and read again from the changelog",
            directory=str(path),
            partition=partition,
            reason=fault,
        )
        # rename first, because a partly deleted database may look complete
        aside = path.with_suffix(".deleted")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            if path.exists():
                path.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
            self._databases[partition] = rocksdict.Rdict(str(path), self._rocksdb_options())
        except Exception as error:
            raise self._fault(partition, error) from error
        self._copies[partition] = self._new_copy()
        return self._databases[partition]

    def _fault(self, partition: int, error: Exception) -> StoreFault:
        """Return the fault for a full or read-only disk."""
        return StoreFault(f"{self._path(partition)}: {' '.join(str(error).split())}")

    def _new_copy(self) -> Copy:
        assert self._blank is not None, "partitions are assigned first"
        return self._blank

    def _rocksdb_options(self) -> rocksdict.Options:
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(self._cache)
        table.set_bloom_filter(10, block_based=False)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        options.set_max_open_files(OPEN_FILES)
        options.set_keep_log_file_num(2)
        options.set_max_log_file_size(LOG_BYTES)  # else it grows until the store is opened again
        return options
