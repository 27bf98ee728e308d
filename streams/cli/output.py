"""Output of the commands: JSON or a table, the console and the progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.status import Status

LINES_EVERY = 10.0  # seconds between lines of progress outside a terminal


AsJson = Annotated[
    bool,
    typer.Option(
        "--json/--table",
        default_factory=lambda: not sys.stdout.isatty(),
        help="JSON lines, or a table for people",
        show_default="table in a terminal, JSON elsewhere",
    ),
]


def console(*, errors: bool = False) -> Console:
    """Return a rich console on standard output or standard error; outside a terminal it is 140 characters wide."""
    from rich.console import Console

    stream = sys.stderr if errors else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else 140, highlight=False)


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 entity`, `2 entities`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows; their cells are text, as names are not markup."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns)
    for row in rows:
        table.add_row(*map(Text, row))
    console().print(table)


def loading() -> Status:
    """What a terminal shows while PyTorch is imported, which takes seconds."""
    return console(errors=True).status("loading PyTorch")


@contextmanager
def progress_bar(unit: str) -> Iterator[Progress]:
    """A progress bar on standard error; outside a terminal a line every few seconds, even if nothing has changed."""
    from threading import Event, Thread

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    in_terminal = sys.stderr.isatty()
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        *([BarColumn()] if in_terminal else []),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[note]}"),
        console=console(errors=True),
        disable=not in_terminal,
    )
    ended = Event()

    def print_lines() -> None:
        while not ended.wait(LINES_EVERY):
            if left := [task for task in bar.tasks if not task.finished]:
                bar.console.print(bar.make_tasks_table(left))

    if not in_terminal:
        Thread(target=print_lines, daemon=True).start()
    try:
        with bar:
            yield bar
    finally:
        ended.set()
