"""Recordings of real sensors, most with a known truth, as observations."""

from __future__ import annotations

from beliefstream.streams.recordings.plaza import plaza
from beliefstream.streams.recordings.readers import READERS, RecordingReader, read
from beliefstream.streams.recordings.recording import (
    DATA_VARIABLE,
    Recording,
    RecordingUnavailable,
    limited,
    with_wide_prior,
    without_calibration,
)

__all__ = [
    "DATA_VARIABLE",
    "READERS",
    "Recording",
    "RecordingReader",
    "RecordingUnavailable",
    "limited",
    "plaza",
    "read",
    "with_wide_prior",
    "without_calibration",
]
