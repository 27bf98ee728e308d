"""Plaza: settings of the recordings that `streams.demo.plaza` reads, and how they were chosen.

Those of plaza1 are chosen on its first third by `python -m research.recordings plaza1 --tune`. plaza2 has the same
radios, and a faster motion.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from beliefstream.streams.demo import plaza as reader
from beliefstream.streams.demo.plaza import MAXIMUM_RANGE, PlazaName, PlazaSettings
from beliefstream.streams.scores.recording import Recording
from research.recordings.fitting import outlier_share
from research.recordings.parts import interpolated, third


@dataclass(frozen=True)
class Plaza2Settings(PlazaSettings):
    """Settings of plaza1 but for the motion, chosen by `python -m research.recordings plaza2 --tune`."""

    spectral_density: float = 0.45  # m²/s³


def plaza(
    which: PlazaName, entity: str = "mower", data: Path | None = None, settings: PlazaSettings | None = None
) -> Recording:
    """Read a recording, scored after its first third; `data` is not used, since its files are part of a package."""
    chosen = settings or (PlazaSettings() if which == "plaza1" else Plaza2Settings())
    recording = reader.plaza(which, entity, chosen)
    return replace(recording, scored_from=third([each.time for each in recording.observations]))


def fit(data: Path | None = None) -> PlazaSettings:
    """Fit calibration and deviation to the residuals of the first third of plaza1; `data` is not used.

    Raises:
        RecordingUnavailable: the package with the files is not installed.
    """
    arrays = reader.load("plaza1")
    truth, ranges = arrays["GT"], arrays["TD"]
    first = ranges[ranges[:, 0] < third(ranges[:, 0])]
    places = {int(row[0]): row[1:3] for row in arrays["TL"]}
    seen = interpolated(first[:, 0], truth[:, 0], truth[:, 1:3])
    distance = np.linalg.norm(seen - [places[int(beacon)] for beacon in first[:, 2]], axis=1)
    scale, bias = np.polyfit(distance, first[:, 3], 1).tolist()
    noise = outlier_share(first[:, 3] - scale * distance - bias, scale * MAXIMUM_RANGE)
    return PlazaSettings(scale, bias, *noise)


def fit_plaza2(data: Path | None = None) -> Plaza2Settings:
    """Return the settings of plaza1, from which the search for the motion's noise starts; `data` is not used."""
    return Plaza2Settings(spectral_density=PlazaSettings.spectral_density)
