"""Picture of residuals before and after a fit; it needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # before pyplot: no display is needed
from matplotlib import pyplot as plt

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.fitting.evidence import Definitions, Recorded
from beliefstream.streams.fitting.residuals import FURTHEST, Series, correlations, lags, residuals, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BEFORE, AFTER, EXPECTED = "#e69f00", "#1f77b4", "#333333"
STYLE: Any = {
    "font.size": 10.5,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": True,
    "legend.framealpha": 0.9,
    "legend.fontsize": 9,
}
MOST = 6  # kinds that are shown, of those with the most scores


def paint(stated: Definitions, fitted: Definitions, recorded: Recorded, updater: Updater, path: Path) -> None:
    """Draw the residuals of the part kept apart, under stated and fitted definitions; a row for each kind of sensor.

    Args:
        stated: definitions before the fit.
        fitted: definitions after it.
        recorded: observations, and the time from which they were kept apart.
        updater: of the filter.
        path: of the picture; its suffix determines the format.

    Raises:
        ValueError: no report of the part kept apart could be scored.
    """
    before, after = (residuals(each, recorded, updater) for each in (stated, fitted))
    kinds = sorted(
        before.keys() & after.keys(), key=lambda kind: -sum(len(each.times) for each in after[kind])
    )
    if not kinds:
        raise ValueError(
            f"{path}: no report of the part kept apart could be scored, so that there is no picture"
        )
    kinds = kinds[:MOST]
    with mpl.rc_context(STYLE):
        size = (11.0, 0.5 + 3.2 * len(kinds))
        figure, rows = plt.subplots(len(kinds), 2, figsize=size, layout="constrained", squeeze=False)
        for kind, (left, right) in zip(kinds, rows, strict=True):
            _distributions(left, kind, before[kind], after[kind])
            _correlations(right, kind, before[kind], after[kind])
        figure.savefig(path, dpi=100)
        plt.close(figure)


def _distributions(axes: Axes, kind: str, before: Sequence[Series], after: Sequence[Series]) -> None:
    edges = np.linspace(-FURTHEST, FURTHEST, 41)
    for series, colour, name in ((before, BEFORE, "as stated"), (after, AFTER, "fitted")):
        scores = np.clip(np.concatenate([each.scores for each in series]), -FURTHEST, FURTHEST)
        label = f"{name}, spread {spread(series):.2f}"
        axes.hist(
            scores, edges.tolist(), density=True, histtype="step", color=colour, linewidth=1.5, label=label
        )
    axes.plot(
        edges, np.exp(-0.5 * edges**2) / np.sqrt(2 * np.pi), color=EXPECTED, linewidth=0.8, label="expected"
    )
    axes.set_title(f"{kind}: residuals")
    axes.set_xlabel(f"standard deviations; the ends have all beyond {FURTHEST:g}")
    axes.set_ylabel("density")
    axes.legend()


def _correlations(axes: Axes, kind: str, before: Sequence[Series], after: Sequence[Series]) -> None:
    edges = lags(after)
    middle = np.sqrt(edges[:-1] * edges[1:])
    for series, colour, name in ((before, BEFORE, "as stated"), (after, AFTER, "fitted")):
        found = correlations(series, edges)
        known = np.isfinite(found)
        axes.plot(middle[known], found[known], "o-", color=colour, markersize=4, label=name)
    axes.axhline(0.0, color=EXPECTED, linewidth=0.8, label="expected")
    axes.set_xscale("log")
    axes.set_ylim(-0.55, 1.05)
    axes.set_title(f"{kind}: correlation of residuals")
    axes.set_xlabel("seconds between two reports of a sensor")
    axes.legend()
