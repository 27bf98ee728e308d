"""The consumer of a worker: stops if its topics change, and reads priors before observations.

`SafeConsumer` has the fixes for Faust of its bases, each described with its class, and adds two more.

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

**A detector takes an idle stream for a stalled one.** Faust's looks at the time of the last message, so the
first messages after some idle minutes are an error of each partition. `streams.worker.watchdog` looks for messages
that wait instead.
Fixed upstream when the detector measures from when a message began to wait.

**A private method chooses the consumer's thread.** `SafeConsumer` overrides `_new_consumer_thread`. Fixed upstream when
Faust's transport has an attribute for the class of the thread, as it has for that of the consumer.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, NoReturn, cast

import faust
import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from faust.types.tuples import Message, ack_lock
from mode import Service
from mode.utils.futures import notify

from beliefstream.streams.kafka.faust.delivery import BulkConsumer
from beliefstream.streams.kafka.faust.watermarks import ConsumerThread, HighWatermarkThread
from beliefstream.streams.kafka.reachability import TopicState, changes, require
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.monitoring.logs import SERVICES

log = structlog.get_logger()
GOES_BACK = "a log returns an offset that was already read, the worker stops"
TOPIC_CHANGED = "a topic has changed while it was read, the worker stops"


def stop_worker(why: str, **details: Any) -> NoReturn:
    """Log an error and end the process."""
    log.error(why, **details)
    os._exit(70)


class CommittingConsumer(BulkConsumer):
    """Consumer that records which offsets are committed.

    **A refused commit is recorded as done.** Faust takes offsets as committed that the broker has refused, as it does
    during a rebalance. After a refused first commit of a partition, the next seek finds no committed offset, but leaves
    Faust's value in place. The partition then counts as committed, and is not sought to its beginning.
    `CommittingConsumer` records the broker's answer. Fixed upstream when `Consumer._commit_offsets` checks the result
    of `_commit`.

    **Acknowledged messages remain after a revocation.** Messages acknowledged while partitions are revoked stay in
    Faust's lists, and count as done when the partitions come back. `CommittingConsumer` starts each assignment with
    empty lists. Fixed upstream when Faust clears `_acked` for revoked partitions.

    **A failed commit hangs.** If a commit fails for another reason, Faust may hang and keep the partitions.
    `CommittingConsumer` stops the worker. Fixed upstream when the app ends if its consumer's thread crashes.

    **Each message is noted alone.** Faust notes each message that a stream takes and each that it acknowledges, with
    three locks, its sensors and a look for whoever waits. `track` and `acknowledge` note many at once, in the same
    lists. They tell the sensors of the newest of each partition only: nothing reads how many there were. Fixed upstream
    when `Consumer.track_message` and `Consumer.ack` take many messages.

    **A message cannot be dropped.** At a rebalance Faust waits for every delivered message, even for one that will be
    delivered again. `release` removes it from Faust's list. Fixed upstream when the consumer has a public method for
    it.

    Attributes:
        committed: the committed offsets at the broker. Faust's own value may come from a refused commit.
    """

    logger = SERVICES

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.committed: dict[TP, int] = {}

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek all partitions to their committed offsets, and return these."""
        offsets = await super().seek_to_committed()
        self.committed = {TP(*tp): offset for tp, offset in offsets.items() if offset is not None}
        return offsets

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Clear Faust's lists; Faust calls this after it has released the previous partitions."""
        for of_before in (self._acked, self._acked_index, self._gap):
            of_before.clear()
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit_offsets(self, offsets: Mapping[TP, int]) -> bool:
        """Commit these offsets, which may be lower than before, and return whether the broker has accepted them."""
        return await self._commit(offsets)

    def release(self, message: Message) -> None:
        """Stop waiting for a delivered message that will not be acknowledged before it is delivered again."""
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)

    def track(self, messages: Collection[Message]) -> None:
        """Count messages as received now and not acknowledged; those of a partition are in order."""
        now = time.monotonic()
        for message in messages:
            message.tracked, message.time_in = True, now
        self._unacked_messages.update(messages)  # type: ignore[attr-defined]  # of a set of weak references
        for place, newest in {message.tp: message for message in messages}.items():
            self._on_message_in(place, newest.offset, newest)

    def acknowledge(self, messages: Iterable[Message]) -> None:
        """Acknowledge messages for one of the streams that read them; their offsets may be committed after the last."""
        finished: dict[TP, list[Message]] = defaultdict(list)
        with ack_lock:
            for message in messages:
                if not message.acked:
                    message.refcount = max(message.refcount - 1, 0)
                    if not message.refcount:
                        message.acked = True
                        finished[message.tp].append(message)
            for place, done in finished.items():
                self._unacked_messages.difference_update(done)  # type: ignore[attr-defined]
                if self.app.topics.acks_enabled_for(place.topic):
                    self._note_acknowledged(place, [message.offset for message in done])
            notify(self._waiting_for_ack)
        for place, done in finished.items():
            self.app.sensors.on_message_out(place, done[-1].offset, done[-1])

    def _note_acknowledged(self, place: TP, offsets: Iterable[int]) -> None:
        committed, index = self._committed_offset[place], self._acked_index[place]
        acknowledged = self._acked[place]
        for offset in offsets:
            if (committed is None or offset >= committed) and offset not in index:
                index.add(offset)
                acknowledged.append(offset)
                self._n_acked += 1

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        assigned = self.assignment()
        done: bool = await super()._commit(offsets)
        if done:
            self.committed.update({tp: offset for tp, offset in offsets.items() if tp in assigned})
        elif self._thread.crashed and not cast(Any, self.app)._stopped.is_set():
            stop_worker(
                "offsets cannot be committed, the worker stops", error=repr(self._thread.crash_reason)
            )
        return done

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        done: bool = await super()._commit_offsets(offsets, start_new_transaction)
        refused = {} if done else offsets  # Faust has recorded these all the same
        for tp, offset in refused.items():
            committed = self.committed.get(tp)
            self._committed_offset[tp] = committed
            due = range(committed or offset - 1, offset)
            self._acked[tp].extend(due)
            self._acked_index[tp].update(due)
        return done


