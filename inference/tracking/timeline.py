"""Recent history of an entity, so that late events can be applied in order of time.

A `Timeline` has the moments of the last `window` seconds: the events of each time, and the belief after them. A late
event is inserted at its time. Later beliefs are dropped, and all events since the last belief before it are applied
again, in order of time. So the belief does not depend on the order of arrival; in double precision it equals `replay`
of all events.

Beliefs are much larger than events, so only some are stored. Of three neighbours the middle one is dropped if starting
from the oldest needs at most twice as many moments (rounded up) as starting from the middle one. About log₂ n of n
remain.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

Content = TypeVar("Content")
State = TypeVar("State")
MOST = 256  # moments that a history keeps by default


class Moment(msgspec.Struct, Generic[Content, State]):
    """Events of an entity at one time, and the state after them; None if it is not stored.

    `number` counts the moments since the first of those that may be taken together, see `recovery.history`.
    """

    time: float
    content: Content
    state: State | None = None
    number: int = 0


@dataclass
class Timeline(Generic[Content, State]):
    """Moments of one entity in order of time, after a base state.

    Attributes:
        base: state before the first moment; None for the model's prior, until a moment has been forgotten.
        base_time: time of that state, in seconds; earlier events cannot be applied.
        moments: moments in order of time, with distinct times; the newest has its state.
    """

    base: State | None = None
    base_time: float = -math.inf
    moments: list[Moment[Content, State]] = field(default_factory=list)

    @property
    def state(self) -> State | None:
        """State after the newest moment."""
        return self.moments[-1].state if self.moments else self.base

    @property
    def newest(self) -> float:
        """Time of the newest moment."""
        return self.moments[-1].time if self.moments else self.base_time

    def lateness_window(self, window: float, most: int) -> LatenessWindow:
        """Return the window of times at which further events may be applied."""
        return LatenessWindow(self.base_time, [moment.time for moment in self.moments], window, most)

    def rewind(self, time: float) -> tuple[State | None, list[Moment[Content, State]]]:
        """Remove the moments since the last stored state before `time`; return that state and the removed moments."""
        moments = self.moments
        count = len(moments)
        while count and (moments[count - 1].time >= time or moments[count - 1].state is None):
            count -= 1
        taken = moments[count:]
        del moments[count:]
        return (moments[-1].state if moments else self.base), taken

    def thin(self) -> None:
        """Drop states that are cheap to compute again, but not those before a first moment, of number 1."""
        moments = self.moments
        last = len(moments) - 1
        stored = [index for index in range(last, -1, -1) if moments[index].state is not None]
        stored.append(-1)  # the base
        middle = 1
        while middle < len(stored) - 1:
            newer, older = last - stored[middle - 1], last - stored[middle + 1]
            if older <= 2 * (newer + 1) and moments[stored[middle] + 1].number != 1:
                moments[stored.pop(middle)].state = None
            else:
                middle += 1

    def forget(self, window: float, most: int, together: int = 0) -> None:
        """Drop the moments before the lateness window, up to the last stored state before it.

        All that an event in the window may have to be taken `together` with stay: fewer than so many, by their numbers.
        """
        moments = self.moments
        counted = moments[-most].time if len(moments) >= most else -math.inf
        floor = max(self.base_time, self.newest - window, counted)
        count = 0
        while count < len(moments) and moments[count].time < floor:
            count += 1
        if count and (number := moments[count - 1].number) <= count and number < together:
            count -= number
        while count and moments[count - 1].state is None:
            count -= 1
        if count:
            self.base, self.base_time = moments[count - 1].state, moments[count - 1].time
            del moments[:count]

    def close(self) -> None:
        """Drop the history; only the newest state remains, and earlier events cannot be applied."""
        if self.moments:
            self.base, self.base_time = self.moments[-1].state, self.moments[-1].time
            self.moments.clear()


class LatenessWindow:
    """Window of the times that a late event may have; it advances with the events.

    It starts at the latest of three times: `window` seconds before the newest time, the `most`-th newest time, and the
    time of the base state. It depends on the events and their order, not on their batches.
    """

    def __init__(self, base_time: float, times: list[float], window: float, most: int) -> None:
        self._base_time, self._times, self._window, self._most = base_time, times, window, most

    @property
    def newest(self) -> float:
        """Newest time so far."""
        return self._times[-1] if self._times else self._base_time

    @property
    def floor(self) -> float:
        """Earliest time at which an event may be applied."""
        times = self._times
        counted = times[-self._most] if len(times) >= self._most else -math.inf
        return max(self._base_time, self.newest - self._window, counted)

    def note(self, time: float) -> None:
        """Record that an event of that time will be applied."""
        times = self._times
        if not times or time > times[-1]:
            times.append(time)
            return
        index = bisect_left(times, time)
        if times[index] != time:
            times.insert(index, time)
