"""`beliefstream watch`."""

from __future__ import annotations

import math
import time
from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import console, counted
from beliefstream.streams.cli.setup import opened, settings_for

if TYPE_CHECKING:
    from rich.console import RenderableType

    from beliefstream.schemas import Posterior
    from beliefstream.streams.cli.services.metrics_scraper import MetricsHistory, Scraper

REFRESH_INTERVAL = 0.25  # seconds
MOST = 500  # posteriors kept, of which as many are shown as the terminal has lines for
AROUND = 6  # lines of frames and headings
FIGURE_WIDTH = 26  # columns that one of the worker's numbers may take


def watch(
    url: Annotated[
        str | None, typer.Option(help="URL of the worker", show_default="of BELIEFSTREAM_WEB_ADDRESS")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, help="end after this many seconds", show_default="at Ctrl-C")
    ] = None,
    entity: Annotated[
        str,
        typer.Option(metavar="TEXT", help="only entities with this text in their name; case does not matter"),
    ] = "",
    brokers: Brokers = None,
) -> None:
    """Watch a worker and its posteriors, live, in the whole terminal.

    Example: beliefstream watch --url http://127.0.0.1:8080 --entity mower
    """
    from rich.live import Live

    from beliefstream.streams.cli.services.metrics_scraper import Scraper
    from beliefstream.streams.client import PosteriorConsumer

    settings = settings_for(brokers)
    place = url or f"http://{settings.web_address}"
    recent, screen = Recent(entity), console()
    with (
        opened(PosteriorConsumer, settings, settings.names.posteriors) as consumer,
        Scraper(place, settings.token) as worker,
        Live(console=screen, screen=screen.is_terminal, auto_refresh=False) as live,
    ):
        deadline = time.monotonic() + duration if duration is not None else float("inf")
        try:
            while time.monotonic() < deadline:
                for posterior in consumer.poll(REFRESH_INTERVAL):
                    recent.add(posterior)
                live.update(view(worker, recent, screen.width, screen.height), refresh=True)
        except KeyboardInterrupt:
            return


class Recent:
    """The latest posteriors, one per entity with the `wanted` text in its name, in any case; and how many there are."""

    def __init__(self, wanted: str = "") -> None:
        self.wanted = wanted
        self.entities: set[str] = set()
        self.latest: dict[str, Posterior] = {}  # the newest at the end

    def add(self, posterior: Posterior) -> None:
        """Add a posterior, in place of the last one of its entity."""
        if self.wanted.lower() not in posterior.entity.lower():
            return
        self.entities.add(posterior.entity)
        self.latest.pop(posterior.entity, None)
        self.latest[posterior.entity] = posterior
        if len(self.latest) > MOST:
            del self.latest[next(iter(self.latest))]


def view(worker: Scraper, recent: Recent, width: int = 160, height: int = 25) -> RenderableType:
    """Return the content of a screen of so many columns and lines."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from beliefstream.streams.cli.messages.posteriors import row

    above: RenderableType
    used = 1  # lines
    if worker.problem:
        above = Text(worker.problem, style="yellow", no_wrap=True, overflow="ellipsis")
    elif worker.history.last is None:
        above = Text(f"asking the worker at {worker.url}")
    else:
        above, used = _numbers(worker.history, max(1, width // FIGURE_WIDTH))
    table = Table(expand=True, box=None)
    for heading in ("time", "entity", "sequence", "belief", "quality", "error", "method"):
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1 if heading == "belief" else None)
    for posterior in islice(reversed(recent.latest.values()), max(1, height - AROUND - used)):
        table.add_row(*map(Text, row(posterior)))  # as text: names are not markup
    named = f" with {recent.wanted!r} in the name" if recent.wanted else ""
    seen = Text(f"posteriors of {counted(len(recent.entities), 'entity')}{named} seen")
    return Group(Panel(above, title=f"worker {worker.url}"), Panel(table, title=seen))


def _numbers(history: MetricsHistory, beside: int) -> tuple[RenderableType, int]:
    """The worker's numbers, so many beside each other, and the lines that they take."""
    from rich.table import Table

    last = history.last
    assert last is not None
    dead = last.by("beliefstream_dead_letters_total", "reason")
    latency = "beliefstream_end_to_end_seconds"
    figures: list[tuple[str, str]] = [
        ("entities", f"{last.total('beliefstream_entities'):.0f}"),
        ("observations/s", _number(history.rate("beliefstream_observations_total"), "{:.0f}")),
        ("latency, median", _number(history.quantile(latency, 0.5) * 1000, "{:.0f} ms")),
        ("latency, 95 %", _number(history.quantile(latency, 0.95) * 1000, "{:.0f} ms")),
        ("sample efficiency", _number(history.mean("beliefstream_sample_efficiency"), "{:.2f}")),
        ("accumulated error", _number(history.mean("beliefstream_accumulated_error_nats"), "{:.2f} nats")),
        ("dead letters", f"{sum(dead.values()):.0f}" + _reasons(dead)),
    ]
    table = Table.grid(padding=(0, 3))
    for _ in range(min(beside, len(figures))):
        table.add_column(no_wrap=True, overflow="ellipsis")
    for begin in range(0, len(figures), beside):
        line = figures[begin : begin + beside]
        table.add_row(*(f"[bold]{number}[/bold]" for _, number in line))
        table.add_row(*(f"[dim]{name}[/dim]" for name, _ in line))
    return table, table.row_count


def _number(value: float, shape: str) -> str:
    return "-" if math.isnan(value) else shape.format(value)


def _reasons(dead: dict[str, float]) -> str:
    from rich.markup import escape

    most = sorted(((count, reason) for reason, count in dead.items() if count), reverse=True)[:3]
    return f" ({', '.join(f'{escape(reason)} {count:.0f}' for count, reason in most)})" if most else ""
