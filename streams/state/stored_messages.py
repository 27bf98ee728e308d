"""Messages that a belief contains, as they are stored in its record."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import msgspec

from beliefstream.streams.state.codec import checked_end, reports_damage

_MESSAGE = struct.Struct("<BqI")


class StoredMessage(msgspec.Struct, frozen=True):
    """A message that the belief contains, and that may have to be applied again."""

    is_prior: bool
    offset: int
    value: bytes


def pack(messages: Iterable[StoredMessage]) -> bytes:
    """Pack the messages of one moment into bytes."""
    return b"".join(map(pack_one, messages))


def pack_one(message: StoredMessage) -> bytes:
    """Pack the only message of a moment, as nearly all have."""
    return _MESSAGE.pack(message.is_prior, message.offset, len(message.value)) + message.value


@reports_damage
def unpack(raw: bytes) -> list[StoredMessage]:
    """Unpack the bytes of `pack`; raises DamagedRecord for anything else."""
    found, place = [], 0
    while place < len(raw):
        kind, offset, length = _MESSAGE.unpack_from(raw, place)
        place += _MESSAGE.size
        found.append(StoredMessage(bool(kind), offset, raw[place : checked_end(raw, place + length)]))
        place += length
    return found
