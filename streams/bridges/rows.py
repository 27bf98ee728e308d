"""A table's rows, whatever they are read from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from beliefstream.schemas import Unusable
from beliefstream.streams.bridges.bags.topics import BagTopic

Cells = Mapping[str, Any]


class Row(NamedTuple):
    """One row: where it stands in its file, and its cells by column, or why it cannot be read."""

    place: str
    cells: Cells | Unusable


@dataclass(frozen=True)
class Table:
    """A table that is read once."""

    name: str  # of the file
    columns: tuple[str, ...] | None  # their names; None if each row has its own, as in NDJSON
    rows: Iterable[Row]  # in the order of the file
    size: int | None = None  # number of rows; None if it is not known before they are read
    file: IO[bytes] | None = None  # what they are read from; `close` closes it

    def close(self) -> None:
        """Close the file, whether its rows have been read or not."""
        if self.file is not None:
            self.file.close()


@dataclass(frozen=True)
class BagOptions:
    """How the messages of a bag become rows."""

    topics: tuple[BagTopic, ...] = ()  # what becomes an observation; none: every topic of a known type
    has_entity: bool = False  # whether the entity is known without the bag
    time_unit: str = "s"  # that was asked for; times of a bag are in seconds
