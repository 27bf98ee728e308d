"""Reads bags as tables: a row for each observation that the topics of a mapping make. MCAP is read here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from mcap.exceptions import McapError
from mcap.reader import McapReader, NonSeekingReader, SeekingReader
from mcap.records import Channel, Schema
from mcap.writer import MCAP0_MAGIC
from mcap_ros2.decoder import DecoderFactory

from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.bridges.bags.choice import BagMessage, Choice, rows_of
from beliefstream.streams.bridges.rows import BagOptions, Row, Table

COLUMNS = ("entity", "sensor", "time", "value", "covariance")


def files_of(path: str) -> list[Path]:
    """The files of a bag: the file itself, or those in its folder, in order of their names.

    Raises:
        ValueError: the folder has none.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    for pattern in ("*.mcap", "*.db3", "*.db3.zstd"):
        if files := sorted(folder.glob(pattern)):
            return files
    raise ValueError(f"{path}: no file *.mcap or *.db3 in this folder")


def read_bag(path: str, options: BagOptions) -> Table:
    """Open a bag; its rows have the columns `COLUMNS`, and come in order of recording within each file.

    It is a file in MCAP or SQLite, or a folder of them. If the options name no topics, the first quantity of each topic
    of a known type is read.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no bag, none of its topics is used, a topic that is named is of another type, or an entity
            is not known.
    """
    if path == "-":
        raise ValueError("a bag is read from a file, not from standard input")
    if options.time_unit != "s":
        raise ValueError(f"mapping: time_unit: times of a bag are in seconds, got {options.time_unit!r}")
    files = files_of(path)
    choice = Choice(path, options.topics or None, options.has_entity)
    if ".db3" in files[0].suffixes:
        from beliefstream.streams.bridges.bags.sqlite import read_sqlite  # another library

        size, rows = read_sqlite(path, files, choice)
        return Table(path, COLUMNS, rows, size)
    sizes = [_look(file, choice) for file in files]
    if None not in sizes:
        choice.check_used()
    return Table(path, COLUMNS, _rows(files, choice), sum(each or 0 for each in sizes) or None)


def _open(file: IO[bytes], name: str) -> McapReader:
    """A reader; one that reads from the beginning to the end if the file has no index, as after a crash."""
    if file.read(len(MCAP0_MAGIC)) != MCAP0_MAGIC:
        raise ValueError(f"{name}: not MCAP")
    file.seek(0)
    try:
        reader = SeekingReader(file)
        whole = reader.get_summary() is not None
    except McapError:
        whole = False
    file.seek(0)
    return reader if whole else NonSeekingReader(file)


def _look(path: Path, choice: Choice) -> int | None:
    """Decide what is used by the index of a file, and return the number of rows; None if it has no index."""
    with path.open("rb") as file:
        reader = _open(file, str(path))
        summary = reader.get_summary() if isinstance(reader, SeekingReader) else None
    if summary is None:
        return None
    counts: Counter[int] = Counter(summary.statistics.channel_message_counts if summary.statistics else {})
    return sum(
        counts[number] * len(choice.uses(*_described(channel, summary.schemas.get(channel.schema_id))))
        for number, channel in summary.channels.items()
    )


def _described(channel: Channel, schema: Schema | None) -> tuple[str, str | None, str]:
    """Name, type and encoding of a topic."""
    return channel.topic, schema.name if schema is not None else None, channel.message_encoding


def _rows(files: Sequence[Path], choice: Choice) -> Iterator[Row]:
    for path in files:
        with path.open("rb") as file:
            messages = _messages(_open(file, str(path)))
            yield from rows_of(messages, path.name if len(files) > 1 else "", choice)
    choice.check_used()


def _messages(reader: McapReader) -> Iterator[BagMessage]:
    decoders = DecoderFactory()
    # without an index, messages would all be read before the first is given out
    for schema, channel, message in reader.iter_messages(log_time_order=isinstance(reader, SeekingReader)):
        decode = partial(_decoded, decoders, channel, schema, message.data)
        yield BagMessage(*_described(channel, schema), message.log_time, decode)


def _decoded(decoders: DecoderFactory, channel: Channel, schema: Schema | None, data: bytes) -> Any:
    decoder = decoders.decoder_for(channel.message_encoding, schema)
    if decoder is None:
        fault = (
            f"message: cannot be decoded: schema encoding {schema.encoding if schema else ''!r} is not read"
        )
        raise Unusable(Reason.invalid, fault)
    return decoder(data)
