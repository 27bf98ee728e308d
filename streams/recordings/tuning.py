"""Chooses the settings of a recording on its first third, by the density of the truth under our own filter.

Calibration and start values come from the residuals to the truth (a reader's `fit`). Residuals do not determine the
rest. Lasting errors, as for a landmark or a shadowed radio, do not average out like independent ones, and a filter that
assumes they do is far too confident. So deviations, shares of outliers and noise of motion are chosen by running the
filter over the first third, for the greatest density of the truth (if it is unknown, of each next report). One number
is changed after the other, on a geometric grid around the previous value, in passes that get finer. All candidates of a
number run in parallel, as entities of one log.

Settings that a reader does not search keep their values from the residuals.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from beliefstream.inference.tracking.filtering import Outcome
from beliefstream.inference.update.updater import Updater
from beliefstream.streams.recordings.readers import RecordingReader
from beliefstream.streams.recordings.recording import Recording, third
from beliefstream.streams.recordings.scores.measures import Row, Scores
from beliefstream.streams.recordings.scores.methods import OURS, score_ours
from beliefstream.streams.recordings.scores.tracks import log_of, tracks_of

RASTERS = (3.0, 1.7, 1.25)  # ratio of neighbouring candidates, one for each pass
CANDIDATES = range(-2, 3)  # powers of that ratio
LEAST_GAIN = 0.01  # nats per case, below which a gain is chance and a value is not changed
SETTLING = 1 / 3  # of the part used: not scored, because the prior decides there, and it may know the place
MOST_ENTITIES = 20  # of a recording; if there are more, every n-th is used

Report = Callable[[str, float, Row], None]  # for a candidate: name and value of the changed number, scores


def tune(
    reader: RecordingReader,
    data: Path | None,
    updater: Updater,
    report: Report,
    rasters: Sequence[float] = RASTERS,
) -> Any:
    """Return the settings chosen on the first third, rounded to four digits.

    `report` is called for every candidate. Raises RecordingUnavailable without the files.
    """
    settings = rounded(reader.fit(data))
    for ratio in rasters:
        for name in reader.searched:
            values = [getattr(settings, name) * ratio**power for power in CANDIDATES]
            candidates = [rounded(dataclasses.replace(settings, **{name: value})) for value in values]
            rows = scored([first_third(reader.read(data=data, settings=c)) for c in candidates], updater)
            for candidate, row in zip(candidates, rows, strict=True):
                report(name, getattr(candidate, name), row)
            settings = candidates[_best([row.negative_log_likelihood for row in rows])]
    return settings


def _best(losses: Sequence[float]) -> int:
    """Index of the least loss, if it gains enough over the previous value, which is in the middle."""
    middle = CANDIDATES.index(0)
    known = [loss if math.isfinite(loss) else math.inf for loss in losses]
    best = min(range(len(known)), key=known.__getitem__)
    return best if known[best] < known[middle] - LEAST_GAIN else middle


def first_third(recording: Recording) -> Recording:
    """The part before the scored one; of many entities, `MOST_ENTITIES` evenly chosen."""
    models = recording.models[:: math.ceil(len(recording.models) / MOST_ENTITIES)]
    known = {model.entity for model in models}
    kept = [o for o in recording.observations if o.time < recording.scored_from and o.entity in known]
    return dataclasses.replace(recording, observations=kept, model=models[0], others=tuple(models[1:]))


def scored(recordings: Sequence[Recording], updater: Updater) -> list[Row]:
    """Our scores on each recording after it has settled; all are fused in parallel."""
    parts = [_renamed(recording, f"@{number}") for number, recording in enumerate(recordings)]
    outcomes: dict[str, list[Outcome]] = defaultdict(list)
    for fused in log_of(*parts).fuse(updater):
        outcomes[fused.entity].append(fused.outcome)
    rows = []
    for part in parts:
        settled = third([observation.time for observation in part.observations], SETTLING)
        whole = dataclasses.replace(part, scored_from=settled)
        tracks = tracks_of(whole, log_of(whole))
        scores = Scores(sum(len(track.cases) for track in tracks), part.lost_beyond)
        score_ours(tracks, outcomes, scores)
        rows.append(scores.row(part.name, OURS, math.nan))
    return rows


def rounded(settings: Any) -> Any:
    """Round every number to four digits."""

    def four(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(four(part) for part in value)
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return type(settings)(**{f.name: four(getattr(settings, f.name)) for f in dataclasses.fields(settings)})


def _renamed(recording: Recording, suffix: str) -> Recording:
    """Give entities and sensors unique names."""

    def entity(name: str) -> str:
        return f"{name}{suffix}"

    models = [model.model_copy(update={"entity": entity(model.entity)}) for model in recording.models]
    sensors = tuple(s.model_copy(update={"sensor": f"{s.sensor}{suffix}"}) for s in recording.sensors)
    observations = [
        o.model_copy(update={"entity": entity(o.entity), "sensor": f"{o.sensor}{suffix}"})
        for o in recording.observations
    ]
    return dataclasses.replace(
        recording, model=models[0], others=tuple(models[1:]), sensors=sensors, observations=observations
    )
