"""Event time: what time it is in a partition, as its observations tell it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Self

RECENT = 64  # observations of a partition whose times are looked at
LEAST = 16  # of them, before it is known what time it is


class EventClock:
    """What time it is in a partition, by its observations' own times.

    The lower quartile of those that came last: a device whose clock is years ahead moves it only if three quarters of
    the observations are its own, and one that is behind may hold it back, which forgets nothing.
    """

    def __init__(self, times: Iterable[float] = ()) -> None:
        self._times: deque[float] = deque(times, maxlen=RECENT)

    def copy(self) -> EventClock:
        """Another clock that has been told the same."""
        return EventClock(self._times)

    def note(self, times: Iterable[float]) -> None:
        self._times.extend(times)

    @property
    def now(self) -> float:
        """Seconds of event time; minus infinity until enough has come."""
        if len(self._times) < LEAST:
            return -math.inf
        return sorted(self._times)[len(self._times) // 4]


class EventClocks:
    """An `EventClock` for each partition."""

    def __init__(self, clocks: Mapping[int, EventClock] | None = None) -> None:
        self._clocks = dict(clocks or {})

    def of(self, partition: int) -> EventClock:
        return self._clocks.setdefault(partition, EventClock())

    def copy(self) -> Self:
        """For a batch that may have to be looked at again."""
        return type(self)({partition: clock.copy() for partition, clock in self._clocks.items()})
