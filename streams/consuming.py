"""Consumer with fixes for how Faust 0.15.3 seeks and fetches (see also `streams.recovery`).

**A fetch in flight across a seek.** A fetch takes up to a second. One that began before the seek can end after it, with
records from the new position. Faust drops those of partitions that are not resumed yet, but the position has moved past
them. (It also asks aiokafka for "the active partitions", and an empty set means all of them there.) So a restart loses
records even with the seek order fixed, and a rebalance during recovery loses table entries. `SafeConsumer` lets a fetch
end before it seeks, and drops the records of that fetch.

**Partitions without a committed offset are not sought.** aiokafka's `seek_to_committed` skips them. Records fetched
from them during a recovery, and dropped, are then never read again. A worker killed before its first commit lost all
that it had been sent. `SafeConsumer` seeks these partitions to their beginning, where a group without offsets starts.

**The record after a gap counts as processed.** `Consumer._add_gap` includes the record that was just read. Offsets are
missing from a log after transactions or compaction. A worker killed at that moment would commit past a record it has
not processed. `SafeConsumer` leaves that record out.

**Lost messages go unnoticed.** If the log begins after the committed offset, Kafka's clients continue at its beginning,
and Faust acknowledges the rest as a gap. `SafeConsumer` reports how many are lost. If the log ends before the read
offset, they start it again, and Faust drops all records up to its old offset, new ones included. A topic that is
deleted and created again under a running worker looks the same. If the new topic already holds more records, nothing in
them shows that it is another topic. If partitions are added, entities move to other partitions, away from their
beliefs. So `SafeConsumer` stops the worker if a log goes back. After every fetch it also asks for the topics' ids and
numbers of partitions: records that came before an unchanged answer belong to the same topic. If they changed, it stops
the worker. The new worker begins with a check of the topics and a recovery, where `streams.origin` handles the change.

**A refused commit is recorded as done.** Faust takes offsets as committed that the broker has refused, as it does
during a rebalance. After a refused first commit of a partition, the next seek finds no committed offset, but leaves
Faust's value in place. The partition then counts as committed, and is not sought to its beginning. Messages
acknowledged while partitions are revoked stay in Faust's lists, and count as done when the partitions come back.
`SafeConsumer` records the broker's answer, and starts each assignment with empty lists. If a commit fails for another
reason, Faust may hang while it holds the partitions; `SafeConsumer` stops the worker.

`SafeConsumer` also reads priors before observations. After the seek at the end of every rebalance, it first reads the
priors already in the log of a partition. A prior waits for its time, and is too late once an observation more than a
window after it is applied. The order in which two backlogs are read must not decide that.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing
from typing import Any, NoReturn, cast

import faust
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from faust.transport.drivers.aiokafka import (
    AIOKafkaConsumerThread,
    Consumer,
)
from faust.types import TP
from faust.types.tuples import Message
from mode.utils.futures import notify

from streams import metrics
from streams.logs import SERVICES
from streams.topic_states import TopicState, changes
from streams.watermarks import HighWatermarkThread

__all__ = ["SafeConsumer", "use_fetch_high_watermark", "use_safe_consumer"]

log = structlog.get_logger()
TOPIC_CHANGED = "a topic has changed under the worker, which stops"
GOES_BACK = "a log goes back behind what was read, the worker stops"
TopicStates = Callable[[Collection[str]], Awaitable[Mapping[str, TopicState]]]


class SafeConsumer(Consumer):
    """Consumer that seeks safely, reports lost messages and reads priors first (see the module)."""

    logger = SERVICES

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fetching = asyncio.Lock()
        self._seeks = 0
        self._seeks_before_fetch = 0
        # Committed offsets at the broker, the next to be read; Faust's own value may be of a failed commit.
        self.committed: dict[TP, int] = {}
        self._begun: set[TP] = set()  # partitions with a record delivered since the last seek
        self._told: dict[TP, int] = defaultdict(int)  # offset up to which losses are reported
        self._priors: str = getattr(self.transport, "priors", "")
        self._ask_topics: TopicStates | None = getattr(self.transport, "topic_states", None)
        self._topics: Mapping[str, TopicState] = {}  # the topics that are read, in the state they must keep
        self._held_back = False  # whether observations wait for priors
        # for priors not read to their end: the next offset, and the end after the last seek
        self._priors_due: dict[TP, tuple[int, int]] = {}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Fetch for up to `timeout` seconds and yield the records, until the next seek."""
        async with aclosing(
            cast(AsyncGenerator[tuple[TP, Message], None], super().getmany(timeout))
        ) as messages:
            async for partition, message in messages:
                if self._seeks != self._seeks_before_fetch:
                    return  # fetched before the seek, and will be fetched again
                read = self._read_offset.get(partition)
                first = 0 if read is None else read + (partition in self._begun)
                if message.offset < first and not self._is_changelog_tp(partition):
                    place = {"topic": partition.topic, "partition": partition.partition}
                    self._stop(GOES_BACK, **place, due=first, offset=message.offset)
                self._begun.add(partition)
                yield partition, message

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        async with self._fetching:
            # Set here, because `getmany` may have waited for the flow through a whole recovery and its seeks.
            self._seeks_before_fetch = self._seeks
            if self._priors_due and active_partitions:
                waiting = await self._waiting_for_priors()
                if waiting and not self._held_back:
                    log.info("priors are read before observations", partitions=len(waiting))
                elif self._held_back and not waiting:
                    log.info("priors are read")
                self._held_back = bool(waiting)
                active_partitions = active_partitions - waiting
                if not active_partitions:  # an empty set means all partitions to aiokafka
                    await asyncio.sleep(timeout)
                    return {}
            found = await super()._getmany(active_partitions, timeout)
            if any(tp.topic in self._topics for tp in found or ()):
                await self._check_topics()
            return found

    async def take_topics(self, topics: Collection[str]) -> Mapping[str, TopicState]:
        """Return the topics' states; from then on the worker stops if they change.

        Raises:
            UnknownTopicOrPartitionError: a topic does not exist.
            KafkaError, TimeoutError: no broker can be asked.
        """
        assert self._ask_topics is not None
        self._topics = await self._ask_topics(topics)
        if missing := [topic for topic in topics if topic not in self._topics]:
            raise UnknownTopicOrPartitionError(f"topics that are not there: {', '.join(missing)}")
        return self._topics

    async def _check_topics(self) -> None:
        assert self._ask_topics is not None
        try:
            now = await self._ask_topics(self._topics)
        except (KafkaError, OSError) as error:
            self._stop("no broker says which topics there are, the worker stops", error=repr(error))
        # a topic missing now was deleted after its records were read
        if found := changes(self._topics, now):
            self._stop(TOPIC_CHANGED, changes=found)

    def _stop(self, why: str, **details: Any) -> NoReturn:
        log.error(why, **details)
        os._exit(70)

    async def _waiting_for_priors(self) -> set[TP]:
        """Partitions to be read later."""
        places = await self._thread.call_thread(_positions, self._thread, set(self._priors_due))
        due = {tp: (places.get(tp, place), end) for tp, (place, end) in self._priors_due.items()}
        # a position that has gone back means that the topic was created again, and may end earlier
        before = self._priors_due
        self._priors_due = {
            tp: due[tp] for tp, (place, _) in before.items() if place <= due[tp][0] < due[tp][1]
        }
        numbers = {tp.partition for tp in self._priors_due}
        return {
            tp
            for tp in self.assignment()
            if tp.partition in numbers and tp.topic != self._priors and not self._is_changelog_tp(tp)
        }

    async def read(self, partitions: set[TP], timeout: float) -> Mapping[TP, list[Any]]:
        """Return records of these partitions within `timeout` seconds, in aiokafka's form, even if the flow pauses."""
        async with self._fetching:
            thread = self._thread
            reading = asyncio.ensure_future(thread.call_thread(_fetched, thread, partitions, timeout))
            try:
                found: Mapping[TP, list[Any]] = await asyncio.shield(reading)
            except asyncio.CancelledError:
                await reading  # as in any fetch, which would otherwise continue during the next seek
                raise
            return found

    async def perform_seek(self) -> None:
        """Seek all partitions to their committed offsets."""
        self._seeks += 1
        async with self._fetching:
            self._begun.clear()
            await super().perform_seek()
            uncommitted = [
                TopicPartition(*tp)
                for tp in self.assignment()
                if not self.committed.get(TP(*tp)) and not self._is_changelog_tp(tp)
            ]
            for place in uncommitted:
                self._committed_offset.pop(TP(*place), None)
            if uncommitted:
                await self._thread.seek_to_beginning(*uncommitted)
        committed = {tp: self.committed.get(tp) for tp in self.assignment()}
        due = {tp: offset for tp, offset in committed.items() if offset and not self._is_changelog_tp(tp)}
        if due:
            await self._tell_lost(due)
        priors = [tp for tp in self.assignment() if tp.topic == self._priors]
        ends = await self.highwaters(*priors) if priors else {}
        self._priors_due = {TP(*tp): (0, end) for tp, end in ends.items() if end}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek all partitions to their committed offsets, and return these."""
        offsets = await super().seek_to_committed()
        self.committed = {TP(*tp): offset for tp, offset in offsets.items() if offset is not None}
        return offsets

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Clear Faust's lists; Faust calls this after it has dealt with the previous partitions."""
        for of_before in (self._acked, self._acked_index, self._gap):
            of_before.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        done: bool = await super()._commit(offsets)
        if done:
            self.committed.update({tp: offset for tp, offset in offsets.items() if tp in assigned})
        elif self._thread.crashed and not cast(Any, self.app)._stopped.is_set():
            self._stop("offsets cannot be committed, the worker stops", error=repr(self._thread.crash_reason))
        return done

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        for tp, offset in () if done else offsets.items():  # Faust has recorded these anyway
            committed = self.committed.get(tp)
            self._committed_offset[tp] = committed
            due = range(committed or offset - 1, offset)
            self._acked[tp].extend(due)
            self._acked_index[tp].update(due)
        return done

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek the partitions to the given offsets."""
        self._seeks += 1
        async with self._fetching:
            self._begun.clear()
            await super().seek_wait(partitions)

    def let_go(self, message: Message) -> None:
        """Stop waiting for a delivered message that will not be acknowledged before it is delivered again."""
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # `offset_to` is the offset of the record just read, which Faust takes as part of the gap.
        await super()._add_gap(tp, offset_from, offset_to - 1)
        await self._tell_lost({tp: offset_from}, offset_to)

    async def _tell_lost(self, due: Mapping[TP, int], end: float = math.inf) -> None:
        """Report the messages from `due` to `end` that their log no longer holds, each once."""
        begins = await self.earliest_offsets(*due)
        for tp, first in due.items():
            first = max(first, self._told[tp])
            begin = int(min(begins.get(tp) or 0, end))
            if begin <= first:
                continue
            self._told[tp] = begin
            metrics.LOST_OFFSETS.labels(tp.topic).inc(begin - first)
            log.error(
                "the log begins after what was to be read next: messages are lost",
                topic=tp.topic,
                partition=tp.partition,
                first=first,
                lost=begin - first,
            )


async def _fetched(thread: AIOKafkaConsumerThread, partitions: set[TP], timeout: float) -> Any:
    fetcher = thread._ensure_consumer()._fetcher
    with fetcher._subscriptions.fetch_context():
        return await fetcher.fetched_records(partitions, timeout=timeout)


async def _positions(thread: AIOKafkaConsumerThread, partitions: set[TP]) -> dict[TP, int]:
    """Return the next offsets to be read where they are known, without waiting for the others."""
    subscription = thread._ensure_consumer()._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return {}
    assigned = {TP(*tp) for tp in subscription.assignment.tps}
    states = {tp: subscription.assignment.state_value(TopicPartition(*tp)) for tp in partitions & assigned}
    return {tp: state.position for tp, state in states.items() if state.has_valid_position}


class HighWatermarkConsumer(SafeConsumer):
    """`SafeConsumer` for brokers whose ListOffsets(LATEST) is too small."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return HighWatermarkThread(self, loop=self.loop, beacon=self.beacon)


def use_safe_consumer(app: faust.App, priors: str = "", topic_states: TopicStates | None = None) -> None:
    """Make the app read with `SafeConsumer`; call it before the worker starts.

    Args:
        priors: the topic to read first.
        topic_states: asks the broker for the topics' states; without it changes are not noticed.
    """
    _use(app, SafeConsumer, priors, topic_states)


def use_fetch_high_watermark(
    app: faust.App, priors: str = "", topic_states: TopicStates | None = None
) -> None:
    """Do the same as `use_safe_consumer`, but find the end of changelogs by reading: for the embedded broker only.

    By Kafka's protocol a broker's ListOffsets(LATEST) is right, so this is off by default. It costs a connection and a
    fetch at every rebalance.
    """
    _use(app, HighWatermarkConsumer, priors, topic_states)


def _use(app: faust.App, consumer: type[SafeConsumer], priors: str, topic_states: TopicStates | None) -> None:
    transport = cast(Any, app.transport)
    transport.Consumer, transport.priors, transport.topic_states = consumer, priors, topic_states
