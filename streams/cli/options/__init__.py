"""Options that several commands share, and parsers for their values."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.cli.setup import CommandError

if TYPE_CHECKING:
    from beliefstream.streams.bridges.definition_files import Stated
    from beliefstream.streams.bridges.mapping import ColumnMapping, Found

Brokers = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT[,...]", help="Kafka bootstrap servers", show_default="of BELIEFSTREAM_BROKERS"
    ),
]

Since = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="only from this time on: 90s, 15m, 2h, 7d ago, epoch seconds or RFC 3339"
    ),
]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def moment_since(text: str | None) -> float:
    """Parse the option --since as seconds since the epoch; raises CommandError."""
    from beliefstream.schemas import from_rfc3339

    now = time.time()
    if text is None:
        return float("-inf")
    if (duration := _DURATION.fullmatch(text)) is not None:
        return now - float(duration[1]) * _SECONDS[duration[2]]
    try:
        try:
            moment = float(text)
        except ValueError:
            moment = from_rfc3339(text)
    except ValueError:
        wanted = "expected 90s, 15m, 2h, 7d, seconds since the epoch or RFC 3339 with an offset"
        raise CommandError(f"--since: {wanted}, got {text!r}") from None
    if not moment <= now:
        raise CommandError(f"--since: {text!r} is in the future")
    return moment


def numbers(text: str) -> list[float]:
    """Parse `1,2.5` as numbers; raises CommandError that shows the invalid part."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise CommandError(f"expected numbers separated by commas, such as 1,2.5, got {text!r}") from None


def whole_numbers(text: str, option: str, least: int) -> tuple[int, ...]:
    """Parse `1,2` as whole numbers from `least`; raises CommandError that names the option and the text."""
    try:
        found = tuple(int(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or min(found) < least:
        raise CommandError(
            f"{option}: expected whole numbers from {least}, separated by commas, got {text!r}"
        )
    return found


def moment(text: str | None) -> float | str | None:
    """Parse a time in seconds since the epoch; return other text unchanged, as RFC 3339 that the message checks."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def keep_inputs(out: Path | None, *inputs: str | Path | None) -> None:
    """Raise CommandError if the output is one of the input files, which it would replace."""
    for each in inputs:
        if out is not None and each is not None and _is_file(each) and out.exists() and out.samefile(each):
            raise CommandError(f"{out}: is an input of this command; name another file for the output")


def _is_file(source: str | Path) -> bool:
    """Whether the source is a path of a file, not `-` or JSON."""
    try:
        return Path(source).is_file()
    except OSError:  # JSON may be too long for a path
        return False


class TimeUnit(StrEnum):
    """Units of times that are numbers."""

    s = "s"
    ms = "ms"
    us = "us"
    ns = "ns"


Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="FIELD=COLUMN[,...]",
        help="the column of a field: entity, sensor, time, value (or several), standard_deviation, covariance, "
        "position, velocity, orientation, id",
        show_default="the column of its name",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=TEXT", help="a field that is the same in every row: sensor=gps"),
]
MappingFile = Annotated[
    Path | None,
    typer.Option(
        "--mapping",
        metavar="FILE",
        help="the same as JSON or YAML: columns, constants, time_unit; topics of a bag",
    ),
]
Unit = Annotated[
    TimeUnit | None, typer.Option("--time-unit", help="of times that are numbers", show_default="s")
]
Formatted = Annotated[
    FileFormat | None, typer.Option("--file-format", help="of FILE", show_default="by its name; ndjson")
]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table, or topics of a bag, make an observation."""

    map: Map = None
    set: Set = None
    mapping: MappingFile = None
    time_unit: Unit = None

    def read(self) -> ColumnMapping:
        """The mapping that the options state; raises ValueError if it is wrong."""
        from beliefstream.streams.bridges.mapping import mapping_of

        stated = {}
        if self.mapping is not None:
            from beliefstream.streams.bridges.definition_files import documents

            read = documents(self.mapping.read_bytes(), str(self.mapping))  # JSON is YAML too
            if len(read) != 1 or not isinstance(read[0].value, dict):
                raise ValueError(f"{self.mapping}: expected one object with columns, constants and time_unit")
            stated = read[0].value
        try:
            unit = self.time_unit and self.time_unit.value
            return mapping_of(stated, self.map or (), self.set or (), unit)
        except ValueError as error:
            raise ValueError(f"{self.mapping}: {error}" if self.mapping is not None else str(error)) from None


@dataclass(frozen=True)
class Table(Columns):
    """How a file is read, and which of its columns make an observation."""

    file_format: Formatted = None


def tell(found: Found) -> None:
    """Say on standard error why a row cannot be used."""
    print(f"{found.place}: {found.observation}", file=sys.stderr)


def read_source(source: str) -> bytes:
    """Return the content of FILE, of `-` (standard input) or of JSON given directly."""
    if source == "-":
        return sys.stdin.buffer.read()
    if source.lstrip().startswith(("{", "[")):
        return source.encode()
    return Path(source).read_bytes()


def read_definitions(source: str) -> list[Stated]:
    """Return the definitions of a source in JSON or YAML: one, a list of them, or one per line or document.

    Raises ValueError if it is neither.
    """
    from beliefstream.streams.bridges import definition_files

    return definition_files.read_definitions(read_source(source), name_of(source))


def name_of(source: str) -> str:
    """Return what errors call FILE, standard input or JSON."""
    if source == "-":
        return "standard input"
    return source[:40] if source.lstrip().startswith(("{", "[")) else source
