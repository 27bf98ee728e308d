"""The messages of one entity in a batch: those to apply, and those to reject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import Reason
from beliefstream.streams.state.record import StoredMessage

MOST_OF_ONE_TIME, BYTES_OF_ONE_TIME = 512, 2 * 2**20  # messages with the same time, applied in one update
MessageReader = Callable[[bytes, StoredMessage], tuple[Event, str]]
"""Returns the event of a stored message and the id from its sender; the id is empty for none."""


class Entry(msgspec.Struct, eq=False):
    """A message to be applied to the belief.

    Attributes:
        name: its name in a posterior's `applied`; empty for a prior. A control's name is not used, because a control
            alone has no posterior.
        delivered: the message as Faust delivered it; None for a message stored from earlier batches.
        is_applied: whether the belief already contains it.
        id: the id from its sender; empty for none.
        sensor: the sensor that reported it; empty for a prior.
    """

    event: Event
    message: StoredMessage
    name: str = ""
    delivered: Any = None
    is_applied: bool = False
    id: str = ""
    sensor: str = ""

    @property
    def received(self) -> float | None:
        """When the consumer got it, monotonic; None if it was not received so."""
        return None if self.delivered is None else self.delivered.time_in


class Rejected(NamedTuple):
    """A message to send to the dead letters."""

    message: StoredMessage
    delivered: Any
    reason: Reason
    detail: str


class Admitted(NamedTuple):
    """Messages to apply, how many others repeat one of them, and those beyond a limit, each with the detail."""

    entries: list[Entry]
    repeated: int
    too_many: list[tuple[Entry, str]]


def admitted(entries: Sequence[Entry]) -> Admitted:
    """Drop repeated entries and those beyond the limits for one time.

    `entries` holds all messages of their times, the earlier ones first.
    """
    seen: set[tuple[float, str]] = set()
    held: dict[float, tuple[int, int]] = {}
    kept, repeated, too_many = [], 0, []
    for entry in entries:
        time, length = entry.event.time, len(entry.message.value)
        if entry.id:
            if (time, entry.id) in seen:
                repeated += 1
                continue
            seen.add((time, entry.id))
        count, size = held.get(time, (0, 0))
        if not entry.is_applied and (count >= MOST_OF_ONE_TIME or size + length > BYTES_OF_ONE_TIME):
            detail = (
                f"time: {count} messages ({size} bytes) already have the time {time}; one update takes at most "
                f"{MOST_OF_ONE_TIME} messages and {BYTES_OF_ONE_TIME} bytes"
            )
            too_many.append((entry, detail))
            continue
        held[time] = (count + 1, size + length)
        kept.append(entry)
    return Admitted(kept, repeated, too_many)
