"""Whose turn it is: a bounded number of each entity's messages at a time, so that a busy one does not hold up the rest.

An entity's messages are applied one after the other, those of different entities side by side. A batch with 256 of one
entity would therefore take as long as 256 batches with one of each, and all others in it would wait. What is beyond an
entity's turn waits here, in order, for the next. Messages of a partition are acknowledged in the order of their
offsets nevertheless, for Faust commits past one that is missing (`Consumer._new_offset` is off by one): those that
overtook wait until all before them are done. Killed meanwhile, a worker is delivered these again, and the beliefs know
them by their offsets.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from faust.types import TP, EventT, Message

# of one entity in a turn: 32 of a batch of 512, which take some 0.1 s, where a turn in itself costs 0.01 s
SHARE, LEAST = 16, 16
MOST_TAKEN = 16  # batches not acknowledged yet; beyond, nothing more is taken from the stream

Event = EventT[Any]


class Turns:
    """Messages that wait for their turn, each entity's in the order they came.

    To be registered with `app.flow_control.manage_queue`, as Faust's own queues are: when partitions move, what waits
    is dropped, for it is delivered again to whoever owns its partition then.

    Args:
        batch: messages in a turn.
        let_go: called with each message that is dropped, for Faust waits at a rebalance until those are acknowledged
            that anything still refers to.
    """

    def __init__(self, batch: int, let_go: Callable[[Message], None]) -> None:
        self._batch, self._of_one = batch, max(LEAST, batch // SHARE)
        self._let_go = let_go
        self._waiting: dict[bytes | None, deque[Event]] = {}
        # offsets not acknowledged, and those of them that are done; empty where nothing has had to wait
        self._taken: dict[TP, deque[int]] = {}
        self._done: dict[tuple[TP, int], Event] = {}
        self._cleared = False
        self._gone = -1  # the group's generation whose messages are not taken any more

    @property
    def full(self) -> bool:
        """Whether so much is taken that it has to be worked off before more is."""
        return sum(map(len, self._taken.values())) >= MOST_TAKEN * self._batch

    def clear(self) -> None:
        """Drop all messages."""
        waiting = [event for queue in self._waiting.values() for event in queue]
        # what is still on its way here must not come before what was dropped: the belief would count that as applied
        self._gone = max((_generation(event) for event in waiting), default=self._gone)
        self._drop([*waiting, *self._done.values()])
        self._waiting, self._done = {}, {}
        self._cleared = True

    def _drop(self, events: Iterable[Event]) -> None:
        for event in events:
            self._let_go(event.message)

    def take(self, new: Sequence[Event] = ()) -> list[Event]:
        """The next turn: of what waited and what is `new`, at most a batch, and a share of it of one entity."""
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
        # those that have waited longest come first; whoever has more left goes to the end
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
        """Note that a turn has been dealt with; returns what can be acknowledged, each partition's in order.

        Where partitions have begun to move meanwhile, what overtook others is not among it: it is delivered again.
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
    """Of the group, when the message was fetched."""
    return event.message.generation_id or 0
