"""A filter of events in any order, by timelines alone: what a worker does, without its topics."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby

from beliefstream.inference.tracking.events import Belief, Event, Instant, StateModel, instants
from beliefstream.inference.tracking.filtering import Outcome, Step, advance
from beliefstream.inference.tracking.recovery.history import History
from beliefstream.inference.tracking.timeline import MOST, LatenessWindow, Moment, Timeline
from beliefstream.inference.update.updater import Updater


def by_time(events: Iterable[Event]) -> dict[float, list[Event]]:
    """Group events by time, in order of time; events of one time keep their order."""
    ordered = sorted(events, key=lambda event: event.time)
    return {time: list(group) for time, group in groupby(ordered, key=lambda event: event.time)}


@dataclass
class _EntityRun:
    """State of one entity while a batch of events is applied."""

    entity: str
    belief: Belief | None
    moments: dict[float, list[Event]]
    instants: list[Instant]
    outcome: Outcome | None = None


class OutOfOrderFilter:
    """Filter of any number of entities that accepts events in any order, within `window` and `most`.

    Args:
        model_of: returns the model of an entity.
        updater: computes the updates.
        window: longest time by which an event may be earlier than its entity's newest, in seconds.
        most: largest number of stored moments of an entity.
    """

    def __init__(
        self,
        model_of: Callable[[str], StateModel],
        updater: Updater,
        window: float = 2.0,
        most: int = MOST,
    ) -> None:
        self._model_of, self._updater, self._window, self._most = model_of, updater, window, most
        self.timelines: dict[str, Timeline[list[Event], Belief]] = defaultdict(Timeline)
        self._histories: dict[str, History] = defaultdict(History)

    def apply(self, events: Iterable[Event]) -> tuple[dict[str, Outcome], list[Event]]:
        """Apply events; return the newest outcome of every changed entity, and the events that are too late."""
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
        runs = [self._begin(entity, due) for entity, due in by_entity.items()]
        for number in range(max((len(run.instants) for run in runs), default=0)):
            self._round([run for run in runs if number < len(run.instants)], number)
        return {run.entity: self._end(run) for run in runs}, late

    def _begin(self, entity: str, due: list[Event]) -> _EntityRun:
        belief, removed = self.timelines[entity].rewind(min(event.time for event in due))
        moments = by_time([*(event for moment in removed for event in moment.content), *due])
        self._histories[entity].rewind(min(moments))
        ordered = [instant for group in moments.values() for instant in instants(group)]
        return _EntityRun(entity, belief, moments, ordered)

    def _round(self, active: list[_EntityRun], number: int) -> None:
        steps = []
        for run in active:
            instant = run.instants[number]
            earlier = self._histories[run.entity].earlier(instant.time)
            steps.append(Step(run.belief, self._model_of(run.entity), instant, earlier))
        for run, step, outcome in zip(active, steps, advance(steps, self._updater), strict=True):
            run.belief, run.outcome = outcome.belief, outcome
            moments, time = self.timelines[run.entity].moments, outcome.belief.time
            self._histories[run.entity].add(step, outcome)
            if moments and moments[-1].time == time:
                moments[-1].state = outcome.belief
            else:
                moments.append(Moment(time, run.moments[time], outcome.belief))

    def _end(self, run: _EntityRun) -> Outcome:
        timeline = self.timelines[run.entity]
        timeline.thin()
        timeline.forget(self._window, self._most)
        assert run.outcome is not None
        return run.outcome
