"""The tables of `beliefstream evaluate`, for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streams.cli.common import console

if TYPE_CHECKING:
    from rich.table import Table

    from inference.evaluation.report import Comparison, Row

NUMBERS = ("mean", "± standard error", "median", "90 % quantile", "worst")


def show(compared: Sequence[Comparison]) -> None:
    """Print, for each dimension, all methods, and how those that stand for them do by kind of problem."""
    for comparison in compared:
        console().print(_by_method(comparison))
        console().print(_by_kind(comparison))
        notes(comparison)
    console().print(_evidence(compared))


def notes(comparison: Comparison) -> None:
    """Print what must be known of the exact posteriors that methods are held against."""
    if unresolved := int(comparison.unresolved.sum()):
        print(f"{unresolved} problems are finer than the grid of the exact posterior; they are in the tables")
    error = comparison.exact_errors
    if float(error.max()) > 0:
        print(
            f"exact log evidence, and so every KL, ± {float(error.mean()):.4f} on average, "
            f"at most ± {float(error.max()):.3f} (standard error of a problem)"
        )


def number(value: float) -> str:
    """Four decimals, fewer where it is large; a dash for none."""
    if math.isnan(value):
        return "-"
    return f"{value:.4f}" if abs(value) < 100 else f"{value:.0f}"


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(*names, title=title)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _by_method(comparison: Comparison) -> Table:
    from inference.evaluation.report import ALL

    title = f"KL(exact ‖ answer), nats, d = {comparison.dimension}, family {comparison.family}"
    table = _table(title, ["method"], ["problems", *NUMBERS])
    for row in comparison.rows([ALL]):
        values = (row.mean, row.standard_error, row.median, row.ninetieth, row.worst)
        table.add_row(row.method, str(row.problems), *map(number, values))
    return table


def _by_kind(comparison: Comparison) -> Table:
    """Mean ± standard error of a few methods, those that stand for the others."""
    rows: dict[str, dict[str, Row]] = {}
    for row in comparison.rows():
        rows.setdefault(row.kind, {})[row.method] = row
    methods = representatives(list(comparison.divergences))
    title = f"the same by kind of problem, mean ± standard error, d = {comparison.dimension}"
    table = _table(title, ["problems"], ["number", *methods])
    for kind, found in rows.items():
        cells = []
        for method in methods:
            if method in found:
                row = found[method]
                fewer = "" if row.problems == found[methods[0]].problems else f" ({row.problems})"
                cells.append(f"{number(row.mean)} ± {number(row.standard_error)}{fewer}")
            else:
                cells.append("-")
        table.add_row(kind, str(found[methods[0]].problems), *cells)
    return table


def representatives(methods: Sequence[str]) -> list[str]:
    """Of ours those with the fewest components, of the others the best two kinds."""
    wanted = ("network", "checked and refined", "iterated Gaussian-sum", "particle filter 10,000")
    firsts = [next((name for name in methods if name.startswith(start)), None) for start in wanted]
    return [name for name in firsts if name is not None]


def _evidence(compared: Sequence[Comparison]) -> Table:
    title = "|log evidence − exact|, nats, where the effective sample size is at least ½"
    table = _table(title, ["d", "method"], ["problems", "of", "mean", "worst"])
    for comparison in compared:
        for row in comparison.evidence():
            table.add_row(
                str(comparison.dimension),
                row.method,
                str(row.problems),
                str(row.of),
                number(row.mean_absolute_error),
                number(row.worst),
            )
    return table
