"""The event time of a partition, estimated from its observations' times."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Self

RECENT = 64  # observations of a partition whose times are used
LEAST = 16  # observations needed before the event time is known


class EventClock:
    """Estimates the event time of a partition as the lower quartile of the last observations' times.

    A device whose clock is years ahead advances it only by sending three quarters of the observations. A device whose
    clock is behind may hold it back, which forgets nothing.
    """

    def __init__(self, times: Iterable[float] = ()) -> None:
        self._times: deque[float] = deque(times, maxlen=RECENT)

    def copy(self) -> EventClock:
        """Return an independent copy with the same times."""
        return EventClock(self._times)

    def note(self, times: Iterable[float]) -> None:
        self._times.extend(times)

    @property
    def now(self) -> float:
        """Seconds of event time; minus infinity until there are enough observations."""
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
        """Return a copy for a batch that may have to be validated again."""
        return type(self)({partition: clock.copy() for partition, clock in self._clocks.items()})
