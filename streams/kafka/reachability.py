"""Asks brokers for ids, partitions and leaders of topics, and watches whether they answer, for /readyz and an alert."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import (
    KafkaError,
    NodeNotReadyError,
    UnknownTopicOrPartitionError,
    UnsupportedVersionError,
)

from beliefstream.streams.kafka.aiokafka_clients import connected_nodes
from beliefstream.streams.kafka.producing import attempts, retry_unless
from beliefstream.streams.kafka.requests import topics_of

log = structlog.get_logger()
# After this long without an answer, brokers count as unreachable. It is longer than a leader election, and than the
# delay from one unresponsive broker of several. It is short enough for /readyz to change within 15 s.
AWAY_SECONDS = 8.0
# A worker that starts with others on a busy machine takes longer to connect. Without a broker it stops by itself.
STARTING_SECONDS = 30.0

ASKING_SECONDS, ANSWER_SECONDS = 60.0, 5.0  # for all attempts, and for each


@dataclass(frozen=True)
class TopicState:
    """The state of a topic that must not change while it is read.

    Attributes:
        id: the broker's id of the topic; a topic that is deleted and created again gets another.
        partitions: the number of partitions.
    """

    id: str
    partitions: int


async def topic_states(client: AIOKafkaClient, names: Collection[str]) -> dict[str, TopicState]:
    """Return the states of topics by name, without topics that do not exist.

    Raises:
        aiokafka.errors.KafkaError, TimeoutError: no broker has answered for a minute, or the broker is too old.
    """
    async for attempt in attempts(
        retry_unless(UnsupportedVersionError), ASKING_SECONDS, first=0.1, longest=2.0
    ):
        with attempt:
            return {
                topic.name: TopicState(str(topic.topic_id), len(topic.partitions))
                for topic in await _ask(client, _node(client), names)
                if topic.topic_id is not None
            }
    raise AssertionError("unreachable")


def require(names: Collection[str], found: Mapping[str, TopicState]) -> None:
    """Raise UnknownTopicOrPartitionError that names those topics that were not found."""
    if missing := [name for name in names if name not in found]:
        raise UnknownTopicOrPartitionError(f"topics that do not exist: {', '.join(missing)}")


async def without_leader(client: AIOKafkaClient, node: Any, names: Collection[str]) -> list[str]:
    """Ask once, and return the partitions of these topics without a leader, as "topic-partition".

    Args:
        node: the id of the broker to ask.

    Raises:
        aiokafka.errors.UnknownTopicOrPartitionError: a topic does not exist, or this user may not see it.
        aiokafka.errors.KafkaError, TimeoutError: it has not answered within 5 s.
    """
    topics = await _ask(client, node, names)
    if missing := sorted(topic.name for topic in topics if not topic.partitions):
        raise UnknownTopicOrPartitionError(
            f"topics that do not exist, or are not to be seen: {', '.join(missing)}"
        )
    return sorted(
        f"{topic.name}-{partition.partition_index}"
        for topic in topics
        for partition in topic.partitions
        if partition.leader_id < 0
    )


def nodes(client: AIOKafkaClient) -> list[Any]:
    """The ids of all known brokers, connected ones first."""
    connected = set(connected_nodes(client))
    known = {broker.nodeId for broker in client.cluster.brokers()} | connected
    return sorted(known, key=lambda node: (node not in connected, str(node)))


async def _ask(client: AIOKafkaClient, node: Any, names: Collection[str]) -> Any:
    """Ask one broker for the metadata of these topics."""
    if node is None:
        raise NodeNotReadyError("no broker is known")
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            return await topics_of(client, node, names)
        except NotImplementedError as error:
            raise UnsupportedVersionError(
                "the broker does not report topic ids: Kafka 3.1 or later is needed"
            ) from error


def changes(before: Mapping[str, TopicState], now: Mapping[str, TopicState]) -> list[str]:
    """Describe what has changed about these topics; a missing topic does not count as a change."""
    found = []
    for name, known in before.items():
        state = now.get(name, known)
        if state.id != known.id:
            found.append(f"{name!r} was deleted and created again")
        elif state != known:
            found.append(
                f"{name!r} has {state.partitions} partition{'s' * (state.partitions != 1)} now, not {known.partitions}"
            )
    return found


def _node(client: AIOKafkaClient) -> Any:
    """Return a connected broker if there is one, because others may not answer."""
    connected = connected_nodes(client)
    return random.choice(connected) if connected else client.get_random_node()


CHECK_SECONDS, LOG_SECONDS = 2.0, 0.5


class Reachability:
    """Asks a broker every two seconds for the leaders of all partitions, and records the last good answer.

    Args:
        topics: all topics that this process reads and writes.
        clock: monotonic, seconds.
        name: of this process, for the log.
    """

    def __init__(
        self, topics: Iterable[str], clock: Callable[[], float] = time.monotonic, name: str = "the worker"
    ) -> None:
        self._topics, self._clock, self._name = list(topics), clock, name
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

    @property
    def silence(self) -> float:
        """Seconds since the last good answer."""
        return self._clock() - self._last

    async def watch(self, client: Callable[[], AIOKafkaClient | None]) -> None:
        """Ask without end; `client` returns the client that asks, if it is started."""
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
        except UnknownTopicOrPartitionError as error:
            self._failed, self._answered, self._fault = None, True, str(error.args[0])
            return
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
            log.error(f"the broker is unreachable, {self._name} waits", fault=fault)
        elif fault is None and self._away_since is not None:
            log.warning("the broker is reachable again", seconds=round(self._clock() - self._away_since, 1))
            self._away_since = None
