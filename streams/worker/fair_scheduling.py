"""Fair scheduling: limits each entity's messages per turn, so that a busy entity does not delay the others.

Messages of one entity are applied one after the other, those of different entities in parallel. A batch with 256
messages of one entity would take as long as 256 batches with one each, and the other entities would wait. So messages
beyond an entity's share wait here, in order, for the next turn.

The model applies the first messages of all entities in one round, then the second ones, and so on. A round costs
something however few messages it has. So while a batch or more waits, a turn takes one message of each entity, then a
second one of each, and ends before a round that would not be nearly full. Of 512 messages as they come from 384
entities, six rounds would be needed; 384 of them, one of each entity, need one. Only where one entity has far more
messages than the others, every turn takes its whole share, since so many rounds are needed anyway.

An entity costs something too, however few messages it brings: its record is read, encoded and sent once a turn. So a
turn of a backlog takes some messages of few entities, not one of each. It takes those that have waited longest.

A turn costs something too, such as two waits for the broker. So turns grow while they are full and fast, and shrink
where they take long, as those of new entities do. They then end soon enough for a rebalance, and nobody waits long.

Messages of a partition are acknowledged in offset order, because Faust commits past a missing offset
(`Consumer._new_offset` is off by one). Messages that overtook others wait until all before them are done. If the worker
is killed meanwhile, they are delivered again, and the beliefs skip them by their offsets.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import islice, takewhile
from typing import Any

from faust.types import TP, EventT, Message

FIRST = 512  # messages in a turn at the start, and the fewest to which slow turns are cut
# a turn that is at least half full and takes less makes the next ones larger, one that takes more makes them smaller
FAST_SECONDS, SLOW_SECONDS = 0.4, 1.0
# an entity's share of a turn is 32 of a batch of 512, which take about 0.1 s; a turn itself costs 0.01 s
SHARE, LEAST = 16, 16
# the fewest entities in a turn of a backlog, which keep a round of the model busy, and the messages of each that make
# more entities needless
ROUND, DEEP = 256, 8
LEAST_FULL = 0.75  # of a turn's first round; a smaller round waits for more messages while there is a backlog
BUSY = 4.0  # times the average number of waiting messages, and more than its share: an entity that must not fall behind
# after partitions have begun to move, in which messages that others have overtaken are processed; on a busy machine 3 s
# were too few once, and a stopped worker's messages were delivered again
DRAIN_SECONDS = 8.0
MOST_UNACKNOWLEDGED = 8192  # messages; with more, and more than 4 batches, nothing is taken from the stream

FaustEvent = EventT[Any]
ByPartition = dict[TP, dict[int, FaustEvent]]


class FairScheduler:
    """Gives each entity its share of every batch; other messages wait in order of arrival.

    Register it with `app.flow_control.manage_queue`, like Faust's own queues. When partitions move, waiting messages
    are dropped, because the new owner of their partition receives them again. Those that others have overtaken are
    still processed, for some seconds: else the others could not be acknowledged, and would be delivered again too.

    Args:
        batch: most messages in a turn; at the start, `FIRST` at most.
        release: called with each dropped message. A rebalance in Faust waits until every message still referenced is
            acknowledged.
        clock: monotonic, seconds.
    """

    def __init__(
        self, batch: int, release: Callable[[Message], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._batch, self._most = min(FIRST, batch), batch
        self._began = 0.0  # when the turn was taken
        self._release, self._clock = release, clock
        self._waiting: dict[bytes | None, deque[FaustEvent]] = {}
        self._count = 0  # of waiting messages
        self._turn: Sequence[FaustEvent] = ()  # is processed now
        self._grouped: tuple[Sequence[FaustEvent], ByPartition] = ((), {})  # a turn, and its events
        # unacknowledged offsets, and events of those of them that are processed; empty if no message has had to wait
        self._unacknowledged: dict[TP, deque[int]] = {}
        self._processed: dict[TP, dict[int, FaustEvent]] = {}
        self._drained_until: float | None = None  # None while partitions do not move
        self._generation = -1  # newest consumer group generation of a message
        self._dropped_generation = -1  # the newest one whose messages are no longer taken

    @property
    def full(self) -> bool:
        """Whether too many messages are unacknowledged to take more, or partitions move."""
        unacknowledged = sum(map(len, self._unacknowledged.values()))
        return self._drained_until is not None or unacknowledged >= max(MOST_UNACKNOWLEDGED, 4 * self._batch)

    @property
    def _per_entity(self) -> int:
        """Most messages of one entity in a turn."""
        return max(LEAST, self._batch // SHARE)

    def clear(self) -> None:
        """Drop all messages but those that others have overtaken."""
        if not self._unacknowledged:  # nothing has been overtaken
            self._drop_all()
            return
        self._drained_until = self._clock() + DRAIN_SECONDS
        last: dict[TP, int] = defaultdict(lambda: -1)
        processed = [event for each in self._processed.values() for event in each.values()]
        for event in (*processed, *self._turn):
            place = event.message.tp
            last[place] = max(last[place], event.message.offset)
        waiting, self._waiting = self._waiting, {}
        for key, queue in waiting.items():
            kept = deque(takewhile(lambda event: event.message.offset < last[event.message.tp], queue))
            if kept:
                self._waiting[key] = kept
            self._drop(list(queue)[len(kept) :])
        self._count = sum(map(len, self._waiting.values()))
        if not self._turn and not self._waiting:
            self._drop_all()

    def _drop_all(self) -> None:
        """Drop what waits, and what is processed and cannot be acknowledged."""
        self._drop([event for queue in self._waiting.values() for event in queue])
        for processed in self._processed.values():
            for event in processed.values():
                self._release(event.message)
        self._waiting, self._count = {}, 0
        self._unacknowledged, self._processed = {}, {}
        self._drained_until = None

    def _drop(self, waiting: Sequence[FaustEvent]) -> None:
        """Drop messages that have waited here, and from now on those that are still on their way."""
        # one on its way must not come before a dropped one: the belief would skip the dropped one as applied
        self._dropped_generation = max(
            self._dropped_generation, max(map(_generation, waiting), default=self._dropped_generation)
        )
        for event in waiting:
            self._release(event.message)

    def take(self, new: Sequence[FaustEvent] = ()) -> list[FaustEvent]:
        """Return the next turn of waiting and `new` messages: at most a batch, and of each entity at most its share."""
        self._began = self._clock()
        is_late = self._drained_until is not None and self._clock() > self._drained_until
        newest = max([self._generation, *map(_generation, new)])
        if is_late or newest > self._generation:  # what is left of an earlier assignment is delivered again
            self._drop_all()
        self._generation = newest
        for event in new:
            if _generation(event) <= self._dropped_generation:
                self._release(event.message)
        new = [event for event in new if _generation(event) > self._dropped_generation]
        if not self._unacknowledged and self._is_turn(new):
            self._turn = new
            return new
        for event in new:
            message = event.message
            self._waiting.setdefault(message.key, deque()).append(event)
            self._unacknowledged.setdefault(message.tp, deque()).append(message.offset)
        self._count += len(new)
        self._turn = turn = self._next()
        return turn

    def _is_turn(self, events: Sequence[FaustEvent]) -> bool:
        """Whether all of these, which nothing waits before, are one turn."""
        if len(events) > self._batch:
            return False
        counts = Counter(event.message.key for event in events)
        # a full batch may be the beginning of more
        most = 1 if len(events) == self._batch else self._per_entity
        return not counts or max(counts.values()) <= most

    def _next(self) -> list[FaustEvent]:
        """Take the messages of a turn: one of each entity, then a second one of each, and so on."""
        keys = self._entities()
        least = len(keys) * self._least_full()
        taken: dict[bytes | None, int] = {}
        room = self._batch
        for depth in range(self._per_entity):
            keys = [key for key in keys if len(self._waiting[key]) > depth][:room]
            if not keys or len(keys) < least:
                break
            taken.update(dict.fromkeys(keys, depth + 1))
            room -= len(keys)
        turn: list[FaustEvent] = []
        for key, count in taken.items():
            queue = self._waiting.pop(key)
            turn.extend([queue.popleft() for _ in range(count)])
            if queue:  # an entity with messages left goes to the end
                self._waiting[key] = queue
        self._count -= len(turn)
        return turn

    def _entities(self) -> list[bytes | None]:
        """The entities of a turn, those that have waited longest first: as few as fill it, but `ROUND` or more."""
        keys: list[bytes | None] = []
        room = self._batch
        for key, queue in islice(self._waiting.items(), self._batch):
            if room <= 0 and len(keys) >= ROUND:
                break
            keys.append(key)
            room -= min(len(queue), DEEP)
        return keys

    def _least_full(self) -> float:
        """Share of a turn's first round that each other round must have."""
        if self._count < self._batch:
            return 0.0
        longest, average = max(map(len, self._waiting.values())), self._count / len(self._waiting)
        return 0.0 if longest > max(self._per_entity, BUSY * average) else LEAST_FULL

    def ends(self, turn: Sequence[FaustEvent]) -> dict[TP, int]:
        """Return for each partition of a turn the offset before which all messages are processed after it."""
        ends: dict[TP, int] = {}
        for place, found in self._of(turn).items():
            ends[place] = max(found) + 1
            processed = self._processed.get(place, {})
            for offset in self._unacknowledged.get(place, ()):
                if offset not in found and offset not in processed:
                    ends[place] = offset
                    break
                ends[place] = offset + 1  # earlier turns may have processed later messages than this one
        return ends

    def done(self, turn: Sequence[FaustEvent]) -> list[FaustEvent]:
        """Mark a turn as processed; returns the messages to acknowledge, in order for each partition.

        If partitions have begun to move, messages that overtook others may be left out, and are delivered again.
        """
        by_partition = self._of(turn)
        self._turn, self._grouped = (), ((), {})
        self._resize(len(turn), self._clock() - self._began)
        if not self._unacknowledged:
            return list(turn)
        found: list[FaustEvent] = []
        for place, events in by_partition.items():
            offsets = self._unacknowledged[place]
            processed = self._processed.setdefault(place, {})
            processed.update(events)
            while offsets and (event := processed.pop(offsets[0], None)) is not None:
                offsets.popleft()
                found.append(event)
            if not offsets:
                del self._unacknowledged[place]
            if not processed:
                del self._processed[place]
        if self._drained_until is not None and not self._waiting:
            self._drop_all()
        return found

    def _of(self, turn: Sequence[FaustEvent]) -> ByPartition:
        """Events of a turn by partition and offset; it is asked for before the turn and after it."""
        if turn is not self._grouped[0]:
            self._grouped = turn, _by_partition(turn)
        return self._grouped[1]

    def _resize(self, count: int, seconds: float) -> None:
        """Change the size of the next turns by what one of `count` messages took."""
        if seconds > SLOW_SECONDS:
            self._batch = max(int(self._batch * SLOW_SECONDS / seconds), min(FIRST, self._most))
        elif seconds < FAST_SECONDS and count > self._batch // 2:
            self._batch = min(2 * self._batch, self._most)


def _generation(event: FaustEvent) -> int:
    """Group generation in which the message was fetched."""
    return event.message.generation_id or 0


def _by_partition(events: Sequence[FaustEvent]) -> ByPartition:
    """Events by partition and offset."""
    found: ByPartition = defaultdict(dict)
    for event in events:
        message = event.message
        found[message.tp][message.offset] = event
    return found
