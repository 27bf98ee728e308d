"""The recordings there are, by name: how each is read, and how its settings are chosen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.recordings import ais_solent, ble_rssi, laser_radar, mrclam, uwb_planar
from streams.recordings.plaza import PlazaName, plaza
from streams.recordings.plaza import fit as fit_plaza
from streams.recordings.recording import Recording


@dataclass(frozen=True)
class Reader:
    """One recording.

    Attributes:
        read: takes `entity`, `epoch`, `data` and `settings`, each with a default.
        fit: settings with all that the truth of the first third shows; takes the data folder.
        by_evidence: names of the settings that it does not show, in the order in which they are chosen.
    """

    read: Callable[..., Recording]
    fit: Callable[[Path | None], Any]
    by_evidence: tuple[str, ...] = ()


def _plaza(which: PlazaName) -> Callable[..., Recording]:
    def read(data: Path | None = None, **options: Any) -> Recording:
        return plaza(which, **options)  # its files come with a package, not with the data

    return read


READERS: dict[str, Reader] = {
    "plaza1": Reader(_plaza("plaza1"), fit_plaza, ("spectral_density",)),
    "plaza2": Reader(_plaza("plaza2"), fit_plaza),
    "uwb_planar": Reader(uwb_planar.uwb_planar, uwb_planar.fit),
    "mrclam_robot1": Reader(mrclam.mrclam, mrclam.fit),
    "ble_rssi": Reader(ble_rssi.ble_rssi, ble_rssi.fit),
    "laser_radar": Reader(laser_radar.laser_radar, laser_radar.fit),
    "ais_solent": Reader(ais_solent.ais_solent, ais_solent.fit),
}


def read(name: str, **options: Any) -> Recording:
    """A recording by name, with the options of its reader.

    Raises:
        ValueError: there is none of that name.
        RecordingUnavailable: its files are not there.
    """
    if name not in READERS:
        raise ValueError(f"no recording is called {name!r}: {', '.join(READERS)}")
    return READERS[name].read(**options)
