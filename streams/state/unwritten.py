"""Changes of computed batches in front of the store, which gets them when they are durable.

The next batch is computed while the last one is sent, and must see its beliefs. If a batch cannot be sent, the worker
stops, so that nothing is computed from changes that were lost.
"""

from __future__ import annotations

from collections.abc import Mapping

from beliefstream.streams.state.stores import BeliefStore, Changes

__all__ = ["Unwritten"]


class Unwritten:
    """Changes that are not in the store yet, by partition and key.

    Args:
        store: gets them later; whoever writes there removes them here.
    """

    def __init__(self, store: BeliefStore) -> None:
        self._store = store
        self._changes: dict[tuple[int, bytes], bytes | None] = {}

    def __len__(self) -> int:
        return len(self._changes)

    def read(self, partition: int, key: bytes) -> bytes | None:
        """Return the newest record, written or not."""
        place = (partition, key)
        return self._changes[place] if place in self._changes else self._store.read(partition, key)

    def add(self, changes: Mapping[int, Changes]) -> None:
        """Add a batch's changes by partition; they replace those of earlier batches."""
        for partition, made in changes.items():
            for key, value in made.items():
                self._changes[partition, key] = value

    def remove(self, changes: Mapping[int, Changes]) -> None:
        """Remove a batch's changes, which are in the store now, except those that a later batch has replaced."""
        for partition, made in changes.items():
            for key, value in made.items():
                place = (partition, key)
                if place in self._changes and self._changes[place] is value:
                    del self._changes[place]
