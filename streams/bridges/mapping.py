"""Which columns of a table become which fields of an observation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from beliefstream.schemas import Observation, Reason, Unusable
from beliefstream.schemas.base import validated
from beliefstream.streams.bridges.bags.topics import BagTopic, bag_topics
from beliefstream.streams.bridges.rows import BagOptions, Cells, Row, Table
from beliefstream.streams.bridges.topic_templates import TIME_UNITS, seconds

REQUIRED = ("entity", "sensor", "time", "value")
FIELDS = (*REQUIRED, "standard_deviation", "covariance", "position", "velocity", "orientation", "id")
_NAMES = ("entity", "sensor", "id")
_SEVERAL = (
    "value",
    "standard_deviation",
    "position",
    "velocity",
    "orientation",
)  # may come from several columns


class Found(NamedTuple):
    """One row of a table: where it stands, and its observation, or why there is none."""

    place: str
    observation: Observation | Unusable


@dataclass(frozen=True)
class ColumnMapping:
    """Columns and constants that make an observation of a row.

    A field that is not mapped comes from the column of its name, if there is one that is no other field's: where the
    entity comes from a column `id`, observations have no id. `value`, `standard_deviation`,
    `position`, `velocity` and `orientation` may also come from columns `value_1`, `value_2` and so on.

    Raises:
        ValueError: a field is not one of an observation, is stated twice, or has several columns where one is possible.
    """

    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # of a field, by its name
    constants: Mapping[str, Any] = field(default_factory=dict)  # fields that are the same in every row
    time_unit: str = "s"  # of times that are numbers, a key of TIME_UNITS
    topics: tuple[BagTopic, ...] = ()  # of a bag, what becomes an observation

    def __post_init__(self) -> None:
        for name in (*self.columns, *self.constants):
            if name not in FIELDS:
                raise ValueError(f"mapping: no field is called {name!r}: {', '.join(FIELDS)}")
            if name in self.columns and name in self.constants:
                raise ValueError(f"mapping: {name} is both a column and a constant")
        for name, columns in self.columns.items():
            if not all(columns) or not columns:
                raise ValueError(f"mapping: {name} names no column")
            if len(columns) > 1 and name not in _SEVERAL:
                raise ValueError(f"mapping: {name} comes from one column, got {', '.join(columns)}")
        if self.time_unit not in TIME_UNITS:
            raise ValueError(f"mapping: time_unit is one of {', '.join(TIME_UNITS)}, got {self.time_unit!r}")

    @property
    def bag(self) -> BagOptions:
        """What becomes of the messages of a bag."""
        return BagOptions(self.topics, "entity" in self.constants, self.time_unit)

    def sources(self, table: Table) -> dict[str, tuple[str, ...]]:
        """The columns of each field in a table.

        Raises:
            ValueError: the table lacks a column; the line names it, its field, and the columns that there are.
        """
        known = table.columns
        mapped = [column for columns in self.columns.values() for column in columns]
        taken = {*mapped, *(column.partition(".")[0] for column in mapped)}
        found: dict[str, tuple[str, ...]] = {}
        for name in FIELDS:
            if name in self.constants:
                continue
            numbered = _numbered(name, known or ()) if name in _SEVERAL else ()
            if name in self.columns:
                found[name] = self.columns[name]
            elif numbered and name not in (known or ()):
                found[name] = numbered
            elif name in REQUIRED or (name not in taken and (known is None or name in known)):
                found[name] = (name,)
        missing = [] if known is None else [(n, c) for n, cs in found.items() for c in cs if c not in known]
        if missing:
            (name, column), listed = missing[0], ", ".join(known or ())
            if column != name:
                raise ValueError(f"{table.name}: no column {column!r} for {name}; there are {listed}")
            raise ValueError(f"{table.name}: no column {name!r}; map {name} to one of {listed}")
        return found


def _numbered(name: str, columns: Sequence[str]) -> tuple[str, ...]:
    """`value_1`, `value_2` and so on, as far as there are such columns."""
    found: list[str] = []
    while (column := f"{name}_{len(found) + 1}") in columns:
        found.append(column)
    return tuple(found)


def observations(table: Table, mapping: ColumnMapping) -> Iterator[Found]:
    """Yield the observation of each row of a table, or why it cannot be used.

    A row of NDJSON is the message itself if nothing is mapped: a field that observations lack is refused then.

    Raises:
        ValueError: the table lacks a column.
    """
    is_message = table.columns is None and mapping == ColumnMapping()
    sources = {} if is_message else mapping.sources(table)

    def found(row: Row) -> Found:
        if isinstance(row.cells, Unusable):
            return Found(row.place, row.cells)
        try:
            fields = row.cells if is_message else _fields(row.cells, mapping, sources)
            return Found(row.place, validated(Observation, fields))
        except Unusable as error:
            error.__cause__ = None  # many may be kept, and it holds the whole row
            return Found(row.place, error.with_traceback(None))

    return map(found, table.rows)


def _fields(cells: Cells, mapping: ColumnMapping, sources: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    fields = dict(mapping.constants)
    for name, columns in sources.items():
        stated = _field(name, columns, cells)
        if stated is not None:
            fields[name] = stated
        elif name in REQUIRED:
            raise Unusable(Reason.invalid, f"{name}: nothing in {' and '.join(map(repr, columns))}")
    fields["time"] = seconds(fields["time"], mapping.time_unit)
    return fields


def _field(name: str, columns: tuple[str, ...], cells: Cells) -> Any:
    if name in _NAMES:
        return _name(_cell(cells, columns[0]))
    if len(columns) == 1:
        return _number(_cell(cells, columns[0]))
    several = [_number(_cell(cells, column)) for column in columns]
    return None if all(each is None for each in several) else several


def _cell(cells: Cells, column: str) -> Any:
    """A cell; `position.lat` is also the field `lat` of the object `position`. None if it is not there, or empty."""
    if column in cells:
        found = cells[column]
    elif "." in column:
        found = cells
        for part in column.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    else:
        return None
    return None if found == "" else found


def _name(cell: Any) -> Any:
    """Names that are whole numbers, such as a ship's, become text."""
    return str(cell) if isinstance(cell, int) and not isinstance(cell, bool) else cell


