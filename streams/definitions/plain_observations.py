"""Fast decoding of the observations that most devices send.

pydantic takes several times as long, most of it for checks in Python. `plain_observation` accepts a part of what
`schemas.Observation` accepts: short messages without noise of their own. It returns None for all others, and the
caller parses these with `schemas.parse`, which gives the full error. So the set of accepted messages is that of
`schemas.Observation`.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from beliefstream.schemas import Observation
from beliefstream.schemas.base import MAXIMUM_VALUES, is_name
from beliefstream.schemas.time import EARLIEST, LATEST

__all__ = ["AnyObservation", "PlainObservation", "plain_observation"]

MOST_BYTES = 1024  # longer messages may have more parts than `Observation` accepts
_ID = re.compile(r"[ -~]{1,128}")  # printable ASCII, a part of `schemas.base.Identifier`


class PlainObservation(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """An observation without noise or a position of its own; its fields are those of `schemas.Observation`."""

    standard_deviation: ClassVar[None] = None
    covariance: ClassVar[None] = None
    position: ClassVar[None] = None
    orientation: ClassVar[None] = None

    entity: str
    sensor: str
    time: float
    value: float | list[float]
    id: str | None = None

    @property
    def values(self) -> tuple[float, ...]:
        """The value as a tuple, also if it is a single number."""
        return tuple(self.value) if isinstance(self.value, list) else (self.value,)


AnyObservation = Observation | PlainObservation

_decode = msgspec.json.Decoder(PlainObservation, strict=True).decode


def plain_observation(raw: bytes) -> PlainObservation | None:
    """Return the observation, or None for a message that `schemas.parse` must decide about."""
    if len(raw) > MOST_BYTES:
        return None
    try:
        found = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    value = found.value
    if (
        not EARLIEST <= found.time <= LATEST
        or not (is_name(found.entity.encode()) and is_name(found.sensor.encode()))
        or (isinstance(value, list) and not 1 <= len(value) <= MAXIMUM_VALUES)
        or (found.id is not None and _ID.fullmatch(found.id) is None)
    ):
        return None
    return found
