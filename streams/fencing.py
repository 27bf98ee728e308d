"""One owner a partition: the broker refuses what a former owner still sends.

A worker that was suspended for longer than its session (a paused virtual machine, a long stall) does not know that
another one has taken over its partitions. When it wakes up, a batch is still in its hands: beliefs that were computed
from what is out of date by now. In a compacted changelog they would come after the newer ones, and at the next
recovery they would be taken for the newest, while the committed offsets say that the observations since are applied.
Looking before sending does not help, for a worker can be suspended after the look; and what is written cannot be
repaired by offsets, for compaction keeps the last record of a key, not the newest belief.

So the broker decides. Whoever begins to own a partition asks the transaction coordinator for the producer identity
of that partition (`InitProducerId` with a transactional id), which is the same at every time with the next epoch, and
writes a record with it to the changelog: a tombstone of a key that no entity has. From then on the leader refuses
whatever carries an earlier epoch (`INVALID_PRODUCER_EPOCH`), in flight or retried. Only then the owner reads the
changelog to its end. Hence the changelog of a partition is a sequence of stretches with one writer each, every writer
has read all before its own stretch, and the last record of a key is its newest belief. This does not depend on
clocks, on timeouts or on what the group coordinator says. Posteriors and dead letters of the partition carry the
same identity: what a former owner still sends cannot come after those of the owner. It stops when it is refused.

There are no transactions, and so none of their costs: nothing is asked of the coordinator in a batch, no reader needs
`read_committed`, and no marker comes between the records. A batch has a sequence number, by which the broker also
drops what a retry brings twice.

A transactional id is forgotten after seven days without use (`transactional.id.expiration.ms`), and the next owner
would get another identity, which fences nobody. So an owner renews its lease hourly, on the condition that it is
still the last one: a zombie's renewal is refused. What is left: the leader forgets a producer's epoch when it has not
written for a day (`producer.id.expiration.ms`), and epochs begin anew, with another identity, after 32 767 of them. A
worker would have to sleep across that very moment, with a batch in its hands that the producer itself drops as
expired after 40 seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.client import ConnectionGroup, CoordinationType
from aiokafka.errors import (
    ConcurrentTransactions,
    InvalidProducerEpoch,
    KafkaError,
    NoError,
    ProducerFenced,
    for_code,
)
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactString, Int16, Int32, Int64, Schema, TaggedFields

from streams.beliefs import INTERNAL
from streams.sending import Lease, Record, attempts, deliver, fill

log = structlog.get_logger()
FENCE_KEY = INTERNAL + b"fence"
"""The key of the tombstone that every new owner writes to its changelog; no entity is called so."""
RENEW_SECONDS = 3600.0
TAKE_SECONDS = 60.0  # how long the coordinator may be away before a new owner gives up
TRANSACTION_TIMEOUT_MS = 60_000  # of transactions that are never begun; the protocol asks for it


class Fenced(RuntimeError):
    """Another worker owns the partition: what was to be written has not been."""


class _InitProducerIdResponse(Response):  # type: ignore[misc]
    API_KEY = 22
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerIdV3(RequestStruct):  # type: ignore[misc]
    FLEXIBLE_VERSION = True
    API_KEY = 22
    API_VERSION = 3
    RESPONSE_TYPE = _InitProducerIdResponse
    SCHEMA = Schema(
        ("transactional_id", CompactString("utf-8")),
        ("transaction_timeout_ms", Int32),
        ("producer_id", Int64),
        ("producer_epoch", Int16),
        ("tags", TaggedFields),
    )


class _InitProducerId(Request[_InitProducerIdV3]):  # type: ignore[misc]
    """Version 3, which aiokafka does not have: with an expected identity and epoch, -1 for any."""

    API_KEY = 22

    def __init__(self, identity: str, producer: int, epoch: int) -> None:
        self._asked = (identity, TRANSACTION_TIMEOUT_MS, producer, epoch)

    def build(self, request_struct_class: type[_InitProducerIdV3]) -> _InitProducerIdV3:
        return request_struct_class(*self._asked, {})


class Fencing:
    """The leases of a worker.

    Args:
        application: the consumer group; workers of one group fence each other.
        changelog: the topic the fence is written to.
        producer: gives the running aiokafka producer.

    Attributes:
        leases: by partition, those of the last `take`. It is replaced, never changed: who has begun a batch with it
            ends the batch with it, and is refused if it has been taken again since.
    """

    def __init__(
        self, application: str, changelog: str, producer: Callable[[], Awaitable[AIOKafkaProducer]]
    ) -> None:
        self._application, self._changelog, self._producer = application, changelog, producer
        self._changing = asyncio.Lock()
        self.leases: Mapping[int, Lease] = {}

    async def take(self, partitions: Collection[int]) -> None:
        """Become the owner of these partitions, and of no others; to be called before their changelog is read.

        Raises:
            aiokafka.errors.KafkaError: the broker does not allow it, or has not answered for a minute.
        """
        async with self._changing:
            self.leases = {}
            producer = await self._producer()
            taken = await asyncio.gather(*(self._take(producer, partition) for partition in partitions))
            self.leases = dict(zip(partitions, taken, strict=True))

    async def renew(self) -> None:
        """Keep the identities from being forgotten; costs nothing while none of them is old.

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
        async for attempt in attempts(_may_be_taken, TAKE_SECONDS, first=0.05, longest=2.0):
            with attempt:
                lease = await _init(producer, identity)
                fence = Record(self._changelog, partition, FENCE_KEY, None)
                await deliver(producer, fill(producer, [fence], {partition: lease}))
                return lease
        raise AssertionError("unreachable")


def _may_be_taken(error: BaseException) -> bool:
    """Whether it is worth trying again: not after a refusal, and a rival's newer epoch is taken over in turn."""
    return isinstance(error, KafkaError) and (
        error.retriable or isinstance(error, (ConcurrentTransactions, ProducerFenced))
    )


async def _init(producer: AIOKafkaProducer, identity: str, expected: tuple[int, int] = (-1, -1)) -> Lease:
    """The next epoch; if somebody else has `expected`'s place already, ProducerFenced or InvalidProducerEpoch."""
    client = producer.client
    node = await client.coordinator_lookup(CoordinationType.TRANSACTION, identity)
    request = _InitProducerId(identity, *expected)
    answer = await client.send(node, request, group=ConnectionGroup.COORDINATION)
    error = for_code(answer.error_code)
    if error is not NoError:
        raise error(f"the producer identity {identity!r}")
    return Lease(identity, answer.producer_id, answer.producer_epoch)


async def _renewed(producer: AIOKafkaProducer, lease: Lease) -> Lease:
    try:
        return await _init(producer, lease.identity, (lease.producer, lease.epoch))
    except (ProducerFenced, InvalidProducerEpoch) as error:
        raise Fenced(f"{lease.identity} has been taken over by another worker") from error
    except KafkaError as error:
        # the lease is as good as before; the embedded broker cannot renew, and forgets no identity either
        log.info("a lease could not be renewed", identity=lease.identity, error=repr(error))
        lease.since = time.monotonic()
        return lease
