"""The tables of the benchmark have the ratios of the last release beside those of now."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from research.bench import tables
from research.bench.update import Speed
from research.figures.kept import figure

NAME = "update, tracks"


def test_a_ratio_stands_beside_that_of_the_last_release() -> None:
    then = figure("speed", "of_stone_soup", NAME)
    assert then is not None
    console = Console(file=StringIO(), width=200)
    tables.print_updates(console, [Speed("Stone Soup", 1.0, ""), Speed(NAME, then / 2, "halved")])
    assert isinstance(console.file, StringIO)
    line = next(line for line in console.file.getvalue().splitlines() if NAME in line)
    cells = [cell.strip() for cell in line.split("│")[1:-1]]
    assert cells[2:] == [f"{then / 2:.2f}", f"{then:.2f} (now × 0.50)", "halved"]


def test_what_the_last_release_did_not_measure_has_a_dash() -> None:
    assert tables.beside(1.0, "speed", "of_stone_soup", "no such line") == "–"
