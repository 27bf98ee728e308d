"""Forgets entities that were not seen for longer than their model allows (`expires_after`).

`inference.tracking.filtering.advance` decides whether a belief has expired, from its entity's event times alone. After
such a gap the next message starts from the model's prior, in a worker and in a replay. This module only finds expired
beliefs and removes them. The moment of removal does not change an entity's posteriors, if its clock agrees with the
others.

Removal uses the event time of the partition, from the observations of all its entities. With the wall clock, a worker
would forget entities that still have messages in a backlog.

A record must stay while its messages may be delivered again, because its offsets prevent a second application. So an
entity is forgotten only when all messages in its record are committed.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Container, Iterable

import structlog
from faust.types import TP

from beliefstream.streams.definitions.reader import Definitions
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.state.record import BeliefRecord, read_times
from beliefstream.streams.state.stores import BeliefStore

RECENT = 64  # observations of a partition whose times are used
LEAST = 16  # observations needed before the event time is known
log = structlog.get_logger()
MOST_AT_ONCE = 1000  # entities forgotten with one batch
REST = 20  # pause between searches, in multiples of the last search's duration
SHORTEST_REST = 1.0  # seconds


class EventClock:
    """Estimates the event time of a partition as the lower quartile of the last observations' times.

    A device whose clock is years ahead advances it only by sending three quarters of the observations. A device whose
    clock is behind may hold it back, which forgets nothing.
    """

    def __init__(self, times: Iterable[float] = ()) -> None:
        self._times: deque[float] = deque(times, maxlen=RECENT)

    def copy(self) -> EventClock:
        """Return an independent copy with the same times."""
        return EventClock(self._times)

    def note(self, times: Iterable[float]) -> None:
        self._times.extend(times)

    @property
    def now(self) -> float:
        """Seconds of event time; minus infinity until there are enough observations."""
        if len(self._times) < LEAST:
            return -math.inf
        return sorted(self._times)[len(self._times) // 4]


class Expiry:
    """Finds expired entities in the partitions of a worker.

    Args:
        committed: returns the committed offset of a source partition; offsets before it are not delivered again.
    """

    def __init__(
        self, names: TopicNames, definitions: Definitions, store: BeliefStore, committed: Callable[[TP], int]
    ) -> None:
        self._names, self._definitions, self._store = names, definitions, store
        self._committed = committed
        self._clocks: defaultdict[int, EventClock] = defaultdict(EventClock)
        self._found: deque[tuple[int, bytes]] = deque()
        self._search: asyncio.Future[list[tuple[int, bytes]]] | None = None
        self._next_search = -math.inf

    def note(self, partition: int, times: Iterable[float]) -> None:
        """Record the times of new observations."""
        self._clocks[partition].note(times)

    def now(self, partition: int) -> float:
        """The event time of the partition."""
        return self._clocks[partition].now

    def due(self, busy: Container[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
        """Return partition and key of the entities to forget now, without the `busy` ones, which a batch changes."""
        self._update_search()
        due = []
        for _ in range(min(MOST_AT_ONCE, len(self._found))):
            partition, key = self._found.popleft()
            if (
                (partition, key) not in busy
                and partition in self._store.partitions
                and self._is_due(partition, key)
            ):
                due.append((partition, key))
        return due

    def _is_due(self, partition: int, key: bytes) -> bool:
        raw = self._store.read(partition, key)
        if raw is None:
            return False
        record = BeliefRecord.decode(raw)
        last_seen = max(record.past.newest, record.last_seen)
        return (
            self._has_expired(key, last_seen, self.now(partition))
            and not record.pending  # stated priors that wait for their time
            and record.observation_offset < self._committed(TP(self._names.observations, partition))
            and record.prior_offset < self._committed(TP(self._names.priors, partition))
        )

    def _has_expired(self, key: bytes, last_seen: float, now: float) -> bool:
        model = self._definitions.model_for(key.decode(errors="replace"))
        if model is None or model.message.expires_after is None:
            return False
        # a late message may still arrive within the window, and finds the belief not expired
        return last_seen + model.message.expires_after + model.message.lateness_window < now

    def _update_search(self) -> None:
        """Take the results of a finished search, and start the next one when it is due."""
        if self._search is not None and self._search.done():
            search, self._search = self._search, None
            self._found.extend(search.result())
        if self._search is None and not self._found and time.monotonic() >= self._next_search:
            if not self._definitions.expire:
                return
            clocks = {partition: self.now(partition) for partition in self._store.partitions}
            self._search = asyncio.get_running_loop().run_in_executor(None, self._all_expired, clocks)

    def _all_expired(self, clocks: dict[int, float]) -> list[tuple[int, bytes]]:
        """Search all records, in a separate thread, without decoding all of those that have not expired."""
        began = time.monotonic()
        found = [
            (partition, key)
            for partition, now in clocks.items()
            if now > -math.inf
            for key, raw in self._store.items(partition)
            if self._has_expired(key, max(read_times(raw)), now)
            # found again by every search, they would take the time of every batch
            and not BeliefRecord.decode(raw).pending
        ]
        ended = time.monotonic()
        self._next_search = ended + max(SHORTEST_REST, REST * (ended - began))
        return found
