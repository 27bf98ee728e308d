"""Reads Parquet files with pyarrow, of the extra `files`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from typing import Any

from beliefstream.streams.bridges.tables import Row, Table

_BATCH = 10_000  # rows in memory at once
_TICKS = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}  # a second


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
