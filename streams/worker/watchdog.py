"""Watchdog for stalled partitions: messages wait, none is processed, and there is no known reason.

The cause may be a fetch that never returns, a dropped message, or a model that does not return. A restarted worker
continues where it stopped. The watchdog counts only while the worker is ready: not during a rebalance or a recovery,
and not while no broker answers. The clock runs at a tenth of its speed while the model works, or while only some
partitions advance: such a worker is slow, not stalled. A log end beyond the processed offset proves nothing, because
transactions end with records that no consumer receives. So the watchdog reads a message itself.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.types import TP

from beliefstream.streams.kafka.aiokafka_clients import stop_consumer
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.settings import Settings

log = structlog.get_logger()
CHECK_SECONDS = 5.0
ANSWER_SECONDS = 10.0
ASK_AFTER = 0.2  # share of the limit after which the watchdog checks for waiting messages
SLOW = 0.1  # speed of the clock while the worker is busy
METRICS_READ_SECONDS = 60.0  # time for Prometheus to read the count before the process ends
EXIT = 70


class StallClock:
    """Measures how long each partition has stalled with messages waiting; asks no broker.

    The partitions of observations and priors with the same number count as one, because observations wait while priors
    are read.

    Args:
        limit: seconds after which a partition has stalled too long.
    """

    def __init__(self, limit: float) -> None:
        self._limit, self._ask_after = limit, limit * ASK_AFTER
        self._done: dict[int, dict[TP, int]] = {}
        self._stalled: dict[int, float] = {}  # seconds, by a clock that is slow while the worker is busy
        self._waits: set[int] = set()  # partitions where a message has waited since `_stalled` began

    def restart(self) -> None:
        """Start again, because the worker waits for something else, such as a rebalance."""
        self._done, self._stalled, self._waits = {}, {}, set()

    def note(
        self, processed_offsets: Mapping[TP, int], is_busy: bool, has_queued: bool, seconds: float
    ) -> Collection[int]:
        """Return the partitions that need a check for waiting messages now.

        Args:
            processed_offsets: the offset after the last processed one, for every assigned source partition.
            is_busy: whether the model is processing a batch.
            has_queued: whether fetched messages are not processed yet.
            seconds: since the last call.
        """
        now: defaultdict[int, dict[TP, int]] = defaultdict(dict)
        for place, offset in processed_offsets.items():
            now[place.partition][place] = offset
        moved = {number for number, offsets in now.items() if self._done.get(number) != offsets}
        passed = seconds * (SLOW if is_busy or (moved and has_queued) else 1.0)
        self._stalled = {
            number: 0.0 if number in moved else self._stalled.get(number, 0.0) + passed for number in now
        }
        self._waits -= moved
        self._done = dict(now)
        return {
            number
            for number, stalled in self._stalled.items()
            if stalled > (self._limit if number in self._waits else self._ask_after)
        }

    def answer(self, asked: Collection[int], waiting: Collection[int]) -> Collection[int]:
        """Return which of the `asked` partitions have stalled too long, given those with messages `waiting`."""
        stalled = {number for number in asked if number in waiting and number in self._waits}
        self._waits = (self._waits - {*asked}) | {*waiting}
        self._stalled |= {number: 0.0 for number in asked if number not in stalled}
        return stalled


class BacklogReader:
    """Checks logs for waiting messages, over connections separate from the worker's consumer.

    Args:
        brokers: host:port[,host:port...].
        options: additional options of `aiokafka.AIOKafkaConsumer`.
    """

    def __init__(self, brokers: str, options: Mapping[str, Any]) -> None:
        self._brokers, self._options = brokers, options

    async def waiting(self, processed_offsets: Mapping[TP, int]) -> dict[TP, int]:
        """Return the end offsets of the logs that have a message at or after the given offset.

        Raises:
            aiokafka.errors.KafkaError, TimeoutError: the broker has not answered.
        """
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **self._options,
        )
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await consumer.start()
                ends = await consumer.end_offsets([TopicPartition(*place) for place in processed_offsets])
                behind = {place: end for place, end in ends.items() if end > processed_offsets[TP(*place)]}
                return {
                    TP(*place): end
                    for place, end in behind.items()
                    if await _has_message(consumer, place, processed_offsets[TP(*place)], end)
                }
        finally:
            await stop_consumer(consumer)


async def _has_message(consumer: AIOKafkaConsumer, place: TopicPartition, offset: int, end: int) -> bool:
    """Whether there is a message between the offset and the end, not just a transaction marker."""
    consumer.assign([place])
    consumer.seek(place, offset)
    while await consumer.position(place) < end:
        if await consumer.getmany(timeout_ms=500):
            return True
    return False


@dataclass(frozen=True)
class WorkerProbe:
    """The parts of a worker that the watchdog observes.

    Attributes:
        processed_offsets, is_busy, has_queued: as in `StallClock.note`.
        is_blocked: whether the worker waits for something else.
    """

    processed_offsets: Callable[[], Mapping[TP, int]]
    is_busy: Callable[[], bool]
    has_queued: Callable[[], bool]
    is_blocked: Callable[[], bool]


class StallWatchdog:
    """Ends the worker with status 70 if partitions stall, and counts it in `beliefstream_stalls_total`.

    Args:
        limit: seconds after which a partition has stalled too long.
        worker: the worker to observe.
        backlog: asked for waiting messages when partitions have not advanced for a while.
    """

    def __init__(self, limit: float, worker: WorkerProbe, backlog: BacklogReader) -> None:
        self._limit, self._clock = limit, StallClock(limit)
        self._worker, self._backlog = worker, backlog
        self._interval = min(CHECK_SECONDS, limit / 10)
        self.metrics_read = asyncio.Event()  # /metrics has been read since it was cleared

    async def watch(self) -> None:
        """Check every few seconds, without end."""
        while True:
            before = time.monotonic()
            await asyncio.sleep(self._interval)
            # a suspended process has not stalled
            passed = min(time.monotonic() - before, 2 * self._interval)
            if waiting := await self.check(passed):
                await self._stop(waiting)

    async def check(self, seconds: float) -> Mapping[TP, int]:
        """Return the stalled partitions and their end offsets; `seconds` have passed since the last check."""
        worker = self._worker
        if worker.is_blocked():
            self._clock.restart()
            return {}
        processed_offsets = worker.processed_offsets()
        asked = self._clock.note(processed_offsets, worker.is_busy(), worker.has_queued(), seconds)
        if not asked:
            return {}
        try:
            waiting = await self._backlog.waiting(
                {tp: at for tp, at in processed_offsets.items() if tp.partition in asked}
            )
        except (KafkaError, OSError):  # try again later; an unreachable broker is reported elsewhere
            return {}
        if worker.is_blocked():
            return {}
        asked = set(asked) - {
            place.partition
            for place, at in worker.processed_offsets().items()
            if processed_offsets.get(place) != at
        }
        stalled = self._clock.answer(asked, {place.partition for place in waiting} & asked)
        return {place: end for place, end in waiting.items() if place.partition in stalled}

    async def _stop(self, waiting: Mapping[TP, int]) -> NoReturn:
        processed_offsets = self._worker.processed_offsets()
        metrics.STALLS.inc()
        log.error(
            "partitions are stalled: messages wait and none is processed, the worker stops to be restarted",
            partitions=[f"{place.topic}-{place.partition}" for place in sorted(waiting)],
            processed_offsets=[processed_offsets.get(place, 0) for place in sorted(waiting)],
            end_offsets=[waiting[place] for place in sorted(waiting)],
            seconds=self._limit,
        )
        self.metrics_read.clear()
        with suppress(TimeoutError):  # if the process ended at once, Prometheus would never see the count
            await asyncio.wait_for(self.metrics_read.wait(), METRICS_READ_SECONDS)
            await asyncio.sleep(1.0)  # time to send the answer
        os._exit(EXIT)


def stall_watchdog(
    app: faust.App,
    settings: Settings,
    processed: Callable[[TP], int],
    *,
    is_busy: Callable[[], bool],
    is_blocked: Callable[[], bool],
) -> StallWatchdog:
    """Build the watchdog of a worker; `processed` gives the offset before which a partition is processed."""
    sources = settings.names.observations, settings.names.priors

    def processed_offsets() -> dict[TP, int]:
        return {place: processed(place) for place in app.consumer.assignment() if place.topic in sources}

    probe = WorkerProbe(processed_offsets, is_busy, lambda: bool(cast(Any, app.consumer).unacked), is_blocked)
    backlog = BacklogReader(settings.brokers, settings.client_options)
    return StallWatchdog(settings.stall_seconds, probe, backlog)
