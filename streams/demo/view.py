"""Shows the run: figures and two maps in a terminal, otherwise a line every five seconds."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from beliefstream.streams.demo.scenario import MOWER, Schedule
from beliefstream.streams.demo.services import WorkerFigures
from beliefstream.streams.demo.tracking import Figures, Jump, Tracker
from beliefstream.streams.local.simulated_fleet import HALF_WIDTH

_BRAILLE = 0x2800
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # row, column of a dot in its character
LINE_EVERY = 5.0  # seconds between lines if there is no terminal
REFRESH = 4  # frames a second
MAP_HEIGHT = 15  # characters
FIGURES_WIDTH = 46
TRAIL = 400  # number of the mower's newest beliefs to draw
NOTES = 6


class DotMap:
    """A map of a rectangle in the plane on `width` by `height` characters, with the y axis up and equal scales.

    Args:
        width, height: size in characters.
        low, high: corners of the visible area, m.
    """

    def __init__(self, width: int, height: int, low: tuple[float, float], high: tuple[float, float]) -> None:
        self.width, self.height = width, height
        self._dots = [[0] * width for _ in range(height)]
        self._styles: list[list[str]] = [[""] * width for _ in range(height)]
        self._marks: dict[tuple[int, int], tuple[str, str]] = {}
        # the distance of dots is about equal in both directions
        self._scale = min(
            (2 * width - 1) / max(high[0] - low[0], 1e-9), (4 * height - 1) / max(high[1] - low[1], 1e-9)
        )
        self._middle = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)

    def trail(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """Draw a dot at each point; a later trail overwrites the style of earlier ones."""
        for x, y in points:
            column, row = self._dot(x, y)
            if 0 <= column < 2 * self.width and 0 <= row < 4 * self.height:
                self._dots[row // 4][column // 2] |= _BITS[row % 4][column % 2]
                self._styles[row // 4][column // 2] = style

    def mark(self, x: float, y: float, symbol: str, style: str) -> None:
        """Draw a character at a point, over any trail."""
        column, row = self._dot(x, y)
        if 0 <= column < 2 * self.width and 0 <= row < 4 * self.height:
            self._marks[row // 4, column // 2] = (symbol, style)

    def text(self) -> Text:
        """Return the map as rich text."""
        lines = Text(no_wrap=True)
        for row in range(self.height):
            for column in range(self.width):
                dots = self._dots[row][column]
                default = (chr(_BRAILLE + dots) if dots else " ", self._styles[row][column])
                lines.append(*self._marks.get((row, column), default))
            if row + 1 < self.height:
                lines.append("\n")
        return lines

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        column = round(self.width + (x - self._middle[0]) * self._scale - 0.5)
        row = round(2 * self.height - (y - self._middle[1]) * self._scale - 0.5)
        return column, row


class View:
    """Shows the current state, as a context manager."""

    def __init__(self, console: Console, schedule: Schedule, tracker: Tracker) -> None:
        self._console, self._schedule, self._tracker = console, schedule, tracker
        self._notes: deque[str] = deque(maxlen=NOTES)
        self._next_line = 0.0
        self._worker = WorkerFigures()
        drawable = console.is_terminal and not console.is_dumb_terminal
        self._live = Live(console=console, refresh_per_second=REFRESH, transient=True) if drawable else None
        self._unicode = "utf" in console.encoding.lower()

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
        width = self._console.width
        parts: list[RenderableType] = [Panel(grid(figures, self._worker), title=title, width=FIGURES_WIDTH)]
        maps = (
            0 if not self._unicode else 2 if width >= FIGURES_WIDTH + 78 else int(width >= FIGURES_WIDTH + 44)
        )
        for draw, name in [(self._mower_map, "mower"), (self._fleet_map, "fleet")][:maps]:
            room = (width - FIGURES_WIDTH - 2 * maps) // maps - 4
            parts.append(Panel(draw(min(room, 56)), title=name, expand=False))
        return Group(Columns(parts, padding=(0, 1)), Text("\n".join(self._notes), style="dim"))

    def _mower_map(self, width: int) -> Text:
        recording = self._schedule.recording
        beacons = [sensor.position for sensor in recording.sensors if sensor.kind == "range"]
        xs, ys = zip(*beacons, *recording.truth.tolist(), strict=True)
        dot_map = DotMap(width, MAP_HEIGHT, (min(xs), min(ys)), (max(xs), max(ys)))
        track = self._tracker.track(MOWER)[-TRAIL:]
        dot_map.trail([point(belief.truth) for belief in track], "bright_black")
        dot_map.trail([point(belief.mean) for belief in track], "cyan")
        for x, y in beacons:
            dot_map.mark(x, y, "▲", "yellow")
        if track:
            dot_map.mark(*point(track[-1].truth), "○", "white")
            dot_map.mark(*point(track[-1].mean), "●", "bright_cyan")
        return dot_map.text()

    def _fleet_map(self, width: int) -> Text:
        corner = (HALF_WIDTH + 5, HALF_WIDTH + 5)
        dot_map = DotMap(width, MAP_HEIGHT, (-corner[0], -corner[1]), corner)
        gates = self._schedule.gates
        for x, y in gates.places:
            dot_map.mark(x, y, "◇", "magenta")
        for entity, belief in self._tracker.latest().items():
            if entity != MOWER:
                dot_map.mark(*point(belief.truth), "·", "white")
                dot_map.mark(
                    *point(belief.mean), "●", "bright_magenta" if entity == gates.entity else "green"
                )
        return dot_map.text()


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
        "sample size": f"{number(figures.effective_sample_size)} of 1",
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
        f"sample size {number(figures.effective_sample_size)}, "
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


def dead_letters(worker: WorkerFigures) -> str:
    """Return the number of dead letters by reason."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(worker.dead_letters.items())) or "none"


def point(position: NDArray[np.float64]) -> tuple[float, float]:
    return float(position[0]), float(position[1])


def number(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.2f}"


def span(seconds: float) -> str:
    if math.isnan(seconds):
        return "–"
    return f"{1000 * seconds:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"
