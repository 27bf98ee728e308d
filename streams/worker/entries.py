"""The messages of one entity in a batch: those to apply, and those to reject."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from beliefstream.inference.tracking.events import Event
from beliefstream.schemas import Reason
from beliefstream.streams.state.record import StoredMessage

MessageReader = Callable[[bytes, StoredMessage], tuple[Event, str]]
"""Returns the event of a stored message and the id from its sender; the id is empty for none."""


class Entry(msgspec.Struct, eq=False):
    """A message to be applied to the belief.

    Attributes:
        name: its name in a posterior's `applied`; empty for a prior. A control's name is not used, because a control
            alone has no posterior.
        delivered: the Faust event; None for a message stored from earlier batches.
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


class Rejected(NamedTuple):
    """A message to send to the dead letters."""

    message: StoredMessage
    delivered: Any
    reason: Reason
    detail: str
