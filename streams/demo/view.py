"""Shows the run: figures in a terminal, otherwise a line every five seconds. The live page has a map."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beliefstream.streams.demo.scenario import Schedule
from beliefstream.streams.demo.services import WorkerFigures
from beliefstream.streams.demo.tracking import Figures, Jump, ReceivedBelief, Tracker

LINE_EVERY = 5.0  # seconds between lines if there is no terminal
REFRESH = 4  # frames a second
FIGURES_WIDTH = 46
RIGHT_WITHIN = 1.0  # m; a larger error counts as a wrong place
NOTES = 6


class View:
    """Shows the current state, as a context manager."""

    def __init__(self, console: Console, schedule: Schedule, tracker: Tracker) -> None:
        self._console, self._schedule, self._tracker = console, schedule, tracker
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._next_line = 0.0
        self._worker = WorkerFigures()
        drawable = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=REFRESH, transient=True) if drawable else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def note(self, text: str) -> None:
        """Add a line about an event."""
        line = f"{self._tracker.figures().elapsed:5.1f} s  {text}"
        self._notes.append(line)
        if self._live is None:
            self._console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def show(self, worker: WorkerFigures | None) -> None:
        """Redraw everything, with the worker's figures if they are new."""
        self._worker = worker or self._worker
        if self._live is not None:
            self._live.update(self._picture(self._tracker.figures()))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY
            text = line(self._tracker.figures(), self._worker)
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _picture(self, figures: Figures) -> RenderableType:
        duration = self._schedule.duration
        title = f"Beliefstream  {min(figures.elapsed, duration):.0f} of {duration:.0f} s"
        figures_panel = Panel(grid(figures, self._worker), title=title, width=FIGURES_WIDTH)
        return Group(figures_panel, Text("\n".join(self._notes), style="dim"))


def grid(figures: Figures, worker: WorkerFigures) -> Table:
    """Return the figures as a table of two columns."""
    total = max(1, sum(figures.methods.values()))
    methods = ", ".join(
        f"{name}\u00a0{100 * count / total:.0f}\u00a0%" for name, count in figures.methods.items()
    )
    rows = {
        "entities": f"{figures.entities}",
        "observations": f"{figures.sent_rate:.0f}/s   {figures.sent} in total",
        "posteriors": f"{figures.posterior_rate:.0f}/s   {figures.posteriors} in total",
        "latency": f"{span(figures.latency_median)}, 95 % in {span(figures.latency_95)}",
        "sample efficiency": f"{number(figures.sample_efficiency)}",
        "methods": methods or "–",
        "dead letters": dead_letters(worker),
        "in progress": f"{figures.sent - figures.applied} observations",
        "mower error": f"{number(figures.mower_error)} m, believed {number(figures.mower_spread)} m",
        "fleet error": f"{number(figures.fleet_error)} m (median)",
    }
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def line(figures: Figures, worker: WorkerFigures) -> str:
    """Return the figures in one line."""
    latency = f"latency {span(figures.latency_median)} (95 % {span(figures.latency_95)})"
    return (
        f"{figures.elapsed:5.1f} s: {figures.entities} entities, {figures.sent_rate:.0f} observations/s, "
        f"{figures.posterior_rate:.0f} posteriors/s, {figures.sent - figures.applied} in progress, {latency}, "
        f"sample efficiency {number(figures.sample_efficiency)}, "
        f"mower error {number(figures.mower_error)} m, fleet error {number(figures.fleet_error)} m, "
        f"dead letters: {dead_letters(worker)}"
    )


def jump_lines(jump: Jump) -> list[str]:
    """Return lines that show the beliefs before and after the replaced prior."""
    moments = [("before", jump.before), ("stated: north or south gate", jump.stated)]
    moments += [
        (f"after {count} observation{'s' if count > 1 else ''}", jump.after[count - 1])
        for count in (1, 5)
        if len(jump.after) >= count
    ]
    width = max(len(name) for name, _ in moments)
    return [
        f"{name:<{width}}  mean ({belief.mean[0]:6.1f}, {belief.mean[1]:6.1f}) m  "
        f"believed error {belief.spread:5.1f} m  true error {belief.error:5.1f} m  "
        f"{len(belief.weights)} component{'s' if len(belief.weights) > 1 else ''}"
        for name, belief in moments
    ]


def recovery_lines(track: Sequence[ReceivedBelief]) -> list[str]:
    """Return lines that show how the belief of an entity followed when it was carried; none if it was not."""
    distances = [float(np.linalg.norm(belief.truth - track[0].truth)) for belief in track]
    after = [belief for belief, far in zip(track, distances, strict=True) if far > RIGHT_WITHIN]
    if not after:
        return []
    wrong = max((number for number, belief in enumerate(after, 1) if belief.error > RIGHT_WITHIN), default=0)
    found = f"right again after {wrong + 1}" if wrong < len(after) else f"still wrong after {wrong}"
    p_value = np.median([belief.p_value for belief in after[: max(wrong, 1)]])
    return [
        f"the crate, at rest, was carried {distances[-1]:.1f} m after {len(track) - len(after)} reports, while it was "
        "silent",
        f"  its belief was {found} of the {len(after)} later reports (median p-value until then {p_value:.0e}); at the "
        f"end: believed error {after[-1].spread:.2f} m, true error {after[-1].error:.2f} m",
    ]


def dead_letters(worker: WorkerFigures) -> str:
    """Return the number of dead letters by reason."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(worker.dead_letters.items())) or "none"


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def span(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    return f"{1000 * seconds:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"
