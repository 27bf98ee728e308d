"""Readers of the available recordings by name, and how to choose their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from beliefstream.streams.scores.recording import Recording
from research.recordings import ais_solent, ble_rssi, laser_radar, mrclam, uwb_planar
from research.recordings.plaza import fit as fit_plaza, fit_plaza2, plaza


@dataclass(frozen=True)
class RecordingReader:
    """Reader of one recording.

    Attributes:
        read: function that reads it, with the options `entity` (name of the entity), `data` (folder of the recorded
            data; that in BELIEFSTREAM_DATA if None) and `settings` (to use instead of the chosen ones). It raises
            RecordingUnavailable if a file does not exist.
        fit: function of the data folder that fits the settings to the residuals of the first third.
        searched: names of the settings that are then chosen by the density of the truth, in order.
        settings_of: name of the recording whose settings it uses; None if it has its own.
    """

    read: Callable[..., Recording]
    fit: Callable[[Path | None], Any]
    searched: tuple[str, ...] = ()
    settings_of: str | None = None


READERS: dict[str, RecordingReader] = {
    "plaza1": RecordingReader(
        partial(plaza, "plaza1"), fit_plaza, ("deviation", "spectral_density", "outlier_probability")
    ),
    "plaza2": RecordingReader(partial(plaza, "plaza2"), fit_plaza2, ("spectral_density",)),
    "uwb_planar": RecordingReader(uwb_planar.uwb_planar, uwb_planar.fit, ("deviation", "place_density")),
    "mrclam_robot1": RecordingReader(
        mrclam.mrclam,
        mrclam.fit,
        ("range_deviation", "bearing_deviation"),  # the odometry's noise is that of its residuals
    ),
    "ble_rssi": RecordingReader(ble_rssi.ble_rssi, ble_rssi.fit, ("deviation", "spectral_density")),
    "ble_straight": RecordingReader(
        partial(ble_rssi.ble_rssi, "ble_straight"), ble_rssi.fit, settings_of="ble_rssi"
    ),
    "laser_radar": RecordingReader(
        laser_radar.laser_radar,
        laser_radar.fit,
        (
            "spectral_density",
            "laser_deviation",
            "range_deviation",
            "bearing_deviation",
            "range_rate_deviation",
        ),
    ),
    "ais_solent": RecordingReader(
        ais_solent.ais_solent,
        ais_solent.fit,
        (
            "place_deviation",
            "delay_deviation",
            "speed_deviation",
            "course_deviation",
            "spectral_density",
            "time_constant",
        ),
    ),
}


def read(name: str, **options: Any) -> Recording:
    """Read a recording by name, with the options of its reader.

    Raises:
        ValueError: the name is unknown.
        RecordingUnavailable: its files do not exist.
    """
    if name not in READERS:
        raise ValueError(f"recording: expected one of {', '.join(READERS)}, got {name!r}")
    return READERS[name].read(**options)
