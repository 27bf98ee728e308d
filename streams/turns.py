"""Fair scheduling: each entity gets a limited number of messages per turn, so that a busy one delays no others.

An entity's messages are applied one after the other, those of different entities in parallel. A batch with 256 messages
of one entity would take as long as 256 batches with one each, and the other entities would wait. Messages beyond an
entity's share wait here, in order, for the next turn. Messages of a partition are still acknowledged in offset order,
because Faust commits past a missing offset (`Consumer._new_offset` is off by one). Messages that overtook others wait
until all before them are done. If the worker is killed meanwhile, they are delivered again, and the beliefs recognise
them by their offsets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from faust.types import TP, EventT, Message

# share of one entity in a turn: 32 of a batch of 512, which take about 0.1 s; a turn itself costs 0.01 s
SHARE, LEAST = 16, 16
MOST_TAKEN = 16  # unacknowledged batches, above which nothing more is taken from the stream

Event = EventT[Any]


class Turns:
    """Messages that wait for their turn, each entity's in order of arrival.

    Register it with `app.flow_control.manage_queue`, like Faust's own queues. When partitions move, waiting messages
    are dropped, because the new owner of their partition receives them again.

    Args:
        batch: messages in a turn.
        let_go: called with each dropped message, because a rebalance in Faust waits until every message still
            referenced is acknowledged.
    """

    def __init__(self, batch: int, let_go: Callable[[Message], None]) -> None:
        self._batch, self._of_one = batch, max(LEAST, batch // SHARE)
        self._let_go = let_go
        self._waiting: dict[bytes | None, deque[Event]] = {}
        # unacknowledged offsets, and those of them that are done; empty if nothing has had to wait
        self._taken: dict[TP, deque[int]] = {}
        self._done: dict[tuple[TP, int], Event] = {}
        self._cleared = False
        self._gone = -1  # consumer group generation whose messages are no longer taken

    @property
    def full(self) -> bool:
        """Whether too many messages are unacknowledged to take more."""
        return sum(map(len, self._taken.values())) >= MOST_TAKEN * self._batch

    def clear(self) -> None:
        """Drop all messages."""
        waiting = [event for queue in self._waiting.values() for event in queue]
        # a message still in flight must not come before a dropped one: the belief would count that one as applied
        self._gone = max((_generation(event) for event in waiting), default=self._gone)
        self._drop([*waiting, *self._done.values()])
        self._waiting, self._done = {}, {}
        self._cleared = True

    def _drop(self, events: Iterable[Event]) -> None:
        for event in events:
            self._let_go(event.message)

    def take(self, new: Sequence[Event] = ()) -> list[Event]:
        """Return the next turn of waiting and `new` messages: at most a batch, and at most its share of one entity."""
        if self._cleared:
            self._taken, self._cleared = {}, False
        self._drop(event for event in new if _generation(event) <= self._gone)
        new = [event for event in new if _generation(event) > self._gone]
        if not self._taken and len(new) <= self._batch and self._fair(new):
            return new
        for event in new:
            message = event.message
            self._waiting.setdefault(message.key, deque()).append(event)
            self._taken.setdefault(message.tp, deque()).append(message.offset)
        return self._next()

    def _fair(self, events: Sequence[Event]) -> bool:
        counts = Counter(event.message.key for event in events)
        return not counts or max(counts.values()) <= self._of_one

    def _next(self) -> list[Event]:
        turn: list[Event] = []
        # the entities that have waited longest come first; one with messages left goes to the end
        for key in list(self._waiting):
            queue = self._waiting.pop(key)
            turn.extend(
                queue.popleft() for _ in range(min(self._of_one, len(queue), self._batch - len(turn)))
            )
            if queue:
                self._waiting[key] = queue
            if len(turn) >= self._batch:
                break
        return turn

    def done(self, turn: Sequence[Event]) -> list[Event]:
        """Mark a turn as processed; returns what can be acknowledged, in order for each partition.

        If partitions have begun to move, messages that overtook others are left out: they are delivered again.
        """
        if not self._taken:
            return list(turn)
        self._done.update({(event.message.tp, event.message.offset): event for event in turn})
        found: list[Event] = []
        for partition in {event.message.tp for event in turn}:
            offsets = self._taken[partition]
            while offsets and (event := self._done.pop((partition, offsets[0]), None)) is not None:
                offsets.popleft()
                found.append(event)
            if not offsets:
                del self._taken[partition]
        if self._cleared:
            self.clear()
        return found


def _generation(event: Event) -> int:
    """Group generation in which the message was fetched."""
    return event.message.generation_id or 0
