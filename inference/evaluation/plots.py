"""Plots of an evaluation as PNG files; they need matplotlib. Each function returns the path of its file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # before pyplot: no display is needed
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from beliefstream.inference.evaluation.calibration import BINS, Calibration, histogram
from beliefstream.inference.evaluation.front import BASELINES, Point, undominated
from beliefstream.inference.evaluation.long_run import LongRun
from beliefstream.inference.evaluation.report import Comparison

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.fontsize": 8.5,
}
LEAST = 1e-5  # nats; smaller values, which may be negative by chance, are drawn at the left edge
BAND = 2.576  # half width of a 99 % interval, in standard deviations
OURS, TRUTH = "#1f77b4", "#333333"
NAME_OFFSETS = [
    (right, up) for up in (-11, 6, -22, 17, -33, 28, -44, 39) for right in (7, -7)
]  # points, from a marker


def divergences(compared: Sequence[Comparison], directory: Path) -> Path:
    """Plot the share of problems with a divergence of at most x by method, a panel per dimension: `divergences.png`."""
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(compared), 4.2)
        for panel, comparison in zip(axes, compared, strict=True):
            for method in _without_variants(list(comparison.divergences)):
                values = comparison.divergences[method]
                ordered = np.sort(np.clip(values.numpy(), LEAST, None))
                shares = np.arange(1, len(ordered) + 1) / len(ordered)
                panel.step(ordered, shares, where="post", label=method, **_line(method))
            panel.set_xscale("log")
            panel.set_xlim(LEAST, 100.0)
            panel.set_ylim(0.0, 1.0)
            panel.set_xlabel("KL(exact ‖ answer), nats")
            panel.set_title(f"d = {comparison.dimension}, {comparison.count} problems")
        axes[0].set_ylabel("share of problems")
        axes[-1].legend(loc="lower right")
        return _saved(figure, directory / "divergences.png")


def ranks(calibrations: Sequence[Calibration], directory: Path) -> Path:
    """Plot histograms of the ranks of each coordinate and of the levels, a row per calibration: `ranks.png`."""
    most = max(found.dimension for found in calibrations) + 1
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(
            len(calibrations),
            most,
            figsize=(2.3 * most, 1.7 * len(calibrations)),
            squeeze=False,
            sharex=True,
            layout="constrained",
        )
        for row, found in zip(grid, calibrations, strict=True):
            expected = found.count / BINS
            spread = BAND * np.sqrt(expected * (1 - 1 / BINS))
            names = [*(f"coordinate {axis + 1}" for axis in range(found.dimension)), "level"]
            for panel, name, values in zip(row, names, (*found.ranks.T, found.levels), strict=False):
                panel.axhspan(expected - spread, expected + spread, color="#d9d9d9", linewidth=0)
                edges = np.linspace(0.0, 1.0, BINS + 1)
                panel.stairs(histogram(values).numpy(), edges, fill=True, color=OURS, alpha=0.7)
                panel.set_ylim(0.0, None)
                panel.set_title(name, fontsize=9)
            row[0].set_ylabel(f"{found.method}\nd = {found.dimension}", fontsize=8)
            for panel in row[found.dimension + 1 :]:
                panel.axis("off")
        return _saved(figure, directory / "ranks.png")


def coverage(calibrations: Sequence[Calibration], directory: Path) -> Path:
    """Plot the coverage of regions minus their mass against their mass, a panel per dimension: `coverage.png`."""
    dimensions = sorted({found.dimension for found in calibrations})
    masses = np.linspace(0.0, 1.0, 201)
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(dimensions), 3.4)
        for panel, dimension in zip(axes, dimensions, strict=True):
            chosen = [found for found in calibrations if found.dimension == dimension]
            for found in chosen:
                shares = np.searchsorted(np.sort(found.levels.numpy()), masses - 1e-9) / found.count
                panel.plot(masses, shares - masses, label=found.method, **_line(found.method))
            band = BAND * np.sqrt(masses * (1 - masses) / chosen[0].count)
            panel.fill_between(masses, -band, band, color="#d9d9d9", linewidth=0)
            panel.set_xlabel("mass of the region")
            panel.set_title(f"d = {dimension}, {chosen[0].count} problems")
        axes[0].set_ylabel("coverage − mass")
        axes[0].legend(loc="lower left")
        return _saved(figure, directory / "coverage.png")


def run(found: LongRun, directory: Path) -> Path:
    """Plot the coverage over the steps of the simulated run: `run.png`."""
    periods = found.periods(20)
    middle = [(period.first + period.last) / 2 for period in periods]
    steps, entities = found.levels.shape
    with mpl.rc_context(STYLE):
        figure, (axes,) = _panels(1, 4.0, 8.0)
        for index, row in enumerate(periods[0].coverage):
            shares = [period.coverage[index].share for period in periods]
            errors = [2 * period.coverage[index].standard_error for period in periods]
            axes.axhline(row.region, color=TRUTH, linewidth=0.8, linestyle=":")
            axes.errorbar(
                middle, shares, errors, marker="o", markersize=4, capsize=2, label=f"{row.region:.0%} region"
            )
        axes.set_ylim(0.0, 1.03)
        axes.set_xlabel("step")
        axes.set_ylabel("share of truths inside, ± 2 standard errors")
        axes.set_title(f"{entities} simulated entities over {steps} steps")
        axes.legend(loc="lower right")
        return _saved(figure, directory / "run.png")


def front(points: Sequence[Point], directory: Path) -> Path:
    """Plot mean divergence against speed, both logarithmic, a line per set of weights: `front.png`."""
    with mpl.rc_context(STYLE):
        figure, _ = front_figure(points)
        return _saved(figure, directory / "front.png")


def front_figure(points: Sequence[Point]) -> tuple[Figure, list[Annotation]]:
    """The figure of `front`, and the names in it."""
    figure, (axes,) = _panels(1, 5.0, 8.0)
    for group in dict.fromkeys(point.group for point in reversed(points)):
        chosen = [point for point in points if point.group == group]
        style = "x" if group == BASELINES else "o-"
        colour = "#888888" if group == BASELINES else None
        errors = [2 * point.standard_error for point in chosen]
        speeds, means = [point.per_second for point in chosen], [point.mean for point in chosen]
        axes.errorbar(speeds, means, errors, fmt=style, capsize=2, color=colour, label=group)
    best = undominated(list(points))
    ends = ([point.per_second for point in best], [point.mean for point in best])
    axes.step(*ends, where="pre", color=TRUTH, linewidth=0.8, linestyle=":", label="front")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.22)
    axes.set_xlabel("posteriors per second, one core, batches of 512")
    axes.set_ylabel("mean KL(exact ‖ answer), nats, ± 2 standard errors")
    axes.set_title(f"Speed and accuracy in the plane, {max(point.problems for point in points)} problems")
    axes.legend(loc="upper center")  # slow filters are on the left, coarse ones on the right
    return figure, _name(axes, points)


def _name(axes: Axes, points: Sequence[Point]) -> list[Annotation]:
    """Write each name once, beside the first point that has it, where it covers neither a marker nor another name."""
    figure = axes.figure
    figure.canvas.draw()  # boxes are known after the limits are
    inside, legend = axes.get_window_extent(), axes.get_legend()
    assert legend is not None
    places = axes.transData.transform([(point.per_second, point.mean) for point in points])
    taken = [Bbox.from_extents(x - 4, y - 4, x + 4, y + 4) for x, y in places]
    taken.append(legend.get_window_extent())
    names = []
    for point in {point.name: point for point in reversed(points) if np.isfinite(point.mean)}.values():
        place = (point.per_second, point.mean)
        text = axes.annotate(point.name, place, NAME_OFFSETS[0], textcoords="offset points", fontsize=8)
        for right, up in NAME_OFFSETS:
            text.set(position=(right, up), horizontalalignment="left" if right > 0 else "right")
            box = text.get_window_extent()
            within = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
            if within and not box.count_overlaps(taken):
                break
        taken.append(text.get_window_extent())
        names.append(text)
    return names


def _without_variants(methods: Sequence[str]) -> list[str]:
    """Drop methods that differ from an earlier one only in the number of components."""
    kinds = [method.partition(", K = ")[0] for method in methods]
    return [method for index, method in enumerate(methods) if kinds.index(kinds[index]) == index]


def _line(method: str) -> dict[str, Any]:
    """Return the line style: wide for our method, dashed for the network alone, thin for others."""
    if method.startswith("checked"):
        return {"linewidth": 2.0}
    return {"linewidth": 1.4, "linestyle": "--"} if method.startswith("network") else {"linewidth": 1.0}


def _panels(count: int, height: float, width: float = 4.0) -> tuple[Figure, list[Axes]]:
    size = (width * count, height)
    figure, axes = plt.subplots(1, count, figsize=size, squeeze=False, sharey=True, layout="constrained")
    return figure, list(axes[0])


def _saved(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path
