"""Reads bags as tables: a row for each observation that the topics of a mapping make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mcap.exceptions import McapError
from mcap.reader import McapReader, NonSeekingReader, SeekingReader
from mcap.records import Channel, Message, Schema
from mcap.writer import MCAP0_MAGIC
from mcap_ros2.decoder import DecoderFactory

from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.bridges.bags.quantities import TYPES, Read, type_of
from beliefstream.streams.bridges.bags.topics import BagTopic
from beliefstream.streams.bridges.tables import BagOptions, Cells, Row, Table

__all__ = ["files_of", "read_bag"]

COLUMNS = ("entity", "sensor", "time", "value", "covariance")
NANOSECONDS = 1e9


def files_of(path: str) -> list[Path]:
    """The MCAP files of a bag: the file itself, or those in its folder, in order of their names.

    Raises:
        ValueError: the folder has none.
    """
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    files = sorted(folder.glob("*.mcap"))
    if not files:
        other = " (SQLite is not read: ros2 bag convert)" if any(folder.glob("*.db3")) else ""
        raise ValueError(f"{path}: no file *.mcap in this folder{other}")
    return files


def read_bag(path: str, options: BagOptions) -> Table:
    """Open a bag; its rows have the columns `COLUMNS`, and come in order of recording within each file.

    Args:
        path: of an MCAP file, or of a folder of them.
        options: which topics are read; without any, the first quantity of each topic of a known type.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no MCAP, none of its topics is used, a topic that is named is of another type, or an entity
            is not known.
    """
    if path == "-":
        raise ValueError("a bag is read from a file, not from standard input")
    if options.time_unit != "s":
        raise ValueError(f"mapping: time_unit: times of a bag are in seconds, got {options.time_unit!r}")
    files = files_of(path)
    choice = _Choice(path, options.topics or None, options.has_entity)
    sizes = [_look(file, choice) for file in files]
    if None not in sizes:
        choice.check_used()
    return Table(path, COLUMNS, _rows(files, choice), sum(each or 0 for each in sizes) or None)


@dataclass(frozen=True)
class _Use:
    """What one channel gives: an observation for each of these topics of the mapping."""

    topic: BagTopic
    entity: str | None
    sensor: str
    read: Read


@dataclass
class _Choice:
    """Decides what of each channel is used, once."""

    path: str
    topics: tuple[BagTopic, ...] | None
    has_entity: bool
    seen: dict[str, str] = field(default_factory=dict)
    used: dict[str, tuple[_Use, ...]] = field(default_factory=dict)

    def uses(self, channel: Channel, schema: Schema | None) -> tuple[_Use, ...]:
        """The uses of a channel; raises ValueError as `read_bag`."""
        if channel.topic not in self.seen:
            self.seen[channel.topic] = type_of(schema.name) if schema is not None else "no type"
            found = tuple(self._new(channel, self.seen[channel.topic]))
            if found:
                self.used[channel.topic] = found
        return self.used.get(channel.topic, ())

    def check_used(self) -> None:
        """Raise ValueError if nothing is used."""
        if not self.used:
            listed = ", ".join(f"{topic} ({kind})" for topic, kind in sorted(self.seen.items()))
            raise ValueError(f"{self.path}: no topic of it is used; there are {listed or 'none'}")

    def _new(self, channel: Channel, kind: str) -> Iterator[_Use]:
        rules = self.topics if self.topics is not None else (BagTopic(topic=channel.topic),)
        for rule in rules:
            names = rule.names(channel.topic)
            if names is None or (self.topics is None and kind not in TYPES):
                continue
            if kind not in TYPES or channel.message_encoding != "cdr":
                known = ", ".join(TYPES)
                raise ValueError(
                    f"{self.path}: {channel.topic} is of type {kind} ({channel.message_encoding}), which is not read; "
                    f"read are, of ROS 2: {known}"
                )
            quantity = rule.quantity or next(iter(TYPES[kind]))
            if quantity not in TYPES[kind]:
                known = ", ".join(TYPES[kind])
                raise ValueError(
                    f"mapping: quantity: {channel.topic} of type {kind} has {known}, not {quantity!r}"
                )
            entity, sensor = names
            if entity is None and not self.has_entity:
                raise ValueError(
                    f"{self.path}: whose is {channel.topic}? Name the entity: --set entity=NAME, or entity of "
                    "the topic in a mapping"
                )
            yield _Use(rule, entity, sensor, TYPES[kind][quantity])


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


def _look(path: Path, choice: _Choice) -> int | None:
    """Decide what is used by the index of a file, and return the number of rows; None if it has no index."""
    with path.open("rb") as file:
        reader = _open(file, str(path))
        summary = reader.get_summary() if isinstance(reader, SeekingReader) else None
    if summary is None:
        return None
    counts: Counter[int] = Counter(summary.statistics.channel_message_counts if summary.statistics else {})
    return sum(
        counts[number] * len(choice.uses(channel, summary.schemas.get(channel.schema_id)))
        for number, channel in summary.channels.items()
    )


def _rows(files: Sequence[Path], choice: _Choice) -> Iterator[Row]:
    for path in files:
        with path.open("rb") as file:
            yield from _file_rows(_open(file, str(path)), path.name if len(files) > 1 else "", choice)
    choice.check_used()


def _file_rows(reader: McapReader, name: str, choice: _Choice) -> Iterator[Row]:
    decoders, counts = DecoderFactory(), Counter[str]()
    # without an index, messages would all be read before the first is given out
    messages = reader.iter_messages(log_time_order=isinstance(reader, SeekingReader))
    while True:
        try:
            schema, channel, message = next(messages)
        except StopIteration:
            return
        except Exception as error:  # a damaged file may raise anything
            place = f"{name} " if name else ""
            yield Row(
                f"{place}after message {sum(counts.values())}",
                Unusable(
                    Reason.invalid, f"message: the bag is damaged, the rest is not read ({_said(error)})"
                ),
            )
            return
        counts[channel.topic] += 1
        uses = choice.uses(channel, schema)
        if not uses or schema is None:
            continue
        where = f"message {counts[channel.topic]} of {channel.topic}" + (f" in {name}" if name else "")
        try:
            decoder = decoders.decoder_for(channel.message_encoding, schema)
            content = decoder(message.data) if decoder is not None else None
            fault = None if content is not None else f"schema encoding {schema.encoding!r} is not read"
        except Exception as error:  # the content may not fit its schema
            fault = _said(error)
        for use in uses:
            cells = (
                _cells(use, content, message)
                if fault is None
                else Unusable(Reason.invalid, f"message: cannot be decoded: {fault}")
            )
            yield Row(f"{where} as {use.sensor}" if len(uses) > 1 else where, cells)


def _cells(use: _Use, content: Any, message: Message) -> Cells | Unusable:
    try:
        value, covariance = use.read(content, use.topic.dimensions)
        return {
            "entity": use.entity,
            "sensor": use.sensor,
            "time": _time(use.topic, content, message),
            "value": value[0] if len(value) == 1 else value,
            "covariance": covariance if use.topic.covariance == "message" else None,
        }
    except Unusable as error:
        return error


def _time(topic: BagTopic, content: Any, message: Message) -> float:
    if topic.time == "log":
        return message.log_time / NANOSECONDS
    stamp = content.header.stamp
    if not stamp.sec and not stamp.nanosec:
        raise Unusable(
            Reason.invalid_time, "header.stamp: it is 0; time: log in the mapping is the time of recording"
        )
    return float(stamp.sec + stamp.nanosec / NANOSECONDS)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
