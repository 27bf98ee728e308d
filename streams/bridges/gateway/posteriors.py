"""The latest posterior of each entity, and streams of posteriors to clients."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress

import structlog
from kafka.errors import KafkaError

from beliefstream.schemas import Posterior
from beliefstream.streams.bridges.gateway import metrics
from beliefstream.streams.client import PosteriorConsumer, TopicMissing
from beliefstream.streams.settings import Settings

log = structlog.get_logger(__name__)

BACKLOG = 256  # posteriors that wait for a slow client; then the oldest is left out
LOOK_BACK = 10_000  # records of a partition that are read at the start, for the latest posteriors
POLL_SECONDS, RETRY_SECONDS = 0.5, 2.0
RECONNECT_MS = 1000  # between attempts; by default kafka-python comes to wait for half a minute


class Subscription:
    """Posteriors that wait to be sent to one client."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self._ended = False
        self.dropped = 0  # how many were left out since the client was last told

    def put(self, posterior: bytes) -> None:
        """Add one; the oldest is left out where too many wait."""
        if len(self._waiting) == BACKLOG:
            self._waiting.popleft()
            self.dropped += 1
            metrics.DROPPED.inc()
        self._waiting.append(posterior)
        self._arrived.set()

    def end(self) -> None:
        """Let the stream end after what waits."""
        self._ended = True
        self._arrived.set()

    async def take(self, seconds: float) -> list[bytes] | None:
        """Return what waits, after waiting at most so long for the first; None at the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._arrived.wait(), seconds)
        found, self._arrived = list(self._waiting), asyncio.Event()
        self._waiting.clear()
        if self._ended:
            self._arrived.set()
        return None if self._ended and not found else found


class Posteriors:
    """The latest posteriors as JSON, and who follows them. Used in one event loop.

    Of more than `most` entities, the one heard of longest ago makes room.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._latest: OrderedDict[str, bytes] = OrderedDict()
        self._of_all: set[Subscription] = set()
        self._of_one: dict[str, set[Subscription]] = {}
        self._ended = False
        self.streams = 0

    def latest(self, entity: str) -> bytes | None:
        """The latest posterior of an entity, if it is kept."""
        return self._latest.get(entity)

    def take(self, posteriors: Sequence[Posterior], live: bool) -> None:
        """Keep these posteriors, and send them to whoever follows them if they are `live`."""
        for posterior in posteriors:
            raw, entity = posterior.to_json(), posterior.entity
            self._latest[entity] = raw
            self._latest.move_to_end(entity)
            if len(self._latest) > self._most:
                self._latest.popitem(last=False)
            if live:
                for subscription in (*self._of_all, *self._of_one.get(entity, ())):
                    subscription.put(raw)
        metrics.ENTITIES.set(len(self._latest))

    @contextmanager
    def subscribe(self, entities: Collection[str]) -> Iterator[Subscription]:
        """A subscription to these entities, or to all if there are none."""
        subscription = Subscription()
        groups = [self._of_one.setdefault(entity, set()) for entity in entities] or [self._of_all]
        for group in groups:
            group.add(subscription)
        if self._ended:
            subscription.end()
        self._count(1)
        try:
            yield subscription
        finally:
            self._count(-1)
            for group in groups:
                group.discard(subscription)
            for entity in entities:
                if not self._of_one.get(entity, True):
                    del self._of_one[entity]

    def end(self) -> None:
        """End all streams."""
        self._ended = True
        for group in (self._of_all, *self._of_one.values()):
            for subscription in group:
                subscription.end()

    def _count(self, change: int) -> None:
        self.streams += change
        metrics.STREAMS.set(self.streams)


class Reader:
    """Reads the topic of posteriors in a thread of its own, and hands them to the event loop."""

    def __init__(self, settings: Settings, posteriors: Posteriors, loop: asyncio.AbstractEventLoop) -> None:
        self._settings, self._posteriors, self._loop = settings, posteriors, loop
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="beliefstream-posteriors", daemon=True)
        self.caught_up = False  # whether what was in the topic at the start has been read

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to read; returns when the connection is closed, or after some seconds."""
        self._stopped.set()
        self._thread.join(5)

    def _run(self) -> None:
        last: int | None = LOOK_BACK
        while not self._stopped.is_set():
            try:
                with PosteriorConsumer(
                    self._settings.brokers,
                    self._settings.names.posteriors,
                    last=last,
                    reconnect_backoff_max_ms=RECONNECT_MS,
                    **self._settings.client_options,
                ) as consumer:
                    self._follow(consumer)
            except (KafkaError, OSError, TopicMissing) as error:
                log.warning("posteriors cannot be read, trying again", error=str(error))
                self._stopped.wait(RETRY_SECONDS)
            if self.caught_up:  # after a fault, go on with what is new
                last = None

    def _follow(self, consumer: PosteriorConsumer) -> None:
        while not self._stopped.is_set():
            found = consumer.poll(POLL_SECONDS if self.caught_up else 0.05)
            if found:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(self._posteriors.take, found, self.caught_up)
            self.caught_up = self.caught_up or consumer.caught_up
