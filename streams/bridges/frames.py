"""Frames of pandas and polars, neither of which is needed for anything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from importlib import import_module
from typing import Any, Literal

from beliefstream.schemas import Posterior
from beliefstream.streams.bridges.posterior_tables import columns_with, row_of
from beliefstream.streams.bridges.tables import Row, Table

Library = Literal["pandas", "polars"]


def library_of(frame: Any) -> Library | None:
    """The library of a frame; None if it is none."""
    module = type(frame).__module__.partition(".")[0]
    if type(frame).__name__ != "DataFrame":
        return None
    return "pandas" if module == "pandas" else "polars" if module == "polars" else None


def table_of(frame: Any, library: Library) -> Table:
    """The rows of a frame; times with a zone become seconds since the epoch."""
    if library == "pandas":
        filled = frame.astype(object).where(frame.notna(), None)  # NaN, NaT and NA are empty cells
        columns = {str(name): filled[name].tolist() for name in filled.columns}
    else:
        columns = frame.to_dict(as_series=False)
    return Table("observations", tuple(columns), _rows(columns), len(frame))


def _rows(columns: dict[str, list[Any]]) -> Iterator[Row]:
    for number, cells in enumerate(zip(*columns.values(), strict=True)):
        yield Row(f"row {number}", dict(zip(columns, map(plain, cells), strict=True)))


def plain(cell: Any) -> Any:
    """A cell as JSON knows it: times with a zone as seconds since the epoch, others as text, arrays as lists."""
    if isinstance(cell, datetime):
        return cell.isoformat() if cell.tzinfo is None else cell.timestamp()
    return cell.tolist() if hasattr(cell, "tolist") else cell


def frame_of(posteriors: Sequence[Posterior], library: Library) -> Any:
    """A frame with the columns that posteriors have in files."""
    columns: tuple[str, ...] = ()
    rows = [row_of(posterior) for posterior in posteriors]
    for row in rows:
        columns = columns_with(columns, row)
    by_column = {name: [row.get(name) for row in rows] for name in columns or columns_with((), {})}
    return import_module(library).DataFrame(by_column)
