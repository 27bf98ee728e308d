"""Fuses recordings and scores the beliefs, with classical filters on the same motion, sensors and outliers."""

from __future__ import annotations

from beliefstream.streams.recordings.scores.measures import Row
from beliefstream.streams.recordings.scores.run import Progress, score

__all__ = ["Progress", "Row", "score"]