def _number(cell: Any) -> Any:
    """A number or a JSON list of numbers if the text of a CSV cell is one; anything else as it is."""
    if not isinstance(cell, str):
        return None if isinstance(cell, float) and math.isnan(cell) else cell
    if cell.startswith("["):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    try:
        return cell if "_" in cell else float(cell)
    except ValueError:
        return cell


def mapping_of(
    stated: Mapping[str, Any], columns: Sequence[str], constants: Sequence[str], time_unit: str | None
) -> ColumnMapping:
    """Make a mapping of what a mapping file states, and of options, which go first.

    Args:
        stated: `columns` (a field's column, or a list of them), `constants`, `time_unit` and, for a bag, `topics`,
            each of them optional.
        columns: options such as `time=t` and `value=x,y`.
        constants: options such as `sensor=gps`.
        time_unit: an option.

    Raises:
        ValueError: one of them is none, or names no field of an observation, or options state a field twice.
    """
    if unknown := sorted(map(str, stated.keys() - {"columns", "constants", "time_unit", "topics"})):
        raise ValueError(f"mapping: expected columns, constants, time_unit and topics, got {unknown[0]!r}")
    for part in ("columns", "constants"):
        if not isinstance(stated.get(part, {}), Mapping):
            raise ValueError(f"mapping: {part}: expected an object, got {stated[part]!r}")
    listed = {name: _listed(name, each) for name, each in stated.get("columns", {}).items()}
    _state_once([*columns, *constants])
    own = {name: tuple(text.split(",")) for name, text in map(_split, columns)}
    fixed = {name: text if name in _NAMES else _number(text) for name, text in map(_split, constants)}
    merged = {name: each for name, each in (listed | own).items() if name not in fixed}
    kept = {name: each for name, each in stated.get("constants", {}).items() if name not in own}
    topics = bag_topics(stated.get("topics", []))
    return ColumnMapping(merged, kept | fixed, time_unit or stated.get("time_unit", "s"), topics)


def _state_once(options: Sequence[str]) -> None:
    """Raise ValueError if two options state the same field: one of them would not count."""
    stated: dict[str, str] = {}
    for name, text in map(_split, options):
        if name in stated:
            hint = "; several columns are value=x,y" if name == "value" else ""
            raise ValueError(f"mapping: {name} is stated twice, {stated[name]!r} and {text!r}{hint}")
        stated[name] = text


def _listed(name: str, columns: Any) -> tuple[str, ...]:
    listed = columns if isinstance(columns, list) else [columns]
    if not all(isinstance(column, str) for column in listed):
        raise ValueError(
            f"mapping: columns: {name}: expected a column's name or a list of them, got {columns!r}"
        )
    return tuple(listed)


def _split(option: str) -> tuple[str, str]:
    name, equals, text = option.partition("=")
    if not equals or not text:
        raise ValueError(f"expected FIELD=..., such as time=t, got {option!r}")
    return name.strip(), text
