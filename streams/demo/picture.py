"""Picture of a run: both maps, the errors over time, the replaced prior, and the final table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")  # before pyplot: no display is needed
from matplotlib import pyplot as plt
from matplotlib.patches import Ellipse
from matplotlib.transforms import Bbox

from beliefstream.streams.demo.comparison import measures, winners
from beliefstream.streams.demo.report import Result
from beliefstream.streams.demo.scenario import MOWER
from beliefstream.streams.demo.tracking import ReceivedBelief
from beliefstream.streams.demo.view import number, span
from beliefstream.streams.fitting.picture import STYLE
from beliefstream.streams.local.simulated_fleet import HALF_WIDTH

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

REGION = 2 * np.sqrt(np.log(10.0))  # diameter of a 90 % ellipse, in units of √2 standard deviations
BELIEF, TRUTH, JUMP, BEACON = "#1f77b4", "#333333", "#c2185b", "#e69f00"
AROUND_JUMP = 6.0  # seconds shown before and after the replaced prior
WIDEST = 15.0  # m; wider ellipses, after a gap in the ranges, would cover the map
ELLIPSES = 90  # number along the mower's path; more would merge


def paint(result: Result, path: Path) -> None:
    """Write the picture to a file; its suffix determines the format."""
    with mpl.rc_context(STYLE):
        figure = plt.figure(figsize=(16.0, 8.3), layout="constrained")
        grid = figure.add_gridspec(3, 3, height_ratios=(1.0, 1.0, 0.9), width_ratios=(1.0, 1.0, 0.95))
        mower_map(figure.add_subplot(grid[:2, 0]), result)
        fleet_map(figure.add_subplot(grid[:2, 1]), result)
        error_over_time(figure.add_subplot(grid[0, 2]), result)
        jump_over_time(figure.add_subplot(grid[1, 2]), result)
        box(figure.add_subplot(grid[2, :]), result)
        figure.savefig(path, dpi=100)
        plt.close(figure)


def mower_map(axes: Axes, result: Result) -> None:
    """Plot the true path, the belief's means, and some of its 90 % ellipses."""
    track, recording = result.tracker.track(MOWER), result.schedule.recording
    truths, means = np.array([belief.truth for belief in track]), np.array([belief.mean for belief in track])
    begin, end = recording.observations[0].time, recording.observations[-1].time
    inside = (recording.truth_times >= begin) & (recording.truth_times <= end)
    axes.plot(*recording.truth[inside].T, color=TRUTH, linewidth=0.9, label="truth (GPS)", zorder=3)
    for belief in track[:: max(1, len(track) // ELLIPSES)]:
        _ellipses(axes, belief, BELIEF, 0.12)
    axes.plot(*means.T, ".", color=BELIEF, markersize=2.2, alpha=0.7, label="belief, 90 % ellipses", zorder=4)
    beacons = np.array([sensor.position for sensor in recording.sensors if sensor.kind == "range"])
    axes.plot(*beacons.T, "^", color=BEACON, markersize=10, label="ranging beacon", zorder=5)
    _frame(axes, np.concatenate([truths, beacons]), 4.0)
    axes.set_title(f"A lawn mower located by radio ranges ({recording.name})")
    axes.legend(loc="lower center", ncols=3)


def fleet_map(axes: Axes, result: Result) -> None:
    """Plot the entities' final positions, their beliefs and their paths."""
    gates = result.schedule.gates
    for entity in result.schedule.fleet.entities:
        track = result.tracker.track(entity)
        if not track:
            continue
        colour = JUMP if entity == gates.entity else BELIEF
        axes.plot(*np.array([belief.truth for belief in track]).T, color=TRUTH, linewidth=0.6, alpha=0.35)
        _ellipses(axes, track[-1], colour, 0.3)
        axes.plot(*track[-1].mean, ".", color=colour, markersize=6, zorder=4)
        axes.plot(*track[-1].truth, "+", color=TRUTH, markersize=6, zorder=5)
    axes.plot([], [], "+", color=TRUTH, label="truth (and path)")
    axes.plot([], [], ".", color=BELIEF, markersize=6, label="belief, 90 % ellipse")
    axes.plot(
        *np.array(gates.places).T, "D", color=JUMP, fillstyle="none", markersize=9, label="the two gates"
    )
    half = HALF_WIDTH + 5
    _frame(axes, np.array([[-half, -half], [half, half]]), 0.0)
    axes.set_title(f"A simulated fleet of {len(result.schedule.fleet.entities)}, live")
    axes.legend(loc="lower center", ncols=3, columnspacing=1.0)


def error_over_time(axes: Axes, result: Result) -> None:
    """Plot the true error and the standard deviation of the mower's belief, and the fleet's error, by second."""
    schedule = result.schedule
    track, fleet = result.tracker.track(MOWER), []
    for entity in schedule.fleet.entities:
        fleet += [belief for belief in result.tracker.track(entity) if belief.method != "prior"]
    first = schedule.recording.observations[0].time
    speed = (schedule.recording.observations[-1].time - first) / schedule.duration
    seconds = [(belief.time - first) / speed for belief in track]
    live = [belief.time - schedule.fleet.times[0] for belief in fleet]
    axes.semilogy(*by_second(seconds, [belief.error for belief in track]), color=BELIEF, label="mower, true")
    axes.semilogy(
        *by_second(seconds, [belief.spread for belief in track]), color=BEACON, label="mower, believed"
    )
    axes.semilogy(*by_second(live, [belief.error for belief in fleet]), color=TRUTH, label="fleet, true")
    axes.set_ylim(top=3 * axes.get_ylim()[1])  # room for the legend
    axes.set_xlabel("seconds of the run")
    axes.set_ylabel("m")
    axes.set_title("Median error of the position")
    axes.legend(loc="upper center", ncols=3, columnspacing=1.0)


def by_second(times: Sequence[float], values: Sequence[float]) -> tuple[Array, Array]:
    """Return the middle of each second, and the median of its values."""
    seconds = np.floor(np.asarray(times)).astype(int)
    present = np.unique(seconds)
    return present + 0.5, np.array([np.median(np.asarray(values)[seconds == second]) for second in present])


def jump_over_time(axes: Axes, result: Result) -> None:
    """Plot the y coordinate of the entity whose prior was replaced, by component."""
    gates, start = result.schedule.gates, result.schedule.fleet.times[0]
    beliefs = result.tracker.track(gates.entity)
    track = [belief for belief in beliefs if abs(belief.time - gates.time) < AROUND_JUMP]
    for belief in track:
        colour, width = (JUMP, 8.0) if belief.method == "prior" else (BELIEF, 5.0)
        deviations = 1.645 * np.sqrt(belief.covariances[:, 1, 1])
        for weight, mean, deviation in zip(belief.weights, belief.means[:, 1], deviations, strict=True):
            if weight > 0.01:
                ends = [mean - deviation, mean + deviation]
                alpha = 0.3 + 0.7 * float(weight)
                x = [belief.time - start] * 2
                axes.plot(x, ends, color=colour, alpha=alpha, linewidth=width, solid_capstyle="butt")
    axes.plot([belief.time - start for belief in track], [belief.truth[1] for belief in track], color=TRUTH)
    for name, place in zip(gates.names, gates.places, strict=True):
        position = (gates.time - start + 0.3, place[1])
        axes.annotate(
            name,
            position,
            color=JUMP,
            va="center",
            xytext=(6, -18 if place[1] > 0 else 18),
            textcoords="offset points",
        )
    axes.plot([], [], color=TRUTH, label="truth")
    axes.plot([], [], color=BELIEF, linewidth=5, label="belief, 90 %")
    axes.plot([], [], color=JUMP, linewidth=5, label="stated prior")
    axes.set_xlabel("seconds of the run")
    axes.set_ylabel("y, m")
    axes.margins(y=0.15)
    axes.set_title(f"The prior of {gates.entity} replaced")
    axes.legend(loc="center left")


def box(axes: Axes, result: Result) -> None:
    """Print the figures of the run, and the table."""
    axes.axis("off")
    figures, worker = result.figures, result.worker
    dead = ", ".join(f"{reason} {count}" for reason, count in sorted(worker.dead_letters.items()))
    # wrapped, so that it ends left of the table
    methods = fill(", ".join(f"{name} {count}" for name, count in figures.methods.items()), 60)
    text = (
        f"{figures.sent} observations → {figures.posteriors} posteriors through Kafka\n"
        f"{figures.entities} entities, {figures.posteriors / figures.elapsed:.0f} posteriors/s in real time\n"
        f"sent → posterior received: {span(figures.latency_median)} median,\n"
        f"    95 % within {span(figures.latency_95)}\n"
        f"sample efficiency {number(figures.sample_efficiency)} of 1\n"
        f"{methods}\n"
        f"dead letters (expected):\n    {dead or 'none'}"
    )
    axes.text(0.0, 1.0, text, va="top", linespacing=1.35, transform=axes.transAxes)
    _table(axes, result)


def _table(axes: Axes, result: Result) -> None:
    heading = ["", "", *(measure.name for measure in measures(result.comparisons[0].rows[0]))]
    cells: list[list[str]] = []
    bold: set[tuple[int, int]] = set()
    for comparison in result.comparisons:
        for position, row in enumerate(comparison.rows):
            group = f"{comparison.group} ({comparison.instants})" if position == 0 else ""
            texts = [measure.text for measure in measures(row)]
            best = [column for column in range(len(texts)) if row.method in winners(comparison, column)]
            bold |= {(len(cells) + 1, column + 2) for column in best}
            cells.append([group, row.method, *texts])
    table: Any = axes.table(
        cells,
        colLabels=heading,
        bbox=Bbox.from_bounds(0.4, 0.0, 0.6, 1.0),
        cellLoc="right",
        colWidths=[0.18, 0.2, 0.13, 0.17, 0.17, 0.15],
    )
    table.auto_set_font_size(False)
    for (row, column), cell in table.get_celld().items():
        cell.set_edgecolor("#d0d0d0")
        cell.set_fontsize(10.5)
        cell.get_text().set_horizontalalignment("left" if column < 2 else "right")
        if row == 0 or (row, column) in bold:
            cell.get_text().set_fontweight("bold")
        if row == 0:
            cell.set_facecolor("#f2f2f2")


def _ellipses(axes: Axes, belief: ReceivedBelief, colour: str, alpha: float) -> None:
    """Draw each component's 90 % ellipse; heavier ones are darker."""
    for weight, mean, covariance in zip(belief.weights, belief.means, belief.covariances, strict=True):
        values, vectors = np.linalg.eigh(covariance)
        if weight < 0.02 or values[-1] > WIDEST**2:
            continue
        width, height = REGION * np.sqrt(np.maximum(values, 0.0)) * np.sqrt(2.0)
        angle = float(np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0])))
        shade = alpha * float(weight) ** 0.5
        axes.add_patch(
            Ellipse(
                (mean[0], mean[1]), width, height, angle=angle, facecolor=colour, alpha=shade, linewidth=0
            )
        )


def _frame(axes: Axes, points: Array, margin: float) -> None:
    """Set equal scales, with room for the legend below."""
    low, high = points.min(0) - margin, points.max(0) + margin
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1] - 0.11 * (high[1] - low[1]), high[1])
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")
