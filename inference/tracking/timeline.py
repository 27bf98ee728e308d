"""Recent history of an entity, kept so that late events change its belief exactly.

A `Timeline` holds the moments of the last `window` seconds: the events of each time, and the belief after them. A late
event goes to its place. The beliefs from there on are dropped, and all events since the last belief before it are
applied again, in order of time. So the belief does not depend on the order of arrival; in double precision it equals
`replay` of all events.

Beliefs are large beside events, so not every belief is kept. Of three neighbours the middle one is dropped if starting
from the oldest costs at most twice as many moments (rounded up) as necessary. About log₂ n of n remain.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Generic, TypeVar

from beliefstream.inference.tracking.events import Belief, Event, Instant, StateModel, instants
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.update.updater import Updater

Content = TypeVar("Content")
State = TypeVar("State")
WINDOW = 2.0  # seconds
MOST = 256  # moments


@dataclass(slots=True)
class Moment(Generic[Content, State]):
    """One time of an entity: the events of that time, and the state after them (None if not kept)."""

    time: float
    content: Content
    state: State | None = None


@dataclass
class Timeline(Generic[Content, State]):
    """One entity's moments in order of time, after a base state.

    Attributes:
        base: the state before the first moment; None for the model's prior, until something has been forgotten.
        base_time: of that state; nothing before it can be changed.
        moments: by rising time, each time once; the newest has its state.
    """

    base: State | None = None
    base_time: float = -math.inf
    moments: list[Moment[Content, State]] = field(default_factory=list)

    @property
    def newest(self) -> float:
        """The newest time."""
        return self.moments[-1].time if self.moments else self.base_time

    def lateness_window(self, window: float, most: int) -> LatenessWindow:
        """The window of times that later events may change."""
        return LatenessWindow(self.base_time, [moment.time for moment in self.moments], window, most)

    def rewind(self, time: float) -> tuple[State | None, list[Moment[Content, State]]]:
        """Go back to before `time`: the state to continue from, and the later moments, which are removed."""
        moments = self.moments
        count = len(moments)
        while count and (moments[count - 1].time >= time or moments[count - 1].state is None):
            count -= 1
        taken = moments[count:]
        del moments[count:]
        return (moments[-1].state if moments else self.base), taken

    def thin(self) -> None:
        """Drop states that are cheap to compute again."""
        moments = self.moments
        last = len(moments) - 1
        kept = [index for index in range(last, -1, -1) if moments[index].state is not None]
        kept.append(-1)  # the base
        place = 1
        while place < len(kept) - 1:
            newer, older = last - kept[place - 1], last - kept[place + 1]
            if older <= 2 * (newer + 1):
                moments[kept.pop(place)].state = None
            else:
                place += 1

    def forget(self, window: float, most: int) -> None:
        """Drop the moments that no event can reach, as far as a state to start from is kept."""
        floor = self.lateness_window(window, most).floor
        moments = self.moments
        count = bisect_left(moments, floor, key=lambda moment: moment.time)
        while count and moments[count - 1].state is None:
            count -= 1
        if count:
            self.base, self.base_time = moments[count - 1].state, moments[count - 1].time
            del moments[:count]

    def close(self) -> None:
        """Drop the past: only the newest state remains, and nothing before it can be changed."""
        if self.moments:
            self.base, self.base_time = self.moments[-1].state, self.moments[-1].time
            self.moments.clear()


class LatenessWindow:
    """Window of the times that a late event may have; it advances as events arrive.

    Excluded are times more than `window` seconds before the newest, before the `most`-th newest time, or before the
    remembered past: the latest limit counts. It depends on the events and their order, not on how they are cut into
    batches.
    """

    def __init__(self, base_time: float, times: list[float], window: float, most: int) -> None:
        self._base_time, self._times, self._window, self._most = base_time, times, window, most

    @property
    def newest(self) -> float:
        """The newest time so far."""
        return self._times[-1] if self._times else self._base_time

    @property
    def floor(self) -> float:
        """The earliest time that may be changed."""
        times = self._times
        counted = times[-self._most] if len(times) >= self._most else -math.inf
        return max(self._base_time, self.newest - self._window, counted)

    def note(self, time: float) -> None:
        """Record that an event of that time will be applied."""
        times = self._times
        if not times or time > times[-1]:
            times.append(time)
            return
        place = bisect_left(times, time)
        if times[place] != time:
            times.insert(place, time)


def by_time(events: Iterable[Event]) -> dict[float, list[Event]]:
    """Events by rising time; events of one time keep their order."""
    ordered = sorted(events, key=lambda event: event.time)
    return {time: list(together) for time, together in groupby(ordered, key=lambda event: event.time)}


@dataclass
class _Course:
    """State of one entity while a batch of events is applied."""

    entity: str
    belief: Belief | None
    moments: dict[float, list[Event]]
    instants: list[Instant]
    outcome: Outcome | None = None


class OutOfOrderFilter:
    """Beliefs of any number of entities; accepts events in any order, within `window` and `most`.

    Args:
        window: seconds that an event may lie before its entity's newest.
        most: moments of an entity that are kept.
    """

    def __init__(
        self,
        model_of: Callable[[str], StateModel],
        updater: Updater,
        window: float = WINDOW,
        most: int = MOST,
    ) -> None:
        self._model_of, self._updater, self._window, self._most = model_of, updater, window, most
        self.timelines: dict[str, Timeline[list[Event], Belief]] = defaultdict(Timeline)

    def apply(self, events: Iterable[Event]) -> tuple[dict[str, Outcome], list[Event]]:
        """Apply events; returns the newest outcome of every changed entity, and the events that came too late."""
        by_entity: dict[str, list[Event]] = defaultdict(list)
        windows: dict[str, LatenessWindow] = {}
        late = []
        for event in events:
            lateness = windows.get(event.entity)
            if lateness is None:
                lateness = self.timelines[event.entity].lateness_window(self._window, self._most)
                windows[event.entity] = lateness
            if event.time < lateness.floor:
                late.append(event)
                continue
            lateness.note(event.time)
            by_entity[event.entity].append(event)
        courses = [self._begin(entity, due) for entity, due in by_entity.items()]
        for turn in range(max((len(course.instants) for course in courses), default=0)):
            self._round([course for course in courses if turn < len(course.instants)], turn)
        return {course.entity: self._end(course) for course in courses}, late

    def _begin(self, entity: str, due: list[Event]) -> _Course:
        belief, taken = self.timelines[entity].rewind(min(event.time for event in due))
        moments = by_time([*(event for moment in taken for event in moment.content), *due])
        ordered = [instant for together in moments.values() for instant in instants(together)]
        return _Course(entity, belief, moments, ordered)

    def _round(self, active: list[_Course], turn: int) -> None:
        steps = [
            Step(course.belief, self._model_of(course.entity), course.instants[turn]) for course in active
        ]
        for course, outcome in zip(active, advance(steps, self._updater), strict=True):
            course.belief, course.outcome = outcome.belief, outcome
            moments, time = self.timelines[course.entity].moments, outcome.belief.time
            if moments and moments[-1].time == time:
                moments[-1].state = outcome.belief
            else:
                moments.append(Moment(time, course.moments[time], outcome.belief))

    def _end(self, course: _Course) -> Outcome:
        timeline = self.timelines[course.entity]
        timeline.thin()
        timeline.forget(self._window, self._most)
        assert course.outcome is not None
        return course.outcome
