"""A store of beliefs in a worker's memory: a restart reads the whole changelog."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from faust.types import TP

from beliefstream.streams.state.record import INTERNAL
from beliefstream.streams.state.stores import BeliefStore, Changes


class MemoryStore(BeliefStore):
    """Keeps records in memory."""

    on_disk = False

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._records: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)
        self._internal: defaultdict[int, dict[bytes, bytes]] = defaultdict(dict)

    def read(self, partition: int, key: bytes) -> bytes | None:
        return self._of(partition, key).get(key)

    def _of(self, partition: int, key: bytes) -> dict[bytes, bytes]:
        return (self._internal if key[:1] == INTERNAL else self._records)[partition]

    def write(self, partition: int, changes: Changes, offset: int, growth: int | None = None) -> None:
        for key, value in changes.items():
            records = self._of(partition, key)
            if value is None:
                records.pop(key, None)
            else:
                records[key] = value

    def items(self, partition: int) -> Iterator[tuple[bytes, bytes]]:  # type: ignore[override]
        return iter(list(self._records[partition].items()))

    def internal(self, partition: int, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return iter([each for each in self._internal[partition].items() if each[0].startswith(prefix)])

    def size(self, partition: int) -> int:
        return len(self._records[partition])

    def release(self, partition: int) -> None:
        # if the partition comes back, the changelog is read again, and may no longer have tombstones of old records
        self._records.pop(partition, None)
        self._internal.pop(partition, None)

    def persisted_offset(self, tp: TP) -> int | None:
        return None

    def reset_state(self) -> None:
        self._records.clear()
        self._internal.clear()
