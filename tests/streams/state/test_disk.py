"""Beliefs on disk: what is written is there for the next process, and what cannot be a copy is made again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import faust
import pytest
import structlog
from faust.types import TP

from beliefstream.streams.cli.services.worker import _claim_directory
from beliefstream.streams.cli.setup import CommandError
from beliefstream.streams.settings import Settings
from beliefstream.streams.state.disk import DirectoryInUse, DiskStore, claim
from beliefstream.streams.state.record import INTERNAL, VERSION
from beliefstream.streams.state.table import BeliefTable

PLACE = TP("app-beliefs-changelog", 0)
SOUND = bytes([VERSION])
RECORDS: dict[bytes, bytes | None] = {b"anna": SOUND + b"one", b"berta": SOUND + b"two"}


class Process:
    """What a worker makes of a data directory when it starts; one partition is assigned to it."""

    def __init__(self, directory: Path, application: str = "app", topic_id: str = "first") -> None:
        app = faust.App(application, broker="kafka://127.0.0.1:1", store="rocksdb://", Table=BeliefTable)
        self.topic_id = topic_id

        async def topic() -> str:
            return self.topic_id

        options = {"directory": directory, "topic_id": topic}
        table = app.Table("beliefs", key_type=bytes, value_type=bytes, partitions=1, options=options)
        assert isinstance(table, BeliefTable)
        store = table.store
        assert isinstance(store, DiskStore)
        place = TP(f"{application}-beliefs-changelog", 0)
        asyncio.run(store.on_rebalance({place}, set(), {place}))
        self.store = store

    def end(self) -> None:
        for database in self.store._databases.values():
            database.close()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A directory with two records, up to offset 7."""
    process = Process(tmp_path)
    process.store.write(0, RECORDS, 7)
    process.end()
    return tmp_path


def test_the_next_process_finds_what_was_written(written: Path) -> None:
    store = Process(written).store
    assert store.persisted_offset(PLACE) == 7
    assert {key: store.read(0, key) for key in RECORDS} == RECORDS
    assert dict(store.items(0)) == RECORDS
    assert len(store) == 2


def test_the_messages_of_the_database_do_not_fill_the_disk(written: Path) -> None:
    """RocksDB writes its options into a file beside its data."""
    (newest,) = sorted(written.rglob("OPTIONS-*"))[-1:]
    options = dict(line.split("=", 1) for line in newest.read_text().splitlines() if "=" in line)
    found = {name.strip(): int(value) for name, value in options.items() if "log_file" in name}
    assert found["max_log_file_size"] == 2**20
    assert found["keep_log_file_num"] == 2


def test_records_are_counted(tmp_path: Path) -> None:
    store = Process(tmp_path).store
    store.write(0, RECORDS, 1)
    store.write(0, {b"anna": SOUND + b"new", b"clara": SOUND + b"three", b"nobody": None}, 4)
    assert len(store) == 3 == len(dict(store.items(0)))
    store.write(0, {b"anna": None, b"berta": None}, 6)
    assert len(store) == 1 == len(dict(store.items(0)))
    assert store.read(0, b"anna") is None


def test_own_records_move_the_offset_only_where_nobody_else_wrote(written: Path) -> None:
    store = Process(written).store
    store.write_own(0, {b"anna": SOUND + b"three", b"clara": SOUND + b"four"}, 9, growth=1)
    assert store.persisted_offset(PLACE) == 9
    store.write_own(0, {b"anna": SOUND + b"five"}, 12, growth=0)  # 10 and 11 are another worker's
    assert store.read(0, b"anna") == SOUND + b"five"
    assert store.persisted_offset(PLACE) == 9
    store.complete(PLACE, 12)  # a recovery has read them
    store.write_own(0, {b"anna": SOUND + b"six"}, 13, growth=0)
    assert store.persisted_offset(PLACE) == 13


@pytest.mark.parametrize(("first", "last"), [(0, 7), (8, 7), (0, 20), (8, 20)])
def test_a_copy_that_is_up_to_date_or_behind_is_gone_on_with(written: Path, first: int, last: int) -> None:
    store = Process(written).store
    store.check_against(PLACE, first, last)
    assert store.persisted_offset(PLACE) == 7


@pytest.mark.parametrize(
    ("first", "last", "reason"),
    [
        (0, 6, "it ends at offset 7, the changelog at 6"),
        (0, -1, "it ends at offset 7, the changelog at -1"),
        (9, 20, "it ends at offset 7, and the changelog begins at 9"),
    ],
)
def test_a_copy_of_another_past_is_made_again(written: Path, first: int, last: int, reason: str) -> None:
    with structlog.testing.capture_logs() as logs:
        store = Process(written).store
        store.check_against(PLACE, first, last)
    assert [line["reason"] for line in logs] == [reason]
    assert store.persisted_offset(PLACE) is None
    assert len(store) == 0 == len(dict(store.items(0)))
    store.write(0, {b"anna": SOUND + b"again"}, 0)
    assert store.read(0, b"anna") == SOUND + b"again"


