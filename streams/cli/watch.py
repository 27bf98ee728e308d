"""`beliefstream watch`."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beliefstream.streams.cli.command_settings import settings_for
from beliefstream.streams.cli.options import Brokers
from beliefstream.streams.cli.output import console

if TYPE_CHECKING:
    from rich.console import RenderableType

    from beliefstream.schemas import Posterior
    from beliefstream.streams.cli.metrics_scraper import MetricsHistory, Scraper

REFRESH_INTERVAL = 0.25  # seconds
RECENT = 12  # posteriors shown


def watch(
    url: Annotated[
        str | None,
        typer.Option(help="URL of the worker", show_default="of BELIEFSTREAM_WEB_HOST and _PORT"),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, help="end after this many seconds", show_default="at Ctrl-C")
    ] = None,
    brokers: Brokers = None,
) -> None:
    """Watch a worker and its posteriors, live.

    Example: beliefstream watch --url http://127.0.0.1:8080
    """
    from rich.live import Live

    from beliefstream.streams.cli.metrics_scraper import Scraper
    from beliefstream.streams.client import PosteriorConsumer

    settings = settings_for(brokers)
    place = url or f"http://{settings.web_host}:{settings.web_port}"
    recent = Recent()
    with (
        PosteriorConsumer(settings.brokers, settings.posteriors, **settings.client_options) as consumer,
        Scraper(place, settings.token) as worker,
        Live(console=console(), auto_refresh=False) as live,
    ):
        deadline = time.monotonic() + duration if duration is not None else float("inf")
        try:
            while time.monotonic() < deadline:
                for posterior in consumer.poll(REFRESH_INTERVAL):
                    recent.add(posterior)
                live.update(view(worker, recent), refresh=True)
        except KeyboardInterrupt:
            return


class Recent:
    """The latest posteriors, one per entity, and the number of entities."""

    def __init__(self) -> None:
        self.entities: set[str] = set()
        self.latest: deque[Posterior] = deque(maxlen=RECENT)

    def add(self, posterior: Posterior) -> None:
        """Add a posterior, in place of the last one of its entity."""
        self.entities.add(posterior.entity)
        for older in [each for each in self.latest if each.entity == posterior.entity]:
            self.latest.remove(older)
        self.latest.append(posterior)


def view(worker: Scraper, recent: Recent) -> RenderableType:
    """Return the content of the screen."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    from beliefstream.streams.cli.posteriors import row

    table = Table(expand=True, box=None)
    for heading in ("time", "entity", "sequence", "belief", "ESS", "error", "method"):
        table.add_column(heading, no_wrap=heading != "belief")
    for posterior in reversed(recent.latest):
        table.add_row(*map(Text, row(posterior)))  # as text: names are not markup
    above: RenderableType
    if worker.problem:
        above = Text(worker.problem, style="yellow")
    elif worker.history.last is None:
        above = Text(f"asking the worker at {worker.url}")
    else:
        above = _numbers(worker.history)
    seen = f"posteriors of {len(recent.entities)} entities seen"
    return Group(Panel(above, title=f"worker {worker.url}"), Panel(table, title=seen))


def _numbers(history: MetricsHistory) -> RenderableType:
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
        ("effective sample size", _number(history.mean("beliefstream_effective_sample_size"), "{:.2f}")),
        ("accumulated error", _number(history.mean("beliefstream_accumulated_error_nats"), "{:.2f} nats")),
        ("dead letters", f"{sum(dead.values()):.0f}" + _reasons(dead)),
    ]
    table = Table.grid(padding=(0, 3))
    for _ in figures:
        table.add_column()
    table.add_row(*(f"[bold]{number}[/bold]" for _, number in figures))
    table.add_row(*(f"[dim]{name}[/dim]" for name, _ in figures))
    return table


def _number(value: float, shape: str) -> str:
    write: Callable[[Any], str] = shape.format
    return "-" if value != value else write(value)


def _reasons(dead: dict[str, float]) -> str:
    from rich.markup import escape

    most = sorted(((count, reason) for reason, count in dead.items() if count), reverse=True)[:3]
    return f" ({', '.join(f'{escape(reason)} {count:.0f}' for count, reason in most)})" if most else ""
