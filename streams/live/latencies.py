"""Latency of the stream: from an observation's record to the record of the posterior that has it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from beliefstream.streams.live.posteriors import PlainPosterior

WINDOW = 5.0  # seconds
MOST = 2000  # latencies in it


class Seen(NamedTuple):
    """An observation as it is on the topic; `stamp` is the time of its record, in seconds."""

    partition: int
    offset: int
    stamp: float
    value: bytes


class Latencies:
    """Those of the last seconds."""

    def __init__(self) -> None:
        self._found: deque[tuple[float, float]] = deque(maxlen=MOST)  # when they were found, and how long

    def add(self, posterior: PlainPosterior, stamp: float, observations: Iterable[Seen]) -> None:
        """Measure what of the posterior's own observations is still known.

        Args:
            stamp: time of the posterior's record, in seconds.
            observations: the last ones of its entity.
        """
        now, applied = time.monotonic(), set(posterior.applied)
        identifiers = [b'"' + label.encode() + b'"' for label in posterior.applied]
        for each in observations:
            is_applied = f"{each.partition}:{each.offset}" in applied
            if is_applied or any(identifier in each.value for identifier in identifiers):
                self._found.append((now, max(0.0, stamp - each.stamp)))

    def quantiles(self, *shares: float) -> tuple[float, ...] | None:
        """Quantiles in seconds; None if no posterior of the last seconds could be matched."""
        while self._found and self._found[0][0] < time.monotonic() - WINDOW:
            self._found.popleft()
        if not self._found:
            return None
        return tuple(float(each) for each in np.quantile([seconds for _, seconds in self._found], shares))
