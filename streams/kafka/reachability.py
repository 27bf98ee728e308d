"""Checks whether brokers answer a worker, for /readyz, an alert, and the shutdown without a broker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from beliefstream.streams.kafka.topic_states import nodes, without_leader

__all__ = ["Reachability"]

log = structlog.get_logger()
CHECK_SECONDS, LOG_SECONDS = 2.0, 0.5
# After this long without an answer, brokers count as unreachable. It is longer than a leader election, and than the
# delay from one unresponsive broker of several. It is short enough for /readyz to change within 15 s.
AWAY_SECONDS = 8.0
# A worker that starts with others on a busy machine takes longer to connect. Without a broker it stops by itself.
STARTING_SECONDS = 30.0


class Reachability:
    """Asks a broker every two seconds for the leaders of all partitions, and records the last good answer.

    Args:
        topics: all topics that a worker reads and writes.
        clock: monotonic, seconds.
    """

    def __init__(self, topics: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._topics, self._clock = list(topics), clock
        self._last = clock()  # when a broker last answered, and every partition had a leader
        self._fault = "no broker answers"
        self._answered = False  # ever
        self._failed: Any = None  # the broker that last failed to answer
        self._away_since: float | None = None
        self._watched: float | None = None  # when `watch` last ran

    @property
    def fault(self) -> str | None:
        """The reason why nothing can be read or written, once that has lasted for some seconds."""
        limit = AWAY_SECONDS if self._answered else STARTING_SECONDS
        now = self._clock()
        if self._watched is not None:
            now = min(now, self._watched + CHECK_SECONDS)  # later, this process may have been suspended
        return self._fault if now - self._last > limit else None

    async def watch(self, client: Callable[[], AIOKafkaClient | None]) -> None:
        """Ask without end; `client` returns the producer's client, if it is started."""
        await asyncio.gather(self._ask(client), self._log_changes())

    async def _ask(self, client: Callable[[], AIOKafkaClient | None]) -> None:
        while True:
            await self.ask_once(client())
            await asyncio.sleep(CHECK_SECONDS)

    async def _log_changes(self) -> None:
        while True:  # a task separate from `_ask`, because a request may wait seconds for its answer
            self._discount_pause()
            self._log_change()
            await asyncio.sleep(LOG_SECONDS)

    async def ask_once(self, client: AIOKafkaClient | None) -> None:
        """Ask once; asks another broker than last time if that one did not answer."""
        if client is None:
            return
        candidates = nodes(client)  # a connected broker may hang too
        node = next((each for each in candidates if each != self._failed), self._failed)
        try:
            lacking = await without_leader(client, node, self._topics)
        except (
            KafkaError,
            OSError,
            RuntimeError,
        ) as error:  # a TimeoutError is an OSError; RuntimeError: closed
            self._failed = node
            self._fault = f"no broker answers: {str(error) or type(error).__name__}"
            return
        self._failed, self._answered = None, True
        if lacking:
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            self._fault = f"partitions have no leader: {', '.join(lacking[:3])}{more}"
        else:
            self._last = self._clock()

    def _discount_pause(self) -> None:
        """Leave out the time in which this process was suspended: no broker could answer it then."""
        now = self._clock()
        if self._watched is not None:
            self._last += max(0.0, now - self._watched - CHECK_SECONDS)
        self._watched = now

    def _log_change(self) -> None:
        fault = self.fault
        if fault is not None and self._away_since is None:
            self._away_since = self._last
            log.error("the broker is unreachable, the worker waits", fault=fault)
        elif fault is None and self._away_since is not None:
            log.warning("the broker is reachable again", seconds=round(self._clock() - self._away_since, 1))
            self._away_since = None
