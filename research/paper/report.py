"""Results of a task: one table, with the published figures beside ours."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

Source = Literal["published", "baseline", "ours", "exact"]
Checked = Literal["exact", "learned", "unchecked"]
REPEATS = 3  # of a timing; the table has the median
ENOUGH = 1.0  # seconds, after which a timing is not repeated


class Figure(NamedTuple):
    """A mean, and its standard error if it is known."""

    mean: float
    error: float | None = None

    @classmethod
    def of(cls, values: ArrayLike) -> Figure:
        """Return the mean of independent values, and its standard error."""
        found = np.asarray(values, dtype=np.float64)
        error = float(found.std(ddof=1) / len(found) ** 0.5) if len(found) > 1 else None
        return cls(float(found.mean()), error)


@dataclass(frozen=True)
class Row:
    """A method and its figures by column.

    Attributes:
        source: whose it is.
        method: its name.
        figures: by column.
        milliseconds: for 1 000 posteriors on one core.
        checked: likelihood against which each answer was checked; `unchecked` for one pass of the published form,
            which says nothing of its own quality.
    """

    source: Source
    method: str
    figures: Mapping[str, Figure]
    milliseconds: float | None = None
    checked: Checked | None = None

    @property
    def label(self) -> str:
        """Source, and what the answers were checked against."""
        return self.source if self.checked is None else f"{self.source}, {self.checked}"


@dataclass(frozen=True)
class Table:
    """Results of a task.

    Attributes:
        task: its name.
        title: what the figures are, with their unit.
        columns: of the figures.
        rows: published ones first.
        notes: seeds and sizes, one sentence each.
        unit: of the column of times.
    """

    task: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    unit: str = "ms for 1 000"

    def as_dict(self) -> dict[str, Any]:
        """Return the table as a JSON value."""
        return {
            "task": self.task,
            "title": self.title,
            "unit_of_time": self.unit,
            "rows": [
                {
                    "source": row.source,
                    "method": row.method,
                    "figures": {name: figure._asdict() for name, figure in row.figures.items()},
                    "time": row.milliseconds,
                    "checked": row.checked,
                }
                for row in self.rows
            ],
            "notes": list(self.notes),
        }


def published(method: str, milliseconds: float | None = None, **figures: float) -> Row:
    """Return a row of arXiv 2502.02463; its times are of a GPU."""
    return Row("published", method, {name: Figure(value) for name, value in figures.items()}, milliseconds)


def milliseconds(work: Callable[[], object], posteriors: int) -> float:
    """Return the processor time of `work`, which computes that many posteriors, in milliseconds for 1 000."""
    spent: list[float] = []
    while len(spent) < REPEATS and sum(spent) < ENOUGH:
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return statistics.median(spent) * 1e6 / posteriors


def shown(figure: Figure | None) -> str:
    """Return a figure as text, to about two digits of its error; nothing where there is none."""
    if figure is None:
        return ""
    if figure.error is None:
        return f"{figure.mean:.4g}"
    digits = 6 if abs(figure.mean) < 0.005 else 4 if abs(figure.mean) < 0.2 else 3
    return f"{figure.mean:.{digits}f} ± {figure.error:.{digits}f}"


def markdown(table: Table) -> str:
    """Return the table in Markdown, followed by its notes."""
    lines = [f"| | method | {' | '.join(table.columns)} | {table.unit} |"]
    lines.append(f"|---|---|{'---:|' * (len(table.columns) + 1)}")
    for row in table.rows:
        cells = [row.label, row.method, *(shown(row.figures.get(name)) for name in table.columns)]
        lines.append(f"| {' | '.join([*cells, shown_time(row)])} |")
    return "\n".join([*lines, "", *table.notes])


def shown_time(row: Row) -> str:
    """Return the time of a row as text."""
    return "" if row.milliseconds is None else f"{row.milliseconds:.3g}"
