"""Posteriors as a table: a row each, with the mean and standard deviation of every coordinate.

Coordinates that no posterior had before, as of another model, become columns when they come: the file is then written
anew, with empty cells above.
"""

from __future__ import annotations

import csv
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol, Self

from beliefstream.schemas import Posterior, parse
from beliefstream.streams.bridges.formats import FileFormat
from beliefstream.streams.bridges.tables import format_of
from beliefstream.streams.kafka.connection import Closing

FIRST = ("entity", "time", "sequence", "revision")
LAST = ("sample_efficiency", "log_evidence", "p_value", "method", "accumulated_error")
_ROW_GROUP = 10_000  # rows that Parquet holds in memory


def row_of(posterior: Posterior) -> dict[str, Any]:
    """The row of a posterior by column: `x_mean` and `x_standard_deviation` of a coordinate x."""
    row = {name: getattr(posterior, name) for name in FIRST}
    mixture = posterior.mixture
    moments = zip(mixture.mean().tolist(), mixture.standard_deviations().tolist(), strict=True)
    for name, (mean, deviation) in zip(posterior.coordinate_names, moments, strict=True):
        row[f"{name}_mean"] = mean
        row[f"{name}_standard_deviation"] = deviation
    return row | {name: getattr(posterior.quality, name) for name in LAST}


def columns_with(columns: tuple[str, ...], row: dict[str, Any]) -> tuple[str, ...]:
    """The columns with those of a row, before the figures of quality."""
    known = columns or (*FIRST, *LAST)
    new = [name for name in row if name not in known]
    return (*known[: -len(LAST)], *new, *LAST)


class PosteriorWriter(Protocol):
    """Writes posteriors, as a context."""

    def write(self, raw: bytes) -> None:
        """Write one that is JSON."""

    def close(self) -> None:
        """Write what is buffered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def open_posteriors(path: Path | None) -> PosteriorWriter:
    """Open a file for posteriors: CSV, Parquet or MCAP by its name, JSON lines otherwise and on standard output.

    Raises:
        OSError: it cannot be written.
    """
    if path is None:
        return _JsonLines(None)
    format = format_of(str(path), FileFormat.ndjson)
    if format is FileFormat.csv:
        return _Csv(path)
    if format is FileFormat.mcap:
        from beliefstream.streams.bridges.bags.posteriors import McapPosteriors

        return McapPosteriors(path)
    return _Parquet(path) if format is FileFormat.parquet else _JsonLines(path)


class _JsonLines(Closing):
    def __init__(self, path: Path | None) -> None:
        sys.stdout.flush()
        self._file: IO[bytes] = sys.stdout.buffer if path is None else path.open("wb")
        self._is_own = path is not None

    def write(self, raw: bytes) -> None:
        self._file.write(raw + b"\n")
        self._file.flush()

    def close(self) -> None:
        if self._is_own:
            self._file.close()


class _Csv(Closing):
    """Rows are in the file at once, so that it can be followed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._columns: tuple[str, ...] = ()
        self._delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        self._file = _text(path, "w")
        self._writer = self._rows(self._file, ())

    def write(self, raw: bytes) -> None:
        posterior = parse(Posterior, raw)
        row = row_of(posterior)
        columns = columns_with(self._columns, row)
        if columns != self._columns:
            self._widen(columns)
        self._writer.writerow(row)

    def close(self) -> None:
        self._file.close()

    def _widen(self, columns: tuple[str, ...]) -> None:
        """Write the header, and the rows so far under it."""
        self._file.close()
        wider = self._path.with_name(f"{self._path.name}.wider")
        with self._path.open(newline="", encoding="utf-8") as before, _text(wider, "w") as file:
            writer = self._rows(file, columns)
            writer.writeheader()
            writer.writerows(csv.DictReader(before, delimiter=self._delimiter))
        os.replace(wider, self._path)
        self._file, self._columns = _text(self._path, "a"), columns
        self._writer = self._rows(self._file, columns)

    def _rows(self, file: Any, columns: tuple[str, ...]) -> csv.DictWriter[str]:
        return csv.DictWriter(file, columns, delimiter=self._delimiter, lineterminator="\n")


def _text(path: Path, mode: str) -> Any:
    return path.open(mode, newline="", encoding="utf-8", buffering=1)


class _Parquet(Closing):
    """The file can be read once it is closed."""

    def __init__(self, path: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        self._path = path
        self._arrow, self._parquet = pyarrow, parquet
        self._columns: tuple[str, ...] = ()
        self._rows: list[dict[str, Any]] = []
        self._units: dict[str, str] = {}
        self._file = path.open("wb")
        self._writer: Any = None

    def write(self, raw: bytes) -> None:
        posterior = parse(Posterior, raw)
        row = row_of(posterior)
        columns = columns_with(self._columns, row)
        if columns != self._columns:
            self._flush()
            self._widen(columns, posterior)
        self._rows.append(row)
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._writer is None and not self._file.closed:  # nothing came: a file without rows is Parquet too
            self._open((*FIRST, *LAST))
        self._flush()
        self._writer.close()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema()))
            self._rows.clear()

    def _widen(self, columns: tuple[str, ...], posterior: Posterior) -> None:
        """Begin the file anew with these columns, and the rows so far."""
        for coordinate in posterior.coordinates:
            for moment in ("mean", "standard_deviation"):
                self._units.setdefault(f"{coordinate.name}_{moment}", coordinate.unit)
        before = None
        if self._writer is not None:
            self._writer.close()
            self._file.close()
            before = self._parquet.read_table(self._path).to_pylist()
            self._file = self._path.open("wb")
        self._open(columns)
        if before:
            self._writer.write_table(self._arrow.Table.from_pylist(before, schema=self._schema()))

    def _open(self, columns: tuple[str, ...]) -> None:
        self._columns = columns
        self._writer = self._parquet.ParquetWriter(self._file, self._schema())

    def _schema(self) -> Any:
        return self._arrow.schema([self._field(name) for name in self._columns])

    def _field(self, name: str) -> Any:
        kinds = {"entity": "string", "method": "string", "sequence": "int64", "revision": "int64"}
        unit = self._units.get(name)
        metadata = {"unit": unit} if unit is not None else None
        return self._arrow.field(name, kinds.get(name, "float64"), metadata=metadata)