class SeekingConsumer(CommittingConsumer):
    """Consumer whose fetches never overlap a seek.

    **A fetch in flight across a seek.** A fetch takes up to a second. One that began before the seek can end after it,
    with records from the new position. Faust drops those of partitions that are not resumed yet, but the position has
    moved past them. Faust also asks aiokafka for "the active partitions", and an empty set means all of them there. So
    a restart loses records even with the seek order fixed, and a rebalance during recovery loses table entries.
    `SeekingConsumer` waits for the end of a fetch before it seeks, and drops the records of that fetch. Fixed upstream
    when a seek in Faust waits for the fetcher.

    **Partitions without a committed offset are not sought.** aiokafka's `seek_to_committed` skips them. Records fetched
    from them during a recovery are dropped and never read again. A worker killed before its first commit lost all
    messages it had received. `SeekingConsumer` seeks these partitions to their beginning, where a group without offsets
    starts. Fixed upstream when `Consumer.perform_seek` of Faust does so.

    **No fetch while the flow is paused.** Faust reads changelogs only through its streams. `read` fetches with
    aiokafka's own fetcher, in the consumer's thread. Fixed upstream when Faust's consumer has a method for it.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._fetching = asyncio.Lock()
        self._seeks = 0
        self._seeks_before_fetch = 0

    def is_read_again(self) -> bool:
        """Whether a seek has begun since the last fetch: its records are fetched again."""
        return self._seeks != self._seeks_before_fetch

    def on_seek(self) -> None:
        """Called before positions change, while no fetch is in flight."""

    async def fetch(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        """Fetch once; no seek begins during the fetch."""
        return await super()._getmany(active_partitions, timeout)

    async def read(self, partitions: set[TP], timeout: float) -> Mapping[TP, list[Any]]:
        """Return aiokafka's records of these partitions within `timeout` seconds, even while the flow is paused."""
        async with self._fetching:
            thread = self._thread
            reading = asyncio.ensure_future(thread.call_thread(_fetched, thread, partitions, timeout))
            try:
                found: Mapping[TP, list[Any]] = await asyncio.shield(reading)
            except asyncio.CancelledError:
                await reading  # otherwise the fetch would continue during the next seek
                raise
            return found

    async def perform_seek(self) -> None:
        """Seek all partitions to their committed offsets, or to their beginning if they have none."""
        self._seeks += 1
        async with self._fetching:
            self.on_seek()
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

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Seek the partitions to the given offsets."""
        self._seeks += 1
        async with self._fetching:
            self.on_seek()
            await super().seek_wait(partitions)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        async with self._fetching:
            # Set here, because `getmany` may have waited for the flow during a whole recovery and its seeks.
            self._seeks_before_fetch = self._seeks
            return await self.fetch(active_partitions, timeout)


async def _fetched(thread: AIOKafkaConsumerThread, partitions: set[TP], timeout: float) -> Any:
    fetcher = thread._ensure_consumer()._fetcher
    with fetcher._subscriptions.fetch_context():
        return await fetcher.fetched_records(partitions, timeout=timeout)


class GapConsumer(SeekingConsumer):
    """Consumer that reports lost messages, and stops the worker if a log restarts.

    **The record after a gap counts as processed.** Offsets are missing from a log after transactions or compaction.
    `Consumer._add_gap` includes the record that was just read. A worker killed at that moment would commit past a
    record it has not processed. `GapConsumer` excludes that record. Fixed upstream when `_add_gap` ends before
    `offset_to`.

    **Lost messages are not reported.** If the log begins after the committed offset, Kafka's clients continue at its
    beginning. Faust acknowledges the missing offsets as a gap. `GapConsumer` reports how many messages are lost. If the
    log ends before the read offset, the clients start at its beginning again. Faust then drops all records up to its
    old offset, new ones included. `GapConsumer` stops the worker. Fixed upstream when Faust has a policy for offsets
    that are out of range.

    **Positions and changelogs have no public names.** `positions` and `is_changelog` return the positions of the
    consumer and whether a partition is a changelog. Fixed upstream when Faust's consumer has public methods for them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun: set[TP] = set()  # partitions that have delivered a record since the last seek
        self._reported: dict[TP, int] = defaultdict(int)  # offset up to which losses are reported

    def on_record(self, partition: TP, offset: int) -> None:
        """Stop the worker if the offset was already read."""
        read = self._read_offset.get(partition)
        first = 0 if read is None else read + (partition in self._begun)
        if offset < first and not self.is_changelog(partition):
            place = {"topic": partition.topic, "partition": partition.partition}
            stop_worker(GOES_BACK, **place, due=first, offset=offset)
        self._begun.add(partition)

    def on_seek(self) -> None:
        """Forget which partitions have delivered records."""
        self._begun.clear()

    async def perform_seek(self) -> None:
        """Seek all partitions to their committed offsets, and report messages deleted after these."""
        await super().perform_seek()
        committed = {tp: self.committed.get(tp) for tp in self.assignment()}
        due = {tp: offset for tp, offset in committed.items() if offset and not self.is_changelog(tp)}
        if due:
            await self._report_lost(due)

    def is_changelog(self, partition: TP) -> bool:
        """Whether the partition is one of a table's changelog."""
        return bool(self._is_changelog_tp(partition))

    async def positions(self, partitions: set[TP]) -> dict[TP, int]:
        """Return the next offsets to read, for partitions where they are known already."""
        found: dict[TP, int] = await self._thread.call_thread(_positions, self._thread, partitions)
        return found

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # `offset_to` is the offset of the record just read, which Faust includes in the gap.
        await super()._add_gap(tp, offset_from, offset_to - 1)
        await self._report_lost({tp: offset_from}, offset_to)

    async def _report_lost(self, due: Mapping[TP, int], end: float = math.inf) -> None:
        """Report the messages from `due` to `end` that are no longer in their log, each once."""
        begins = await self.earliest_offsets(*due)
        for tp, first in due.items():
            first = max(first, self._reported[tp])
            begin = int(min(begins.get(tp) or 0, end))
            if begin <= first:
                continue
            self._reported[tp] = begin
            metrics.LOST_OFFSETS.labels(tp.topic).inc(begin - first)
            log.error(
                "the log begins after the next offset to read: messages are lost",
                topic=tp.topic,
                partition=tp.partition,
                first=first,
                lost=begin - first,
            )


