"""The consumer of a worker: stops if its topics change, and reads priors before observations.

`SafeConsumer` has the fixes for Faust of `streams.kafka.faust.consumer_commits`, `streams.kafka.faust.consumer_seeks`
and `streams.kafka.faust.consumer_gaps`. It adds two more.

**A topic changes while it is read.** A topic that is deleted and created again looks like a log that ends before the
read offset. If the new topic already has more records, nothing in them shows that it is another topic. If partitions
are added, entities move to other partitions than their beliefs. So after every fetch `SafeConsumer` asks for the
topics' ids and numbers of partitions. If these are unchanged, all records fetched before belong to the same topic. If
they changed, it stops the worker. The restarted worker checks the topics and recovers, and handles the change there.
The records are processed while it asks. Their results must wait for `topics_checked` before they are sent.
Neither Faust 0.15.3 nor aiokafka 0.14 knows topic ids. Fixed upstream when aiokafka fetches by topic id (Kafka 3.1).

**Priors come first.** After the seek at the end of every rebalance, `SafeConsumer` first reads the priors already in
the log of a partition. A prior waits for its time, and is too late once an observation more than a window after it is
applied. The order in which two backlogs are read must not decide that.

**A private method chooses the consumer's thread.** Both consumers override `_new_consumer_thread`. Fixed upstream when
Faust's transport has an attribute for the class of the thread, as it has for that of the consumer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, cast

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from beliefstream.streams.kafka.faust.consumer_commits import stop_worker
from beliefstream.streams.kafka.faust.consumer_gaps import GapConsumer
from beliefstream.streams.kafka.faust.watermarks import ConsumerThread, HighWatermarkThread
from beliefstream.streams.kafka.topic_states import TopicState, changes, require

__all__ = ["SafeConsumer", "use_fetch_high_watermark", "use_safe_consumer"]

log = structlog.get_logger()
TOPIC_CHANGED = "a topic has changed while it was read, the worker stops"
TopicStates = Callable[[Collection[str]], Awaitable[Mapping[str, TopicState]]]


class SafeConsumer(GapConsumer):
    """Consumer that seeks safely, reports lost messages and reads priors first (see the module)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._priors: str = getattr(self.transport, "priors", "")
        self._ask_topics: TopicStates | None = getattr(self.transport, "topic_states", None)
        self._topics: Mapping[
            str, TopicState
        ] = {}  # states of the topics that are read; they must not change
        self._checking: asyncio.Task[None] | None = None
        # fetches of these topics so far, and how many of them were before the last answer about the topics
        self._fetches, self._verified = 0, 0
        self._held_back = False  # whether observations wait for priors
        # for partitions of priors not read to their end: the next offset, and the end after the last seek
        self._priors_due: dict[TP, tuple[int, int]] = {}

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def fetch(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch once, from partitions whose priors are read; begin to ask whether a topic has changed."""
        if self._priors_due and active_partitions:
            waiting = await self._waiting_for_priors()
            if waiting and not self._held_back:
                log.info("priors are read before observations", partitions=len(waiting))
            elif self._held_back and not waiting:
                log.info("priors are read")
            self._held_back = bool(waiting)
            active_partitions = active_partitions - waiting
            if not active_partitions:  # for aiokafka an empty set means all partitions
                await asyncio.sleep(timeout)
                return {}
        found = await super().fetch(active_partitions, timeout)
        if any(tp.topic in self._topics for tp in found or ()):
            self._fetches += 1
            self._check()
        return found

    async def topics_checked(self) -> None:
        """Return when it is known that all records fetched so far are of the present topics."""
        fetches = self._fetches
        while self._verified < fetches:
            await asyncio.shield(self._check())

    def _check(self) -> asyncio.Task[None]:
        """Return the check in progress, which may have begun before the last fetch, or begin one."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._verify())
        return self._checking

    async def _verify(self) -> None:
        fetches = self._fetches
        await self._check_topics()
        self._verified = fetches

    async def perform_seek(self) -> None:
        """Seek all partitions to their committed offsets; then priors already in the log are read first."""
        await super().perform_seek()
        priors = [tp for tp in self.assignment() if tp.topic == self._priors]
        ends = await self.highwaters(*priors) if priors else {}
        self._priors_due = {TP(*tp): (0, end) for tp, end in ends.items() if end}

    async def take_topics(self, topics: Collection[str]) -> Mapping[str, TopicState]:
        """Return the topics' states; from then on the worker stops if they change.

        Raises:
            UnknownTopicOrPartitionError: a topic does not exist.
            KafkaError, TimeoutError: no broker answers.
        """
        assert self._ask_topics is not None
        self._topics = await self._ask_topics(topics)
        require(topics, self._topics)
        return self._topics

    async def _check_topics(self) -> None:
        assert self._ask_topics is not None
        try:
            now = await self._ask_topics(self._topics)
        except (KafkaError, OSError) as error:
            stop_worker("no broker answers which topics exist, the worker stops", error=repr(error))
        # a topic missing now was deleted after its records were read
        if found := changes(self._topics, now):
            stop_worker(TOPIC_CHANGED, changes=found)

    async def _waiting_for_priors(self) -> set[TP]:
        """Return the partitions to read later, after their priors."""
        places = await self.positions(set(self._priors_due))
        due = {tp: (places.get(tp, place), end) for tp, (place, end) in self._priors_due.items()}
        # a lower position means that the topic was created again, and may end earlier
        before = self._priors_due
        self._priors_due = {
            tp: due[tp] for tp, (place, _) in before.items() if place <= due[tp][0] < due[tp][1]
        }
        numbers = {tp.partition for tp in self._priors_due}
        return {
            tp
            for tp in self.assignment()
            if tp.partition in numbers and tp.topic != self._priors and not self.is_changelog(tp)
        }


class HighWatermarkConsumer(SafeConsumer):
    """A `SafeConsumer` for brokers whose ListOffsets(LATEST) is too low."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return HighWatermarkThread(self, loop=self.loop, beacon=self.beacon)


def use_safe_consumer(app: faust.App, priors: str = "", topic_states: TopicStates | None = None) -> None:
    """Make the app read with `SafeConsumer`; call it before the worker starts.

    Args:
        priors: the topic to read first.
        topic_states: asks the broker for the topics' states; without it, changes are not detected.
    """
    _use(app, SafeConsumer, priors, topic_states)


def use_fetch_high_watermark(
    app: faust.App, priors: str = "", topic_states: TopicStates | None = None
) -> None:
    """Do the same as `use_safe_consumer`, but find the end of changelogs by reading.

    Only the embedded broker needs this: other brokers answer ListOffsets(LATEST) correctly. It costs a connection and a
    fetch at every rebalance.
    """
    _use(app, HighWatermarkConsumer, priors, topic_states)


def _use(app: faust.App, consumer: type[SafeConsumer], priors: str, topic_states: TopicStates | None) -> None:
    transport = cast(Any, app.transport)
    transport.Consumer, transport.priors, transport.topic_states = consumer, priors, topic_states
