"""The last minutes of what the page shows, to be scrolled back: snapshots in bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from beliefstream.streams.live.beliefs import Beliefs

SPAN = 900.0  # seconds
INTERVAL = 5.0  # seconds between two snapshots
SLOTS = 182  # snapshots at most: those of the span, and one before it
MAXIMUM_BYTES = 64_000_000  # of all snapshots; with large ones there are fewer
ROOM = 1.125  # times the size of a snapshot is allocated, for entities that come later


@dataclass(frozen=True)
class Snapshot:
    """All beliefs, the health and the verdicts at one time."""

    time: float  # seconds since the epoch, by this machine's clock
    names: tuple[str, ...]  # of the entities, in order of their numbers
    numbers: tuple[int, ...]
    slot: bytearray  # holds the blocks in its first `size` bytes; used again for a later snapshot
    size: int
    health: dict[str, Any]
    verdicts: Mapping[str, str]  # the word for each sensor that has one

    def frame(self) -> bytes:
        """The blocks, one after the other."""
        return bytes(memoryview(self.slot)[: self.size])

    def numbered(self) -> list[tuple[int, str]]:
        """Number and name of each entity."""
        return list(zip(self.numbers, self.names, strict=True))


class History:
    """Snapshots, the oldest first."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()
        self._free: list[bytearray] = []
        self._size = 0  # bytes of a slot
        self._due = 0.0

    @property
    def begin(self) -> float | None:
        """Time of the oldest snapshot; None if there is none."""
        return self._snapshots[0].time if self._snapshots else None

    @property
    def is_due(self) -> bool:
        """Whether the next snapshot should be taken."""
        return time.monotonic() >= self._due

    def take(self, beliefs: Beliefs, health: dict[str, Any], verdicts: Mapping[str, str]) -> None:
        """Take a snapshot, and drop those that are too old or too many."""
        self._due, now = time.monotonic() + INTERVAL, time.time()
        while len(self._snapshots) > 1 and self._snapshots[1].time <= now - SPAN:
            self._drop_oldest()
        entities = sorted(beliefs.entities.values(), key=attrgetter("number"))
        frame = b"".join([entity.block for entity in entities])
        slot = self._slot_for(len(frame))
        slot[: len(frame)] = frame
        names = tuple([entity.name for entity in entities])
        numbers = tuple([entity.number for entity in entities])
        words: Mapping[str, str] = dict(verdicts)
        if self._snapshots:  # what is as before is kept once
            before = self._snapshots[-1]
            names = before.names if before.names == names else names
            numbers = before.numbers if before.numbers == numbers else numbers
            words = before.verdicts if before.verdicts == words else words
        self._snapshots.append(Snapshot(now, names, numbers, slot, len(frame), health, words))

    def _slot_for(self, size: int) -> bytearray:
        """Return a free slot; all there will be are allocated with the first, so that memory does not grow later."""
        if size > self._size or not self._size:
            self._size, self._free = int(size * ROOM) + 1, []
        most = max(2, min(SLOTS, MAXIMUM_BYTES // self._size))
        while len(self._snapshots) >= most:
            self._drop_oldest()
        if not self._free:
            self._free = [bytearray(self._size) for _ in range(most - len(self._snapshots))]
        return self._free.pop()

    def _drop_oldest(self) -> None:
        slot = self._snapshots.popleft().slot
        if len(slot) == self._size:
            self._free.append(slot)

    def at(self, moment: float) -> Snapshot | None:
        """The newest snapshot that is not after that time, or else the oldest; None if there is none."""
        for snapshot in reversed(self._snapshots):
            if snapshot.time <= moment:
                return snapshot
        return self._snapshots[0] if self._snapshots else None
