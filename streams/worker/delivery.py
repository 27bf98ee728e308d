"""Delivers the results of a batch: sends them, and writes the store.

The order makes a crash safe. Posteriors and dead letters become durable first. The changelog of the beliefs follows,
then the local store, then the source offsets. After a crash a worker finds one of two states. Either it has the old
belief, and its messages are delivered again. Or it has the new belief, which skips redelivered messages by their
offsets. So no belief lacks its posteriors.

All writes use the leases held when the batch began. They fail once another worker has taken the partitions
(`streams.state.fencing`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import ProducerFenced
from faust.types import EventT

from beliefstream.streams.kafka.producing import Lease, Record, attempts, deliver, pack_batches, retry_unless
from beliefstream.streams.state.fencing import Fenced
from beliefstream.streams.state.stores import NOT_KNOWN, BeliefStore
from beliefstream.streams.state.unwritten import Unwritten
from beliefstream.streams.worker.batch import Batch
from beliefstream.streams.worker.checkpoints import Checkpoint, pass_by
from beliefstream.streams.worker.misplaced_records import Placement

__all__ = ["SENDING_SECONDS", "Delivery", "Results"]

SENDING_SECONDS = 60  # seconds without a broker after which the worker gives up and is restarted


@dataclass
class Results:
    """What a batch has made of its messages, computed and not sent.

    Attributes:
        records: posteriors, dead letters and summaries of sensors.
        changes: records of beliefs and of their source by key, for each partition.
        growth: increase in the number of beliefs, by partition.
    """

    events: Sequence[EventT[Any]]
    batch: Batch
    leases: Mapping[int, Lease]
    records: Sequence[Record]
    changes: Mapping[int, Mapping[bytes, bytes | None]]
    growth: Counter[int] = field(default_factory=Counter)


class Delivery:
    """Delivers results, one batch after the other.

    Args:
        changelog: the topic of beliefs.
        store: holds the beliefs; it gets what the changelog has.
        unwritten: holds the changes until then.
        producer: returns the running aiokafka producer.
        placement: notes records in the wrong partition.
        checked: returns when it is known that the messages are of the present topics; nothing is sent before.
    """

    def __init__(
        self,
        changelog: str,
        store: BeliefStore,
        unwritten: Unwritten,
        producer: Callable[[], Awaitable[AIOKafkaProducer]],
        placement: Placement,
        checked: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._changelog, self._store, self._unwritten = changelog, store, unwritten
        self._producer, self._placement, self._checked = producer, placement, checked

    async def deliver(self, results: Results) -> None:
        """Return when all results are durable.

        Raises:
            Fenced: another worker has taken one of the partitions; no belief of it has been changed.
        """
        if self._checked is not None:
            await self._checked()
        await self._send(results.records, results.leases, "sending posteriors")
        records = [
            Record(self._changelog, partition, key, value)
            for partition, made in results.changes.items()
            for key, value in made.items()
        ]
        pass_by("posteriors sent")
        offsets = await self._send(records, results.leases, "sending beliefs")
        for partition, made in results.changes.items():
            last = offsets.get(TopicPartition(self._changelog, partition), NOT_KNOWN)
            self._store.write_own(partition, made, last, results.growth[partition])
        self._unwritten.remove(results.changes)
        pass_by("beliefs sent")
        results.batch.measure(results.events)
        self._placement.note(results.batch.misplaced)

    async def _send(
        self, records: Sequence[Record], leases: Mapping[int, Lease], checkpoint: Checkpoint
    ) -> dict[TopicPartition, int]:
        """Send all records, and retry while no broker answers; passes `checkpoint` at each attempt."""
        if not records:
            return {}
        if strange := {record.partition for record in records} - leases.keys():
            raise Fenced(f"this worker does not own the partitions {sorted(strange)}")
        producer = await self._producer()
        try:
            batches = pack_batches(producer, records, leases)
            # without a timeout, a batch that is never acknowledged would block for ever
            async with asyncio.timeout(2 * SENDING_SECONDS):
                may_retry = retry_unless(ProducerFenced)
                async for attempt in attempts(may_retry, SENDING_SECONDS, first=0.2, longest=5.0):
                    with attempt:
                        pass_by(checkpoint)
                        return await deliver(producer, batches)
        except ProducerFenced as error:
            raise Fenced("another worker has taken over a partition of this batch") from error
        raise AssertionError("unreachable")