async def _positions(thread: AIOKafkaConsumerThread, partitions: set[TP]) -> dict[TP, int]:
    subscription = thread._ensure_consumer()._subscription.subscription
    if subscription is None or subscription.assignment is None:
        return {}
    assigned = {TP(*tp) for tp in subscription.assignment.tps}
    states = {tp: subscription.assignment.state_value(TopicPartition(*tp)) for tp in partitions & assigned}
    return {tp: state.position for tp, state in states.items() if state.has_valid_position}


TopicStates = Callable[[Collection[str]], Awaitable[Mapping[str, TopicState]]]


class SafeConsumer(GapConsumer):
    """Consumer that seeks safely, reports lost messages and reads priors first (see the module)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._priors: str = getattr(self.transport, "priors", "")
        self._ask_topics: TopicStates | None = getattr(self.transport, "topic_states", None)
        self._topics: Mapping[str, TopicState] = {}  # of the topics that are read; they must not change
        self._checking: asyncio.Task[None] | None = None
        # fetches of these topics so far, and how many of them were before the last answer about the topics
        self._fetches, self._verified = 0, 0
        self._held_back = False  # whether observations wait for priors
        # for partitions of priors not read to their end: the next offset, and the end after the last seek
        self._priors_due: dict[TP, tuple[int, int]] = {}

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Replace Faust's detector (see the module)."""

    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        fetches = getattr(self.transport, "fetch_high_watermark", False)
        thread = HighWatermarkThread if fetches else ConsumerThread
        return thread(self, loop=self.loop, beacon=self.beacon)

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


def use_safe_consumer(
    app: faust.App,
    priors: str = "",
    topic_states: TopicStates | None = None,
    *,
    fetch_high_watermark: bool = False,
) -> None:
    """Make the app read with `SafeConsumer`; call it before the worker starts.

    Args:
        priors: the topic to read first.
        topic_states: asks the broker for the topics' states; without it, changes are not detected.
        fetch_high_watermark: find the end of changelogs by reading. Only the embedded broker needs this: other brokers
            answer ListOffsets(LATEST) correctly. It costs a connection and a fetch at every rebalance.
    """
    transport = cast(Any, app.transport)
    transport.Consumer, transport.fetch_high_watermark = SafeConsumer, fetch_high_watermark
    transport.priors, transport.topic_states = priors, topic_states
