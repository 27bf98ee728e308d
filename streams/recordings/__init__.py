"""Recordings of real sensors with a known truth, as observations."""

from __future__ import annotations

from streams.recordings.plaza import plaza
from streams.recordings.recording import Recording, RecordingUnavailable

__all__ = ["Recording", "RecordingUnavailable", "plaza"]
