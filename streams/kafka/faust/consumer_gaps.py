"""A consumer that detects lost messages, with fixes for Faust 0.15.3.

**The record after a gap counts as processed.** Offsets are missing from a log after transactions or compaction.
`Consumer._add_gap` includes the record that was just read. A worker killed at that moment would commit past a record it
has not processed. `GapConsumer` excludes that record. Fixed upstream when `_add_gap` ends before `offset_to`.

**Lost messages are not reported.** If the log begins after the committed offset, Kafka's clients continue at its
beginning. Faust acknowledges the missing offsets as a gap. `GapConsumer` reports how many messages are lost. If the
log ends before the read offset, the clients start at its beginning again. Faust then drops all records up to its old
offset, new ones included. `GapConsumer` stops the worker. Fixed upstream when Faust has a policy for offsets that are
out of range.

**Positions and changelogs have no public names.** `positions` and `is_changelog` return the positions of the consumer
and whether a partition is a changelog. Fixed upstream when Faust's consumer has public methods for them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import structlog
from aiokafka import TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP

from beliefstream.streams.kafka.faust.consumer_commits import stop_worker
from beliefstream.streams.kafka.faust.consumer_seeks import SeekingConsumer
from beliefstream.streams.monitoring import metrics

__all__ = ["GapConsumer"]

log = structlog.get_logger()
GOES_BACK = "a log returns an offset that was already read, the worker stops"


class GapConsumer(SeekingConsumer):
    """Consumer that reports lost messages, and stops the worker if a log restarts (see the module)."""

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
