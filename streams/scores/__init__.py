"""Runs our method and classical filters on recordings, and scores their beliefs."""

from __future__ import annotations

from beliefstream.streams.scores.measures import Row
from beliefstream.streams.scores.run import Progress, score

__all__ = ["Progress", "Row", "score"]
