"""Fencing of partitions: the broker refuses writes of a former owner.

A worker may be suspended for longer than its session, as in a paused virtual machine. It does not know that another
worker has taken over its partitions. When it resumes, it still has a batch with beliefs from outdated state. In the
compacted changelog they would come after the newer ones, and the next recovery would take them for the newest. But the
committed offsets say that later observations are applied. A check before sending does not help, because a worker can be
suspended after the check. Offsets cannot repair the damage: compaction keeps the last record of a key, not the newest
belief.

So the broker decides. A new owner asks the transaction coordinator for the producer identity of the partition
(`InitProducerId` with a transactional id). It gets the same identity with the next epoch. With it the owner writes a
record to the changelog: a tombstone of a key that no entity has. From then on the leader refuses every batch with an
earlier epoch (`INVALID_PRODUCER_EPOCH`), in flight or retried. After that the owner reads the changelog to its end.

So the changelog of a partition consists of sections with one writer each. Every writer has read all records before its
own section, and the last record of a key is its newest belief. This does not depend on clocks, timeouts or the group
coordinator. Posteriors and dead letters of the partition carry the same identity. So those of a former owner cannot
come after those of the owner. A former owner stops when it is refused.

This uses no transactions and has none of their costs. A batch needs no request to the coordinator, readers do not need
`read_committed`, and there are no markers between the records. The sequence number of a batch also lets the broker drop
duplicates from retries.

The broker forgets a transactional id after seven days without use (`transactional.id.expiration.ms`). The next owner
would get another identity, which fences nobody. So an owner renews its lease hourly. The broker refuses the renewal of
a former owner.

One risk remains. The leader forgets a producer's epoch after a day without writes (`producer.id.expiration.ms`). After
32 767 epochs they start again with another identity. A worker would have to be suspended at that moment, with a batch
that the producer itself drops as expired after 40 seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import ConcurrentTransactions, InvalidProducerEpoch, KafkaError, ProducerFenced

from beliefstream.streams.kafka.producing import Lease, Record, attempts, deliver, pack_batches
from beliefstream.streams.kafka.requests import init_producer_id
from beliefstream.streams.state.record import INTERNAL
from beliefstream.streams.state.stores import Fault

log = structlog.get_logger()
FENCE_KEY = INTERNAL + b"fence"
"""The key of the tombstone that every new owner writes to its changelog; no entity has it."""
RENEW_SECONDS = 3600.0
TAKE_SECONDS = 60.0  # seconds without the coordinator after which a new owner gives up


class Fenced(Fault):
    """Another worker owns the partition; nothing was written."""

    event = "fenced: another worker has taken its partitions, the worker stops"


class Fencing:
    """The leases of a worker.

    Args:
        application: the consumer group; workers of the same group fence each other.
        changelog: the topic to which the fence record is written.
        producer: returns the running aiokafka producer.

    Attributes:
        leases: the leases of the last `take`, by partition. The mapping is replaced, never changed. A batch keeps the
            mapping it began with, and is refused if another `take` came in between.
    """

    def __init__(
        self, application: str, changelog: str, producer: Callable[[], Awaitable[AIOKafkaProducer]]
    ) -> None:
        self._application, self._changelog, self._producer = application, changelog, producer
        self._changing = asyncio.Lock()
        self.leases: Mapping[int, Lease] = {}

    async def take(self, partitions: Collection[int]) -> None:
        """Become the owner of these partitions, and of no others; call this before reading their changelog.

        Raises:
            aiokafka.errors.KafkaError: the broker does not allow it, or has not answered for a minute.
        """
        async with self._changing:
            self.leases = {}
            producer = await self._producer()
            taken = await asyncio.gather(*(self._take(producer, partition) for partition in partitions))
            self.leases = dict(zip(partitions, taken, strict=True))

    async def renew(self) -> None:
        """Renew the leases before the broker forgets them; costs nothing while none is due.

        Raises:
            Fenced: another worker has taken one of the partitions.
        """
        due = time.monotonic() - RENEW_SECONDS
        if all(lease.since > due for lease in self.leases.values()):
            return
        async with self._changing:
            producer = await self._producer()
            renewed = await asyncio.gather(*(_renewed(producer, each) for each in self.leases.values()))
            self.leases = dict(zip(self.leases, renewed, strict=True))

    async def _take(self, producer: AIOKafkaProducer, partition: int) -> Lease:
        identity = f"{self._application}-beliefs-{partition}"
        async for attempt in attempts(_may_retry, TAKE_SECONDS, first=0.05, longest=2.0):
            with attempt:
                lease = Lease(identity, *await init_producer_id(producer.client, identity))
                fence = Record(self._changelog, partition, FENCE_KEY, None)
                await deliver(producer, pack_batches(producer, [fence], {partition: lease}))
                return lease
        raise AssertionError("unreachable")


def _may_retry(error: BaseException) -> bool:
    """Whether to retry: after any error except a refusal. A rival's newer epoch is replaced by the next one."""
    return isinstance(error, KafkaError) and (
        error.retriable or isinstance(error, (ConcurrentTransactions, ProducerFenced))
    )


async def _renewed(producer: AIOKafkaProducer, lease: Lease) -> Lease:
    try:
        held = (lease.producer, lease.epoch)
        return Lease(lease.identity, *await init_producer_id(producer.client, lease.identity, held))
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise Fenced(f"{lease.identity} has been taken over by another worker") from error
    except KafkaError as error:
        # the lease is still valid; the embedded broker cannot renew leases, and does not forget identities
        log.info("a lease could not be renewed", identity=lease.identity, error=repr(error))
        lease.since = time.monotonic()
        return lease
