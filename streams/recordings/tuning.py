"""How the settings of a recording are chosen: on its first third, by the truth's density under our own filter.

Calibration, and where to start, come from the residuals to the truth (a reader's `fit`). Residuals at the true place
say too little of the rest: errors that last, as those of a landmark or of a shadowed radio, do not average out as
independent ones would, and a filter that believes they do is far too sure. So deviations, shares of outliers and noise
of motion are those with which the filter, run over the first third, gives the truth the greatest density (where nobody
knows the truth, each next report). One number is changed after the other, on a geometric raster around the value
before, in passes that get finer; all candidates of a number run side by side, as entities of one log.

What a reader does not have searched stays as the residuals show it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference.filtering import Outcome
from inference.update import Updater
from streams.recordings.readers import Reader
from streams.recordings.recording import Recording, third
from streams.recordings.scores.measures import Row, Scores
from streams.recordings.scores.methods import OURS, score_ours
from streams.recordings.scores.tracks import log_of, tracks_of

RASTERS = (3.0, 1.7, 1.25)  # ratio of neighbouring candidates, a pass each
CANDIDATES = range(-2, 3)  # powers of it
LEAST_GAIN = 0.01  # nats a case, for which a value is changed: less is chance
SETTLING = 1 / 3  # of what serves: until then a prior that may know the place decides, and nothing is scored
MOST_ENTITIES = 20  # of a recording; where there are more, every so many-th serves

Report = Callable[[str, float, Row], None]  # of a candidate: name and value of the number changed, scores


def tune(
    reader: Reader,
    data: Path | None,
    updater: Updater,
    report: Report,
    rasters: Sequence[float] = RASTERS,
) -> Any:
    """The settings that the first third asks for, to four digits.

    `report` hears of every candidate. Raises RecordingUnavailable without the files.
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
    """Of the least, where it gains enough over the value before, which is in the middle."""
    middle = CANDIDATES.index(0)
    known = [loss if math.isfinite(loss) else math.inf for loss in losses]
    best = min(range(len(known)), key=known.__getitem__)
    return best if known[best] < known[middle] - LEAST_GAIN else middle


def first_third(recording: Recording) -> Recording:
    """What comes before the part that is scored; of many entities, `MOST_ENTITIES` evenly chosen."""
    models = recording.models[:: math.ceil(len(recording.models) / MOST_ENTITIES)]
    known = {model.entity for model in models}
    kept = [o for o in recording.observations if o.time < recording.scored_from and o.entity in known]
    return dataclasses.replace(recording, observations=kept, model=models[0], others=tuple(models[1:]))


def scored(recordings: Sequence[Recording], updater: Updater) -> list[Row]:
    """Our scores on each recording once it has settled, all of them fused side by side."""
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
    """With every number to four digits."""

    def four(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(four(part) for part in value)
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return type(settings)(**{f.name: four(getattr(settings, f.name)) for f in dataclasses.fields(settings)})


def _renamed(recording: Recording, suffix: str) -> Recording:
    """With names of its own for entities and sensors."""

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
