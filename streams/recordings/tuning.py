"""How the settings of a recording are chosen: on its first third, by maximum likelihood.

Noise and calibration come from the residuals to the truth (a reader's `fit`); what no residual shows, the motion above
all, from the log evidence of our own filter over the first third, one number after the other on a geometric raster
around the value before. All candidates of a number run side by side, as entities of one log.
"""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from inference.update import Updater
from streams.recordings.readers import Reader
from streams.recordings.recording import Recording
from streams.recordings.scores.tracks import log_of

FACTORS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 10.0)  # of the value before
PASSES = 2
MOST_ENTITIES = 20  # of a recording; where there are more, every so many-th serves

Report = Callable[[str, float, float], None]  # of a number: name, value, its log evidence


def tune(reader: Reader, data: Path | None, updater: Updater, report: Report, passes: int = PASSES) -> Any:
    """The settings that the first third asks for, to four digits.

    `report` hears of every candidate. Raises RecordingUnavailable without the files.
    """
    settings = reader.fit(data)
    for _ in range(passes if len(reader.by_evidence) > 1 else 1):
        for name in reader.by_evidence:
            value = getattr(settings, name)
            candidates = [dataclasses.replace(settings, **{name: value * factor}) for factor in FACTORS]
            found = evidences([first_third(reader.read(data=data, settings=c)) for c in candidates], updater)
            for candidate, evidence in zip(candidates, found, strict=True):
                report(name, getattr(candidate, name), evidence)
            settings = candidates[max(range(len(found)), key=found.__getitem__)]
    return rounded(settings)


def first_third(recording: Recording) -> Recording:
    """What comes before the part that is scored; of many entities, `MOST_ENTITIES` evenly chosen."""
    models = recording.models[:: math.ceil(len(recording.models) / MOST_ENTITIES)]
    known = {model.entity for model in models}
    kept = [o for o in recording.observations if o.time < recording.scored_from and o.entity in known]
    return dataclasses.replace(recording, observations=kept, model=models[0], others=tuple(models[1:]))


def evidences(recordings: Sequence[Recording], updater: Updater) -> list[float]:
    """Log evidence of each recording as a whole, all of them fused side by side."""
    joint = log_of(*(_renamed(recording, f"@{number}") for number, recording in enumerate(recordings)))
    total: dict[str, float] = defaultdict(float)
    for fused in joint.fuse(updater):
        total[fused.entity.rpartition("@")[2]] += fused.outcome.log_evidence
    return [total[str(number)] for number in range(len(recordings))]


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
