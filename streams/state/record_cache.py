"""Decoded records of the entities seen last, in front of their bytes in a store."""

from __future__ import annotations

from beliefstream.streams.state.record import BeliefRecord

__all__ = ["MOST", "RecordCache"]

# a record takes 5 kB with one moment, 15 with twenty, and 50 with all 256, about as much as its bytes
MOST, MOST_BYTES = 16_384, 2**28


class RecordCache:
    """Keeps the decoded records of up to `most` entities, and fewer if they have more than `most_bytes` together.

    A batch takes a record out, changes it, and puts it back when its bytes are stored. So a batch that fails leaves no
    changed record behind. A record counts only for the bytes with which it was put back: if the store has others, such
    as after a rebalance, these are decoded.
    """

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0
        self._records: dict[tuple[int, bytes], tuple[bytes, BeliefRecord]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._records)

    def take(self, partition: int, key: bytes, raw: bytes) -> BeliefRecord:
        """Return the record of these bytes, for the caller to change; raises as `BeliefRecord.decode`."""
        found = self._pop((partition, key))
        return found[1] if found is not None and found[0] == raw else BeliefRecord.decode(raw)

    def put(self, partition: int, key: bytes, raw: bytes, record: BeliefRecord) -> None:
        """Keep the record, which the caller no longer changes; `raw` is what `record.encode` gave."""
        self._pop((partition, key))
        self._records[partition, key] = raw, record
        self._bytes += len(raw)
        while len(self._records) > self._most or self._bytes > self._most_bytes:
            self._pop(next(iter(self._records)))

    def _pop(self, place: tuple[int, bytes]) -> tuple[bytes, BeliefRecord] | None:
        found = self._records.pop(place, None)
        self._bytes -= len(found[0]) if found is not None else 0
        return found
