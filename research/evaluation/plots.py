"""Plot of speed against accuracy as a PNG file; it needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # before pyplot: no display is needed
from matplotlib import pyplot as plt
from matplotlib.transforms import Bbox

from research.evaluation.front import BASELINES, Point, undominated

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
# points, from a marker
NAME_OFFSETS = [(right, up) for up in (-11, 6, -22, 17, -33, 28, -44, 39) for right in (7, -7)]


def front(points: Sequence[Point], directory: Path) -> Path:
    """Plot mean divergence against speed, both logarithmic, a line per set of weights; returns the path `front.png`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "front.png"
    with mpl.rc_context(STYLE):
        figure, _ = front_figure(points)
        figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def front_figure(points: Sequence[Point]) -> tuple[Figure, list[Annotation]]:
    """The figure of `front`, and the names in it."""
    figure, axes = plt.subplots(figsize=(8.0, 5.0), layout="constrained")
    for group in dict.fromkeys(point.group for point in reversed(points)):
        chosen = [point for point in points if point.group == group]
        style = "x" if group == BASELINES else "o-"
        colour = "#888888" if group == BASELINES else None
        errors = [2 * point.standard_error for point in chosen]
        speeds, means = [point.per_second for point in chosen], [point.mean for point in chosen]
        axes.errorbar(speeds, means, errors, fmt=style, capsize=2, color=colour, label=group)
    best = undominated(list(points))
    ends = ([point.per_second for point in best], [point.mean for point in best])
    axes.step(*ends, where="pre", color="#333333", linewidth=0.8, linestyle=":", label="front")
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
