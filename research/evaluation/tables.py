"""Tables of `python -m research.evaluate` in the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from beliefstream.streams.cli.output import console

if TYPE_CHECKING:
    from rich.table import Table

    from research.evaluation.calibration import Calibration, Coverage
    from research.evaluation.front import Point
    from research.evaluation.gain import Gain
    from research.evaluation.long_run import LongRun
    from research.evaluation.report import Comparison, Row

NUMBERS = ("mean", "± standard error", "median", "90 % quantile", "worst")


def show(compared: Sequence[Comparison]) -> None:
    """Print all methods for each dimension, and representative methods by kind of problem."""
    for comparison in compared:
        console().print(_by_method(comparison))
        console().print(_by_kind(comparison))
        notes(comparison)
    console().print(_evidence(compared))


def show_calibration(calibrations: Sequence[Calibration]) -> None:
    """Print coverage, and the distance of levels and ranks from uniform ones."""
    regions = [f"{row.region:.0%} region" for row in calibrations[0].coverage()]
    numbers = ["problems", *regions, "levels: KS", "χ², p", "ranks: KS", "χ², p", "KS, 5 %"]
    table = _table("calibration: share of true states inside the regions", ["d", "method"], numbers)
    for found in calibrations:
        *ranks, levels = found.uniformity()
        furthest, unlikeliest = (
            max(row.distance for row in ranks),
            min(row.probability for row in ranks),
        )
        table.add_row(
            str(found.dimension),
            found.method,
            str(found.count),
            *map(_coverage, found.coverage()),
            f"{levels.distance:.4f}",
            f"{levels.probability:.2g}",
            f"{furthest:.4f}",
            f"{unlikeliest:.2g}",
            f"{levels.critical:.4f}",
        )
    console().print(table)
    print(
        "ranks: of the coordinate that is furthest from uniform; KS, 5 %: what uniform ones exceed in 5 % of cases"
    )


def show_run(run: LongRun) -> None:
    """Print the coverage over the steps, and over all of them."""
    periods = [*run.periods(), *run.periods(1)]
    steps, entities = run.levels.shape
    regions = [f"{row.region:.0%} region" for row in periods[0].coverage]
    table = _table(f"calibration over {steps} steps of {entities} entities", ["steps"], regions)
    for period in periods[:-1]:
        table.add_row(f"{period.first}–{period.last}", *map(_coverage, period.coverage))
    table.add_section()
    table.add_row("all", *map(_coverage, periods[-1].coverage))
    console().print(table)


def show_front(points: Sequence[Point]) -> None:
    """Print speed and accuracy of every point, and mark the points on the front."""
    from research.evaluation.front import undominated

    best = undominated(list(points))
    title = "speed against KL(exact ‖ answer), nats, d = 2"
    table = _table(title, ["weights", "setting"], ["posteriors/s", "problems", *NUMBERS[:3], "on the front"])
    for point in points:
        table.add_row(
            point.group,
            point.name,
            f"{point.per_second:,.0f}",
            str(point.problems),
            *map(number, (point.mean, point.standard_error, point.median)),
            "yes" if point in best else "",
        )
    console().print(table)


def show_gain(found: Sequence[Gain]) -> None:
    """Print a row for each network, alone, refined once and published, in each dimension."""
    from research.evaluation.gain import NEAR

    numbers = ["problems", f"within {NEAR:g}", "mean", "median", "worst", "ms"]
    table = _table("what training brings: KL(exact ‖ answer), nats", ["d", "weights", "answer"], numbers)
    for row in found:
        distances = map(number, (row.mean, row.median, row.worst))
        near, spent = f"{row.near:.3f}", f"{row.milliseconds:.2f}"
        table.add_row(str(row.dimension), row.weights, row.answer, str(row.problems), near, *distances, spent)
    console().print(table)


def _coverage(row: Coverage) -> str:
    return f"{row.share:.2%} ± {row.standard_error:.2%}"


def notes(comparison: Comparison) -> None:
    """Print notes about the exact posteriors."""
    if unresolved := int(comparison.unresolved.sum()):
        print(f"{unresolved} problems are finer than the grid of the exact posterior; they are in the tables")
    error = comparison.exact_errors
    if float(error.max()) > 0:
        print(
            f"exact log evidence, and so every KL, ± {float(error.mean()):.4f} on average, "
            f"at most ± {float(error.max()):.3f} (standard error of a problem)"
        )


def number(value: float) -> str:
    """Format with four decimals, or none for a large number; a dash for NaN."""
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
    from research.evaluation.report import ALL

    title = f"KL(exact ‖ answer), nats, d = {comparison.dimension}, family {comparison.family}"
    table = _table(title, ["method"], ["problems", *NUMBERS])
    for row in comparison.rows([ALL]):
        values = (row.mean, row.standard_error, row.median, row.ninetieth, row.worst)
        table.add_row(row.method, str(row.problems), *map(number, values))
    return table


def _by_kind(comparison: Comparison) -> Table:
    """The mean ± standard error of representative methods, by kind of problem."""
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
    """Our methods with the fewest components, and the two best kinds of others."""
    wanted = ("network", "checked and refined", "iterated Gaussian-sum", "particle filter 10,000")
    firsts = [next((name for name in methods if name.startswith(start)), None) for start in wanted]
    return [name for name in firsts if name is not None]


def _evidence(compared: Sequence[Comparison]) -> Table:
    title = "|log evidence − exact|, nats, where the sample efficiency is at least ½"
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
