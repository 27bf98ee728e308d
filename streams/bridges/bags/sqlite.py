"""Reads bags that are stored in SQLite, by rosbags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import apsw
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, ReaderError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from beliefstream.streams.bridges.bags.choice import Choice, Use, damaged, rows_of, said, where
from beliefstream.streams.bridges.tables import Row

# Recorders write definitions into a bag since Iron: one without them is of Humble, or older.
OLD = Stores.ROS2_HUMBLE
Decode = Callable[[bytes], Any]


def read_sqlite(path: str, files: Sequence[Path], choice: Choice) -> tuple[int, Iterator[Row]]:
    """Decide what of a bag is used; returns the number of its rows, and the rows.

    Args:
        path: of a file, or of a folder of them.
        files: of the bag; they are read one by one if the folder has no `metadata.yaml`, as after a crash.
        choice: which topics are read.

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
            size += sum(each.msgcount * len(_uses(choice, each)) for each in reader.connections)
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


def _uses(choice: Choice, connection: Connection) -> tuple[Use, ...]:
    extra = connection.ext
    encoding = extra.serialization_format if isinstance(extra, ConnectionExtRosbag2) else "ROS 1"
    return choice.uses(connection.topic, connection.msgtype, encoding)


def _rows(bags: Sequence[Path], choice: Choice) -> Iterator[Row]:
    for path in bags:
        with _opened(path) as reader:
            yield from _bag_rows(reader, path.name if len(bags) > 1 else "", choice)


def _bag_rows(reader: Reader, name: str, choice: Choice) -> Iterator[Row]:
    counts, decoders = Counter[str](), dict[tuple[str, str], Decode]()
    used = [each for each in reader.connections if _uses(choice, each)]
    messages = reader.messages(used) if used else iter(())
    while True:
        try:
            connection, recorded, raw = next(messages)
        except StopIteration:
            return
        except Exception as error:  # a damaged file may raise anything
            yield damaged(sum(counts.values()), name, error)
            return
        counts[connection.topic] += 1
        place = where(counts[connection.topic], connection.topic, name)
        content, problem = None, None
        try:
            key = connection.msgtype, connection.msgdef.data
            decode = decoders.get(key) or decoders.setdefault(key, _decoder(connection))
            content = decode(raw)
        except Exception as error:  # the content may not fit its definition, nor that the language
            problem = said(error)
        yield from rows_of(_uses(choice, connection), place, content, problem, recorded)


def _decoder(connection: Connection) -> Decode:
    """Decodes messages by the definition in the bag."""
    form = connection.msgdef.format
    if form is MessageDefinitionFormat.NONE:
        store = get_typestore(OLD)
    elif form is MessageDefinitionFormat.MSG:
        store = get_typestore(Stores.EMPTY)
        store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
    else:
        raise ValueError(f"definition of kind {form.name} is not read")
    return partial(store.deserialize_cdr, typename=connection.msgtype)
