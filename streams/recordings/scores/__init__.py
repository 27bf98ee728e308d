"""Fuses recordings and scores the beliefs, with classical filters on the same motion, sensors and outliers."""

from __future__ import annotations

from streams.recordings.scores.measures import Row
from streams.recordings.scores.run import Progress, score

__all__ = ["Progress", "Row", "score"]
