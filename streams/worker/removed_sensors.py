"""Finds the stored health of sensors whose definitions were removed, so that it can be forgotten."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from itertools import islice

from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.state.sensor_records import WHOLE, sensor_of
from beliefstream.streams.state.stores import BeliefStore

MOST_AT_ONCE = 100  # sensors looked at with one batch
Place = tuple[int, str]
"""Partition and sensor."""


class RemovedSensors:
    """Knows which sensors have records in the partitions of a worker, and which of these are not defined any more.

    A batch costs a comparison of two numbers while no definition is removed. The store is searched once for each lease
    of a partition, because another run may have left records.
    """

    def __init__(self, definitions: Definitions, store: BeliefStore) -> None:
        self._definitions, self._store = definitions, store
        self._stored: dict[int, set[str]] = defaultdict(set)
        self._searched: set[int] = set()
        self._waiting: dict[Place, None] = {}  # to be forgotten, the next one first
        self._removals = definitions.removals

    def note(self, partition: int, sensor: str) -> None:
        """Note that the sensor has a record in the partition."""
        self._stored[partition].add(sensor)

    def keep_partitions(self, partitions: Collection[int]) -> None:
        """Forget what is known of other partitions, which are searched when they come back."""
        self._stored = defaultdict(
            set, {partition: names for partition, names in self._stored.items() if partition in partitions}
        )
        self._waiting = {place: None for place in self._waiting if place[0] in partitions}
        self._searched &= set(partitions)

    def next_places(self, owned: Collection[int]) -> list[Place]:
        """Return some records of removed sensors in these partitions, each again and again until it is `done`."""
        partitions = self._search_one(owned)
        if self._removals != self._definitions.removals:
            self._removals, partitions = self._definitions.removals, list(self._stored)
        defined = self._definitions.sensors
        for partition in partitions:
            removed = self._stored[partition] - defined.keys()
            self._waiting |= dict.fromkeys((partition, sensor) for sensor in sorted(removed))
        found = []
        for place in list(islice(self._waiting, MOST_AT_ONCE)):
            del self._waiting[place]
            if place[1] not in defined:  # else it is defined again
                self._waiting[place] = None
                found.append(place)
        return found

    def done(self, place: Place) -> None:
        """Note that the store has no such record any more."""
        self._waiting.pop(place, None)
        self._stored[place[0]].discard(place[1])

    def _search_one(self, owned: Collection[int]) -> list[int]:
        """Search one of the partitions that have not been searched, and return it: a batch must not wait for all."""
        partition = next((each for each in owned if each not in self._searched), None)
        if partition is None:
            return []
        self._searched.add(partition)
        self._stored[partition] |= {sensor_of(key) for key, _ in self._store.internal(partition, WHOLE)}
        return [partition]
