"""Runs our method and classical filters on recordings, and scores their beliefs."""

from __future__ import annotations

from beliefstream.streams.recordings.scores.measures import Row
from beliefstream.streams.recordings.scores.run import Progress, score

__all__ = ["Progress", "Row", "score"]
