"""A simulated sensor: scores drawn from the laws of its faults, without any filter."""

from __future__ import annotations

import numpy as np

from beliefstream.inference.tracking.health.columns import Array, Fit
from beliefstream.inference.tracking.health.sums import terms

STATED_NOISE, SPAN = 0.5, 200.0


def observed(
    random: np.random.Generator,
    count: int,
    *,
    bias: float = 0.0,
    gain: float = 1.0,
    noise: float = 1.0,
    outliers: float | None = None,
    stated: float = 0.05,
) -> Array:
    """Terms ``(count, WIDTH)`` of a sensor of 0.5 m stated noise, whose value is predicted more or less exactly.

    Args:
        bias: in metres.
        gain: reported over true values.
        noise: over the stated noise.
        outliers: true share, uniform over 200 m; the stated one if None.
        stated: stated share of outliers.
    """
    prediction = random.uniform(0.2, 0.8, count)
    level = random.uniform(10, 100, count)
    spread = np.hypot(prediction, STATED_NOISE)
    error = prediction * random.normal(size=count) + bias + (gain - 1) * level
    error = error + noise * STATED_NOISE * random.normal(size=count)
    wrong = random.random(count) < (stated if outliers is None else outliers)
    error = np.where(wrong, random.uniform(-SPAN / 2, SPAN / 2, count), error)
    score = error / spread
    logs = -0.5 * score**2 - np.log(spread * np.sqrt(2 * np.pi))
    fits = np.empty((count, len(Fit)))
    fits[:, Fit.SCORE], fits[:, Fit.SHARE], fits[:, Fit.DEVIATION] = score, STATED_NOISE / spread, spread
    fits[:, Fit.LOG_ODDS] = np.log((1 - stated) / stated) + logs + np.log(SPAN)
    fits[:, Fit.PREDICTED], fits[:, Fit.EXCESS], fits[:, Fit.STATED] = level, 0.5 * (1 - score**2), stated
    return terms(fits)
