"""Chooses the settings of a recording on its first third, by the density of the truth under our filter.

Calibration and initial values are fitted to the residuals (a reader's `fit`). Residuals do not determine the other
settings. Errors that last, as of a landmark or a blocked radio signal, do not average out like independent ones, and a
filter that assumes independence is far too confident. So standard deviations, shares of outliers and motion noise are
chosen by running the filter over the first third, for the largest density of the truth (of each next report, if the
truth is unknown). One setting after the other is changed, on a geometric grid around the previous value, in passes with
finer and finer grids.

Settings that a reader does not search keep their fitted values.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.scores import Row, score
from beliefstream.streams.scores.recording import Recording
from research.recordings.parts import of_few, third
from research.recordings.readers import RecordingReader

GRID_RATIOS = (3.0, 1.7, 1.25)  # ratio of neighbouring candidates in each pass
CANDIDATES = range(-2, 3)  # powers of that ratio
LEAST_GAIN = 0.01  # nats per case; a smaller gain may be chance, and does not change the value
SETTLING = 1 / 3  # share of the first third that is not scored, because the prior dominates there

Report = Callable[[str, float, Row], None]  # takes name and value of the changed setting, and the scores


def tune(
    reader: RecordingReader,
    data: Path | None,
    updater: Updater,
    report: Report,
    grid_ratios: Sequence[float] = GRID_RATIOS,
) -> Any:
    """Return the settings chosen on the first third, rounded to four digits.

    `report` is called for every candidate.

    Raises:
        RecordingUnavailable: the files do not exist.
    """
    settings = rounded(reader.fit(data))
    for ratio in grid_ratios:
        for name in reader.searched:
            values = [getattr(settings, name) * ratio**power for power in CANDIDATES]
            candidates = [rounded(dataclasses.replace(settings, **{name: value})) for value in values]
            losses = []
            for candidate in candidates:
                (row,) = score(first_third(reader.read(data=data, settings=candidate)), updater, methods=())
                report(name, getattr(candidate, name), row)
                losses.append(row.negative_log_likelihood)
            settings = candidates[_best(losses)]
    return settings


def _best(losses: Sequence[float]) -> int:
    """Return the index of the least loss, or that of the previous value, in the middle, if the gain is too small."""
    middle = CANDIDATES.index(0)
    finite = [loss if math.isfinite(loss) else math.inf for loss in losses]
    best = min(range(len(finite)), key=finite.__getitem__)
    return best if finite[best] < finite[middle] - LEAST_GAIN else middle


def first_third(recording: Recording) -> Recording:
    """Return the part before the scored one, of few entities, scored after it has settled."""
    few = of_few(recording)
    observations = [o for o in few.observations if o.time < few.scored_from]
    return dataclasses.replace(
        few,
        observations=observations,
        scored_from=third([observation.time for observation in observations], SETTLING),
    )


def rounded(settings: Any) -> Any:
    """Round every number to four digits."""

    def four(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(four(part) for part in value)
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return type(settings)(**{f.name: four(getattr(settings, f.name)) for f in dataclasses.fields(settings)})
