"""Dead letters read from their topic, and a filter for them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic_core import from_json

from beliefstream.schemas import DeadLetter, Reason
from beliefstream.streams.client.publisher import Place

READ_BYTES = 64 * 1024  # entity and sensor are searched in the first bytes of a value


@dataclass(frozen=True)
class ReceivedDeadLetter:
    """A dead letter with its position in the topic of dead letters.

    Attributes:
        letter: the message with its original key and value, the reason, the detail and the source.
        place: position of the dead letter.
        time: time of writing by the worker's clock, in seconds since the epoch.
    """

    letter: DeadLetter
    place: Place
    time: float

    @cached_property
    def id(self) -> str:
        """Identifier of the message, topic/partition:offset#digest; equal for two dead letters of one message."""
        letter = self.letter
        digest = hashlib.sha256()
        for part in (letter.key, letter.value):
            digest.update(b"-" if part is None else b"%d:" % len(part) + part)
        return f"{self.source}#{digest.hexdigest()[:16]}"

    @property
    def source(self) -> str:
        """Position of the original message, as topic/partition:offset."""
        return f"{self.letter.topic}/{self.letter.partition}:{self.letter.offset}"

    @cached_property
    def entity(self) -> str | None:
        """Entity in the message, otherwise its key; None if neither can be read. It is not validated."""
        key = self.letter.key
        return self._field("entity") or (None if key is None else key.decode(errors="backslashreplace"))

    @cached_property
    def sensor(self) -> str | None:
        """Sensor in the message; None if it cannot be read. It is not validated."""
        return self._field("sensor")

    @cached_property
    def _fields(self) -> dict[str, Any]:
        try:  # fields can be read from an incomplete message too
            content = from_json((self.letter.value or b"")[:READ_BYTES], allow_partial=True)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def _field(self, name: str) -> str | None:
        value = self._fields.get(name)
        return value if isinstance(value, str) else None


@dataclass(frozen=True)
class Selection:
    """A filter for dead letters; a letter must match all conditions.

    Attributes:
        reasons: allowed reasons; all if empty.
        sensors: allowed sensors; all if empty.
        entities: allowed entities, in the message or as its key; all if empty.
        since: earliest time of writing, in seconds since the epoch.
    """

    reasons: Collection[Reason] = ()
    sensors: Collection[str] = ()
    entities: Collection[str] = ()
    since: float = -math.inf

    @property
    def is_everything(self) -> bool:
        """Whether all dead letters match."""
        return not (self.reasons or self.sensors or self.entities) and self.since == -math.inf

    def __contains__(self, received: ReceivedDeadLetter) -> bool:
        letter = received.letter
        return (
            received.time >= self.since
            and (not self.reasons or letter.reason in self.reasons)
            and (not self.sensors or received.sensor in self.sensors)
            and (not self.entities or bool({received.entity, _text(letter.key)} & {*self.entities}))
        )


def _text(key: bytes | None) -> str | None:
    return None if key is None else key.decode(errors="backslashreplace")
