"""Settings of recordings by evidence: what a data sheet states, and what a first third shows without its truth.

The stated numbers are round ones for the kind of device: no calibration, and motion noise of the order of its speed.
Whoever stated them had seen the residuals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from beliefstream.inference.update.updater import Updater
from beliefstream.streams.scores.evidence import Definitions, Recorded
from beliefstream.streams.scores.fitting import Fit, fit
from beliefstream.streams.scores.recording import Recording
from research.recordings.mrclam import MrclamSettings
from research.recordings.plaza import Plaza2Settings
from research.recordings.readers import READERS
from research.recordings.uwb_planar import UwbSettings


@dataclass(frozen=True)
class Stated:
    """Settings from which a fit starts, and whether it fits the scale of distances too."""

    settings: Any
    scale: bool = False


STATED: Mapping[str, Stated] = {
    "plaza1": Stated(Plaza2Settings(1.0, 0.0, 0.6, 0.01, 0.2), scale=True),
    "plaza2": Stated(Plaza2Settings(1.0, 0.0, 0.6, 0.01, 0.2), scale=True),
    "mrclam_robot1": Stated(MrclamSettings(0.1, 1.0, 0.0, 0.01, 0.02, 0.01, 0.05, 0.1), scale=True),
    # the links report distances up to 0.3 m too long, which counts as an error that lasts
    "uwb_planar": Stated(UwbSettings(0.2, 0.01, 0.3, 0.3, (0.0,) * 24)),
}


def fitted(name: str, updater: Updater, data: Path | None = None) -> tuple[Recording, Fit]:
    """Return a recording with the definitions that its first third's evidence gives, and the fit.

    Raises:
        ValueError: nothing is stated for it.
        RecordingUnavailable: its files do not exist.
    """
    if name not in STATED:
        raise ValueError(f"--fit evidence: expected one of {', '.join(STATED)}, got {name!r}")
    stated = STATED[name]
    recording = READERS[name].read(data=data, settings=stated.settings)
    recorded = Recorded(recording.observations, recording.scored_from)
    found = fit(Definitions(recording.sensors, recording.models), recorded, updater, scale=stated.scale)
    sensors, (model, *others) = found.definitions
    return replace(recording, sensors=sensors, model=model, other_models=tuple(others)), found
