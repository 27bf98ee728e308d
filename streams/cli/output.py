"""Output of the commands: its format, the console and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Format(StrEnum):
    """Output format of a command."""

    json = "json"
    table = "table"


Formatted = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="JSON lines or a table for people",
        show_default="table in a terminal, json elsewhere",
    ),
]


def resolve(chosen: Format | None) -> Format:
    """Return the chosen format, or the one that suits standard output."""
    return chosen or (Format.table if sys.stdout.isatty() else Format.json)


def console(*, errors: bool = False) -> Console:
    """Return a rich console on standard output or standard error; outside a terminal it is 140 characters wide."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 140, highlight=False)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows; their cells are text, as names are not markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


def progress_bar(unit: str) -> Progress:
    """Return a progress bar on standard error, which is silent outside a terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console(errors=True),
        disable=not sys.stderr.isatty(),
    )
