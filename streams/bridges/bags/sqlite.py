"""Reads bags that are stored in SQLite, by rosbags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import apsw
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from beliefstream.streams.bridges.bags.choice import BagMessage, Choice, rows_of
from beliefstream.streams.bridges.rows import Row

# Recorders write definitions into a bag since Iron: one without them is of Humble, or older.
OLD = Stores.ROS2_HUMBLE


def read_sqlite(path: str, files: Sequence[Path], choice: Choice) -> tuple[int, Iterator[Row]]:
    """Decide what of a bag is used; returns the number of its rows, and the rows.

    Its files are read one by one if it is a folder without `metadata.yaml`, as after a crash.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no bag; and what `Choice` raises.
    """
    for file in files:
        _check_whole(file)
    bags = [Path(path)] if Path(path, "metadata.yaml").exists() else list(files)
    size = 0
    for bag in bags:
        with _opened(bag) as reader:
            size += sum(each.msgcount * len(choice.uses(*_described(each))) for each in reader.connections)
    choice.check_used()
    return size, _rows(bags, choice)


def _check_whole(file: Path) -> None:
    """Raise ValueError if messages are beside the file and not in it: rosbags would leave them out."""
    log = file.with_name(f"{file.name}-wal")
    if log.exists() and log.stat().st_size:
        raise ValueError(
            f"{log} holds messages that are not in the bag yet, since its recorder did not end: "
            f"sqlite3 {file} 'PRAGMA wal_checkpoint' puts them there"
        )


@contextmanager
def _opened(path: Path) -> Iterator[Reader]:
    try:
        reader = Reader(path)
        reader.open()
    except (ReaderError, apsw.Error) as error:
        raise ValueError(f"{path}: not a bag in SQLite: {error}") from None
    try:
        yield reader
    finally:
        reader.close()


def _described(connection: Connection) -> tuple[str, str, str]:
    """Name, type and encoding of a topic."""
    extra = connection.ext
    encoding = extra.serialization_format if isinstance(extra, ConnectionExtRosbag2) else "ROS 1"
    return connection.topic, connection.msgtype, encoding


def _rows(bags: Sequence[Path], choice: Choice) -> Iterator[Row]:
    for path in bags:
        with _opened(path) as reader:
            yield from rows_of(_messages(reader, choice), path.name if len(bags) > 1 else "", choice)


def _messages(reader: Reader, choice: Choice) -> Iterator[BagMessage]:
    used = [each for each in reader.connections if choice.uses(*_described(each))]
    for connection, recorded, raw in reader.messages(used) if used else ():
        yield BagMessage(*_described(connection), recorded, partial(_decoded, connection, raw))


def _decoded(connection: Connection, raw: bytes) -> Any:
    definition = connection.msgdef
    return _types(connection.msgtype, definition.format, definition.data).deserialize_cdr(
        raw, connection.msgtype
    )


@lru_cache
def _types(kind: str, form: MessageDefinitionFormat, definition: str) -> Typestore:
    """The types that the definition in a bag names."""
    if form is MessageDefinitionFormat.NONE:
        return get_typestore(OLD)
    if form is not MessageDefinitionFormat.MSG:
        raise ValueError(f"definition of kind {form.name} is not read")
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg(definition, kind))
    return store
