"""A consumer that seeks safely, with fixes for Faust 0.15.3 (see also `streams.kafka.faust.recovery`).

**A fetch in flight across a seek.** A fetch takes up to a second. One that began before the seek can end after it, with
records from the new position. Faust drops those of partitions that are not resumed yet, but the position has moved past
them. Faust also asks aiokafka for "the active partitions", and an empty set means all of them there. So a restart loses
records even with the seek order fixed, and a rebalance during recovery loses table entries. `SeekingConsumer` waits for
the end of a fetch before it seeks, and drops the records of that fetch. Fixed upstream when a seek in Faust waits for
the fetcher.

**Partitions without a committed offset are not sought.** aiokafka's `seek_to_committed` skips them. Records fetched
from them during a recovery are dropped and never read again. A worker killed before its first commit lost all messages
it had received. `SeekingConsumer` seeks these partitions to their beginning, where a group without offsets starts.
Fixed upstream when `Consumer.perform_seek` of Faust does so.

**No fetch while the flow is paused.** Faust reads changelogs only through its streams. `read` fetches with aiokafka's
own fetcher, in the consumer's thread. Fixed upstream when Faust's consumer has a method for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from beliefstream.streams.kafka.faust.consumer_commits import CommittingConsumer

__all__ = ["SeekingConsumer"]


class SeekingConsumer(CommittingConsumer):
    """Consumer whose fetches never overlap a seek (see the module)."""

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
