"""Decoded records of the entities seen last, in front of their bytes in a store."""

from __future__ import annotations

from beliefstream.streams.state.record import BeliefRecord

__all__ = ["MOST", "RecordCache"]

MOST = 16_384  # about 10 kB each, for beliefs of 8 components in 4 coordinates


class RecordCache:
    """Keeps the decoded records of up to `most` entities.

    A batch takes a record out, changes it, and puts it back when its bytes are stored. So a batch that fails leaves no
    changed record behind. A record counts only for the bytes with which it was put back: if the store has others, such
    as after a rebalance, these are decoded.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._records: dict[tuple[int, bytes], tuple[bytes, BeliefRecord]] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._records)

    def take(self, partition: int, key: bytes, raw: bytes) -> BeliefRecord:
        """Return the record of these bytes, for the caller to change; raises as `BeliefRecord.decode`."""
        found = self._records.pop((partition, key), None)
        return found[1] if found is not None and found[0] == raw else BeliefRecord.decode(raw)

    def put(self, partition: int, key: bytes, raw: bytes, record: BeliefRecord) -> None:
        """Keep the record, which the caller no longer changes; `raw` is what `record.encode` gave."""
        self._records[partition, key] = raw, record
        if len(self._records) > self._most:
            del self._records[next(iter(self._records))]
