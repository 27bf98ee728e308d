"""Options that say what a file of observations holds."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from beliefstream.streams.bridges.mapping import ColumnMapping, Found


class FileFormat(StrEnum):
    """Formats of a file of observations."""

    csv = "csv"
    parquet = "parquet"
    ndjson = "ndjson"
    mcap = "mcap"
    db3 = "db3"


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
        "position, orientation, id",
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
    FileFormat | None,
    typer.Option("--file-format", help="of FILE", show_default="by its name; ndjson"),
]


def column_mapping(
    columns: list[str] | None, constants: list[str] | None, file: Path | None, unit: TimeUnit | None
) -> ColumnMapping:
    """The mapping that the options state; raises ValueError if they state none."""
    from beliefstream.streams.bridges.mapping import mapping_of

    stated = {}
    if file is not None:
        from beliefstream.streams.bridges.yaml_documents import documents

        read = documents(file.read_bytes(), str(file))  # JSON is YAML too
        if len(read) != 1 or not isinstance(read[0].value, dict):
            raise ValueError(f"{file}: expected one object with columns, constants and time_unit")
        stated = read[0].value
    try:
        return mapping_of(stated, columns or (), constants or (), unit and unit.value)
    except ValueError as error:
        raise ValueError(f"{file}: {error}" if file is not None else str(error)) from None


def tell(found: Found) -> None:
    """Say on standard error why a row cannot be used."""
    print(f"{found.place}: {found.observation}", file=sys.stderr)
