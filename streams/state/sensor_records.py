"""The stored health of a sensor in one partition: two internal records of the beliefs' changelog.

One record has the whole window of sums. The other, written with most batches, has only its newest block. `load` joins
them. A crash may leave either of them newer.

A sensor's sums come from many entities, whose beliefs are written one after the other. So the record lists the offsets
that were counted and whose beliefs may not be durable yet. It precedes the beliefs in the changelog. If they are lost
in a crash, their observations are delivered and applied again, and are not counted again.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from beliefstream.inference.tracking.health.columns import WIDTH
from beliefstream.inference.tracking.health.windows import Block, Window
from beliefstream.streams.state.record import INTERNAL

log = structlog.get_logger()
Offsets = NDArray[np.int64]
VERSION = 1
# version, channels, columns, blocks, offsets; length of the window, first and newest time, longest gap; too old, bits
# of entities, block of the last summary, definition; number of the whole record
_HEADER = struct.Struct("<BHHIIddddQQq8sQ")
_BLOCK = struct.Struct("<qq")
NEVER = -(2**62)
PREFIX = INTERNAL + b"health-"
WHOLE, NEWEST = PREFIX + b"whole-", PREFIX + b"newest-"


class Keys(NamedTuple):
    """Keys of the whole record and of the newest block."""

    whole: bytes
    newest: bytes


def keys_of(partition: int, sensor: str) -> Keys:
    """Return the keys of the sensor's records in the partition."""
    place = b"%d-%s" % (partition, sensor.encode())
    return Keys(WHOLE + place, NEWEST + place)


def sensor_of(key: bytes) -> str:
    """Return the sensor of a key of either kind."""
    return key.removeprefix(WHOLE).removeprefix(NEWEST).split(b"-", 1)[1].decode()


@dataclass
class SensorRecord:
    """Health of a sensor in one partition.

    Attributes:
        window: its sums.
        definition: digest of the sensor's definition, eight bytes; other definitions start again.
        counted: offsets that are counted, and whose beliefs may not be durable yet.
        published: number of the block in which the last summary was sent.
        edition: number of the whole record.
    """

    window: Window
    definition: bytes
    counted: Offsets = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    published: int = NEVER
    edition: int = 0

    def whole(self) -> bytes:
        """Encode all blocks, as the next edition."""
        self.edition += 1
        return self._encode(self.window.blocks)

    def newest(self) -> bytes:
        """Encode the newest block; valid if the others and its place are those of the last whole record."""
        return self._encode(self.window.blocks[-1:])

    def _encode(self, blocks: list[Block]) -> bytes:
        window = self.window
        header = _HEADER.pack(
            VERSION,
            window.channels,
            WIDTH,
            len(blocks),
            len(self.counted),
            window.seconds,
            window.first,
            window.newest,
            window.longest_gap,
            window.too_old,
            window.entities,
            self.published,
            self.definition,
            self.edition,
        )
        parts = [header, self.counted.tobytes()]
        for block in blocks:
            parts.extend((_BLOCK.pack(block.start, block.length), block.sums.tobytes()))
        return b"".join(parts)


def without_offsets(records: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of sensors again without counted offsets, after the offsets of a topic have changed."""
    found = dict(records)
    for key, raw in found.items():
        if not key.startswith(WHOLE):
            continue
        record = load(raw, found.get(NEWEST + key.removeprefix(WHOLE)))
        if record is not None:
            record.counted = record.counted[:0]
            yield key, record.whole()


def counted_in(*parts: bytes | None) -> Offsets:
    """Return the offsets that any of the parts has counted; those of bytes that this program cannot read are lost."""
    found = [np.zeros(0, dtype=np.int64)]
    for raw in parts:
        if raw is not None and raw[:1] == bytes([VERSION]) and len(raw) >= _HEADER.size:
            number = min(_HEADER.unpack_from(raw)[4], (len(raw) - _HEADER.size) // 8)
            found.append(np.frombuffer(raw, "<i8", number, _HEADER.size).astype(np.int64))
    return np.concatenate(found)


def load(whole: bytes | None, newest: bytes | None) -> SensorRecord | None:
    """Return the record of both parts; None if there is none, or this program cannot read it, which is logged."""
    if whole is None:
        return None
    try:
        record = _decoded(whole)
        if newest is not None:
            later = _decoded(newest)
            if later.edition == record.edition:
                later.window.blocks = [*record.window.blocks[:-1], *later.window.blocks]
                return later
    except (ValueError, struct.error) as fault:
        log.warning("the health of a sensor cannot be read, it starts again", fault=str(fault))
        return None
    return record


def _decoded(raw: bytes) -> SensorRecord:
    """Raises ValueError or struct.error if the bytes are no record of this version."""
    if raw[:1] != bytes([VERSION]):
        raise ValueError(f"version: expected {VERSION}, got {raw[:1]!r}")
    _, channels, columns, blocks, offsets, *times, too_old, entities, published, definition, edition = (
        _HEADER.unpack_from(raw)
    )
    if columns != WIDTH:
        raise ValueError(f"columns: expected {WIDTH}, got {columns}")
    seconds, first, newest, longest_gap = times
    place = _HEADER.size
    counted = np.frombuffer(raw, "<i8", offsets, place).astype(np.int64)
    place += 8 * offsets
    window = Window(seconds, channels, [], first, newest, longest_gap, too_old, entities)
    for _ in range(blocks):
        start, length = _BLOCK.unpack_from(raw, place)
        place += _BLOCK.size
        sums = np.frombuffer(raw, "<f8", channels * WIDTH, place).reshape(channels, WIDTH)
        place += 8 * channels * WIDTH
        window.blocks.append(Block(start, length, sums))
    if place != len(raw):
        raise ValueError(f"length: expected {place} bytes, got {len(raw)}")
    return SensorRecord(window, definition, counted, published, edition)
