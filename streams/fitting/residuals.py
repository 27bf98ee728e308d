"""Residuals of a recording: reports minus predictions, as normal scores, and how long they stay alike.

The scores are those of sensor health (`inference.tracking.health.fits`): standard normal, and independent of each
other, if definitions are right. An error that lasts and is not stated makes scores of one sensor alike; one that is
stated is predicted, and does not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from beliefstream.inference.tracking.health.columns import Fit
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Sensor
from beliefstream.streams.fitting.evidence import Array, Definitions, Recorded, log_of

MEDIAN = 0.6745  # of the size of a standard normal number
FURTHEST = 4.0  # scores beyond it count as so far, so that outliers do not decide
FEWEST = 30  # pairs for a correlation


class Series(NamedTuple):
    """Scores of one number that a sensor reports about one entity, by time, ``(N,)`` each."""

    times: Array
    scores: Array


def residuals(definitions: Definitions, recorded: Recorded, updater: Updater) -> dict[str, list[Series]]:
    """Return the scores of the part kept apart, by kind of sensor and part of a report.

    Scores that tell nothing of the sensor are left out (`Fit.SHARE` is 0).

    Raises:
        Unusable: the definitions contradict each other, or an observation does not fit them.
        ValueError: an entity has no model.
    """
    kinds = {f"0:{sensor.sensor}": _names(sensor) for sensor in definitions.sensors}
    found: dict[tuple[str, str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for each in log_of([definitions], recorded).fits(updater):
        names = kinds[each.sensor]
        if each.time < recorded.split:
            continue
        for number, fit in enumerate(each.fits):
            if fit[Fit.SHARE] > 0 and np.isfinite(fit[Fit.SCORE]):
                name = names[number] if len(names) == len(each.fits) else names[0]
                found[name, each.entity, each.sensor, number].append((each.time, fit[Fit.SCORE]))
    groups: dict[str, list[Series]] = defaultdict(list)
    for (name, *_), rows in found.items():
        groups[name].append(Series(*np.array(sorted(rows)).T))
    return dict(groups)


def _names(sensor: Sensor) -> Sequence[str]:
    return [f"{sensor.kind}.{part}" for part in sensor.parts] or [sensor.kind]


def spread(series: Sequence[Series]) -> float:
    """Return the standard deviation of all scores by the median of their sizes: 1 if definitions are right."""
    return deviation_of(np.concatenate([each.scores for each in series]))


def deviation_of(scores: Array) -> float:
    """Return the standard deviation of normal numbers with mean zero, by the median of their sizes."""
    return float(np.median(np.abs(scores))) / MEDIAN


def lags(series: Sequence[Series], count: int = 12, longest: float = 100.0) -> Array:
    """Return the edges of `count` lags in seconds, from the median interval of a series to its `longest`-fold."""
    intervals = np.concatenate([np.zeros(0), *(np.diff(each.times) for each in series)])
    intervals = intervals[intervals > 0]
    middle = float(np.median(intervals)) if len(intervals) else 1.0
    return middle * np.geomspace(0.7, longest, count + 1)


def correlations(series: Sequence[Series], edges: Array) -> Array:
    """Return the correlation of scores of one series whose times are apart by each lag, ``(L,)``; NaN of few pairs.

    It is about zero, not about the mean: a constant error is one that lasts.

    Args:
        series: scores of one group.
        edges: of the lags in seconds, ``(L + 1,)``, increasing.
    """
    products, squares, counts = np.zeros((3, len(edges) - 1))
    for times, scores in series:
        scores = np.clip(scores, -FURTHEST, FURTHEST)
        for apart in range(1, len(times)):
            lag = times[apart:] - times[:-apart]
            if lag.min() >= edges[-1]:
                break
            bins = np.searchsorted(edges, lag, "right") - 1
            inside = (bins >= 0) & (bins < len(counts))
            one, other, bins = scores[apart:][inside], scores[:-apart][inside], bins[inside]
            np.add.at(products, bins, one * other)
            np.add.at(squares, bins, 0.5 * (one**2 + other**2))
            np.add.at(counts, bins, 1)
    return np.where(counts >= FEWEST, products / np.maximum(squares, np.finfo(float).tiny), np.nan)