@pytest.mark.parametrize("hours", [13, -13])
def test_a_copy_that_may_have_missed_what_was_forgotten_is_made_again(
    written: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """It is old, or the clock has been put back and nobody knows."""
    now = time.time()
    monkeypatch.setattr("beliefstream.streams.state.disk.time.time", lambda: now + hours * 3600)
    store = Process(written).store
    store.check_against(PLACE, 0, 7)  # nothing has happened since
    assert store.persisted_offset(PLACE) == 7
    store.check_against(PLACE, 0, 8)
    assert store.persisted_offset(PLACE) is None


@pytest.mark.parametrize(
    ("application", "topic_id", "reason"),
    [
        ("other", "first", "its application is 'app', not 'other'"),
        ("app", "second", "its topic_id is 'first', not 'second'"),
    ],
)
def test_a_copy_of_something_else_is_made_again(
    written: Path, application: str, topic_id: str, reason: str
) -> None:
    with structlog.testing.capture_logs() as logs:
        store = Process(written, application, topic_id).store
        assert store.persisted_offset(PLACE) is None
    assert [line["reason"] for line in logs] == [reason]
    assert len(store) == 0


def test_a_copy_with_records_of_another_version_is_made_again(tmp_path: Path) -> None:
    process = Process(tmp_path)
    process.store.write(0, RECORDS | {b"clara": bytes([VERSION + 1])}, 7)
    process.store.write(0, {b"clara": None}, 8)
    process.end()
    with structlog.testing.capture_logs() as logs:
        assert Process(tmp_path).store.persisted_offset(PLACE) is None
    assert f"its version is {VERSION + 1}, not {VERSION}" in logs[0]["reason"]


def test_a_damaged_copy_is_made_again(written: Path) -> None:
    for file in (written / "partition-0").glob("MANIFEST-*"):
        file.write_bytes(b"nonsense")
    with structlog.testing.capture_logs() as logs:
        store = Process(written).store
        assert store.persisted_offset(PLACE) is None
    assert logs[0]["reason"].startswith("it cannot be read: Corruption")
    store.write(0, RECORDS, 7)
    assert len(store) == 2


def test_a_directory_is_one_workers_only(tmp_path: Path) -> None:
    lock = claim(tmp_path / "app")
    with pytest.raises(DirectoryInUse, match="another worker stores its beliefs there"):
        claim(tmp_path / "app")
    claim(tmp_path / "other")
    lock.release()
    claim(tmp_path / "app")


def test_a_worker_says_that_its_directory_is_taken(tmp_path: Path) -> None:
    settings = Settings(store="rocksdb://", data_directory=tmp_path, application="beacons/2")
    lock = claim(settings.belief_directory)
    with pytest.raises(
        CommandError, match=r"data_directory: .*beacons%2F2: another worker stores its beliefs there"
    ):
        _claim_directory(settings)
    lock.release()
    assert _claim_directory(settings) is not None
    assert _claim_directory(Settings(store="memory://", data_directory=tmp_path)) is None


def test_a_copy_of_a_changelog_that_was_made_again_while_others_had_the_partition_is_made_again(
    written: Path,
) -> None:
    process = Process(written)
    process.store.check_against(PLACE, 0, 20)
    assert process.store.persisted_offset(PLACE) == 7
    process.topic_id = "second"
    asyncio.run(process.store.on_rebalance({PLACE}, set(), {PLACE}))
    process.store.check_against(PLACE, 0, 20)
    assert process.store.persisted_offset(PLACE) is None


def test_a_copy_whose_deletion_was_broken_off_is_made_again(written: Path) -> None:
    for manifest in (written / "partition-0").glob("MANIFEST-*"):
        manifest.unlink()
    with structlog.testing.capture_logs() as logs:
        store = Process(written).store
        assert store.persisted_offset(PLACE) is None
    assert len(logs) == 1
    assert sorted(path.name for path in written.iterdir() if path.is_dir()) == ["partition-0"]


def test_the_loop_goes_on_while_the_broker_is_asked_for_the_changelogs_id(written: Path) -> None:
    process = Process(written)

    async def assign() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def topic() -> str:
            asked.set()
            await answer.wait()
            return "first"

        process.store._topic_id = topic
        assigning = asyncio.ensure_future(process.store.on_rebalance({PLACE}, set(), {PLACE}))
        async with asyncio.timeout(10):
            await asked.wait()
            answer.set()
            await assigning
        assert process.store.persisted_offset(PLACE) == 7
        process.end()

    asyncio.run(assign())


FULL_DISK = """
import resource, sys
from pathlib import Path
from beliefstream.streams.state.stores import or_stop
from tests.streams.state.test_disk import RECORDS, Process

store = Process(Path(sys.argv[1])).store
store.write(0, RECORDS, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))  # as for a disk that is full
with or_stop("a batch failed"):
    store.write(0, {b"anna": bytes(100_000)}, 2)
print("goes on")
"""


def test_a_full_disk_ends_the_worker_with_one_clear_line(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 70
    (line,) = done.stdout.splitlines()
    assert "beliefs cannot be written to disk: free space there" in line
    assert f"{tmp_path}/partition-0: IO error" in line and "File too large" in line
    assert "Traceback" not in done.stdout + done.stderr


def test_internal_records_are_found_by_their_prefix(tmp_path: Path) -> None:
    store = Process(tmp_path).store
    internal = {INTERNAL + b"health-a": b"1", INTERNAL + b"health-b": b"2"}
    store.write(0, RECORDS | internal | {INTERNAL + b"origin": b"3", INTERNAL + b"h": b"4"}, 9)
    assert dict(store.internal(0, INTERNAL + b"health-")) == internal
    assert dict(store.internal(0, INTERNAL + b"none")) == {}
    assert dict(store.items(0)) == RECORDS
