"""Tables in files: CSV, NDJSON and Parquet, read row by row.

A row that cannot be read is yielded as the `Unusable` that says why; the rows after it are read all the same.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from beliefstream.schemas import Reason, Unusable
from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.bridges.rows import BagOptions, Cells, Row, Table

DELIMITERS = ",;\t"
_HELD = 1000  # rows that wait for the first JSON object: without one, the file is of another format
_EXAMPLE = '{"entity": "boat", "sensor": "gps", "time": 1.5, "value": [3, 4]}'
_SUFFIXES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".mcap": "mcap",
    ".db3": "db3",
}
_BATCH = 10_000  # rows in memory at once
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # a second


def format_of(path: str, otherwise: FileFormat | None = None) -> FileFormat:
    """The format of a file by its name; `otherwise` if the name says nothing.

    Raises:
        ValueError: the name says nothing, and there is no `otherwise`.
    """
    suffix = ".mcap" if Path(path).is_dir() else Path(path).suffix.lower()  # a bag is often a folder
    if suffix in _SUFFIXES:
        return FileFormat(_SUFFIXES[suffix])
    if otherwise is None:
        raise ValueError(f"{path}: its name ends in none of {', '.join(_SUFFIXES)}; name its format")
    return otherwise


def open_table(path: str, format: FileFormat, bag: BagOptions | None = None) -> Table:
    """Open a file, a folder with the files of a bag, or standard input for `-`; rows are read as they are taken.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not of that format, or a CSV file has no header, or one that names a column twice. Rows of
            NDJSON raise it where no line is an object.
    """
    if format is FileFormat.parquet:
        return read_parquet(path)
    if format in (FileFormat.mcap, FileFormat.db3):
        from beliefstream.streams.bridges.bags.reading import read_bag

        return read_bag(path, bag or BagOptions())
    name, file = ("standard input", sys.stdin.buffer) if path == "-" else (path, open(path, "rb"))  # noqa: SIM115
    if format is FileFormat.ndjson:
        return Table(name, None, _json_rows(name, file), file=file)
    try:
        return _read_csv(name, file)
    except (ValueError, csv.Error) as error:
        file.close()
        raise ValueError(
            f"{name}: line 1: not CSV: {error}" if isinstance(error, csv.Error) else error
        ) from None


def begins_object(line: bytes) -> bool:
    """Whether a line begins like a JSON object."""
    return line.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{")


def no_json_lines(name: str) -> str:
    """The error of a file of which no line is an object, as in a CSV file."""
    return (
        f"{name}: no line is a JSON object; expected JSON lines, one object each, such as {_EXAMPLE}, or "
        "--file-format csv"
    )


def _json_rows(name: str, file: IO[bytes]) -> Iterator[Row]:
    held: list[Row] = []
    is_empty, is_json = True, False
    with file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            is_empty = False
            held.append(Row(f"line {number}", _json_cells(line)))
            is_json = is_json or begins_object(line)
            if is_json or len(held) == _HELD:
                yield from held
                held.clear()
    if not is_json and not is_empty:
        raise ValueError(no_json_lines(name))


def _json_cells(line: bytes) -> Cells | Unusable:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Unusable(Reason.not_json, f"message: not JSON: {error}")
    if not isinstance(content, dict):
        return Unusable(Reason.invalid, f"message: expected a JSON object ({str(content)[:80]})")
    return content


def _read_csv(name: str, file: IO[bytes]) -> Table:
    # bytes that are no UTF-8 become surrogates, which no field of a message may hold
    lines = (
        line.decode("utf-8" if number else "utf-8-sig", "surrogateescape") for number, line in enumerate(file)
    )
    first = next(lines, "")
    delimiter = max(DELIMITERS, key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
    columns = tuple(column.strip() for column in next(csv.reader([first], delimiter=delimiter), []))
    if not any(columns):
        raise ValueError(
            f"{name}: expected a first line with the names of the columns, got {first.strip()!r}"
        )
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ValueError(f"{name}: line 1 names column {twice[0]!r} twice")
    rows = _csv_rows(file, csv.reader(lines, delimiter=delimiter, strict=True), columns)
    return Table(name, columns, rows, file=file)


def _csv_rows(file: IO[bytes], reader: Any, columns: tuple[str, ...]) -> Iterator[Row]:
    with file:
        while True:
            first = reader.line_num + 2  # the header is line 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                fault = Unusable(Reason.invalid, f"message: not CSV: {error}")
                yield Row(_lines(first, reader.line_num + 1), fault)
                continue
            if not cells:  # an empty line
                continue
            place = _lines(first, reader.line_num + 1)
            if len(cells) == len(columns):
                yield Row(place, dict(zip(columns, cells, strict=True)))
            else:
                detail = f"message: {len(cells)} cells under {len(columns)} columns ({', '.join(cells)[:80]})"
                yield Row(place, Unusable(Reason.invalid, detail))


def _lines(first: int, last: int) -> str:
    return f"line {first}" if last <= first else f"lines {first} to {last}"


def read_parquet(path: str) -> Table:
    """Open a Parquet file, or standard input for `-`.

    Timestamps with a time zone become seconds since the epoch. Those without one stay text, which messages refuse:
    nothing says when they were.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not Parquet.
    """
    import pyarrow
    from pyarrow import parquet

    name = "standard input" if path == "-" else path
    source: Any = BytesIO(sys.stdin.buffer.read()) if path == "-" else open(path, "rb")  # noqa: SIM115
    try:
        file = parquet.ParquetFile(source)
    except pyarrow.ArrowException as error:
        source.close()
        raise ValueError(f"{name}: not Parquet: {error}") from None
    columns = tuple(file.schema_arrow.names)
    return Table(name, columns, _rows(source, file), file.metadata.num_rows, source)


def _rows(source: Any, file: Any) -> Iterator[Row]:
    number = 0
    with source:
        for batch in file.iter_batches(batch_size=_BATCH):
            columns = {name: _values(batch.column(name)) for name in batch.schema.names}
            for cells in zip(*columns.values(), strict=True):
                number += 1
                yield Row(f"row {number}", dict(zip(columns, cells, strict=True)))


def _values(column: Any) -> list[Any]:
    import pyarrow

    kind = column.type
    if not pyarrow.types.is_timestamp(kind):
        return list(column.to_pylist())
    if kind.tz is None:
        return [
            None if text is None else text.replace(" ", "T") for text in column.cast("string").to_pylist()
        ]
    ticks = column.cast("int64").to_pylist()
    return [None if each is None else each / _TICKS[kind.unit] for each in ticks]
