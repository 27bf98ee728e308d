"""The last minutes of what the page shows, to be scrolled back: snapshots in bounded memory."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from beliefstream.streams.live.beliefs import BLOCK, Beliefs

SPAN = 900.0  # seconds
INTERVAL = 5.0  # seconds between two snapshots
MAXIMUM_BYTES = 64_000_000  # of all snapshots; the oldest make room
BYTES_EACH = 2 * 8  # of an entity in a snapshot: references to its name and its block


@dataclass(frozen=True)
class Snapshot:
    """All beliefs, the health and the verdicts at one time.

    Attributes:
        time: seconds since the epoch, by this machine's clock.
        names, blocks: of the entities; an entity that has not changed shares its block with the snapshot before.
        verdicts: the word for each sensor that has one.
        size: bytes that it takes beyond those of the snapshot before.
    """

    time: float
    names: tuple[str, ...]
    blocks: tuple[bytes, ...]
    health: dict[str, Any]
    verdicts: Mapping[str, str]
    size: int

    def frame(self) -> bytes:
        """The blocks, one after the other."""
        return b"".join(self.blocks)

    def numbered(self) -> list[tuple[int, str]]:
        """Number and name of each entity."""
        return [
            (BLOCK.unpack_from(block)[0], name) for name, block in zip(self.names, self.blocks, strict=True)
        ]


class History:
    """Snapshots, the oldest first."""

    def __init__(self) -> None:
        self._snapshots: deque[Snapshot] = deque()
        self._bytes = 0
        self._version = 0
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
        self._due = time.monotonic() + INTERVAL
        new = beliefs.changes(self._version).entities
        self._version = beliefs.version
        before = self._snapshots[-1].verdicts if self._snapshots else None
        shared = before if before == verdicts else dict(verdicts)
        size = sum(sys.getsizeof(entity.block) for entity in new) + BYTES_EACH * len(beliefs.entities)
        if shared is not before:
            size += sys.getsizeof(shared)
        names = tuple(beliefs.entities)
        blocks = tuple(entity.block for entity in beliefs.entities.values())
        self._snapshots.append(Snapshot(time.time(), names, blocks, health, shared or {}, size))
        self._bytes += size
        oldest = self._snapshots[-1].time - SPAN
        while len(self._snapshots) > 1 and (self._bytes > MAXIMUM_BYTES or self._snapshots[1].time <= oldest):
            self._bytes -= self._snapshots.popleft().size

    def at(self, moment: float) -> Snapshot | None:
        """The newest snapshot that is not after that time, or else the oldest; None if there is none."""
        for snapshot in reversed(self._snapshots):
            if snapshot.time <= moment:
                return snapshot
        return self._snapshots[0] if self._snapshots else None
