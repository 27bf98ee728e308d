"""Who takes a partition shuts out whoever had it before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced

from beliefstream.streams.kafka.producing import Record, deliver, pack_batches, send_all
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.state import fencing
from beliefstream.streams.state.fencing import Fenced, Fencing
from tests.brokers import Broker, KafkaNode
from tests.conftest import Names
from tests.streams.workers import Reading

PARTITION = 2


class Owner:
    """A worker as the broker sees it."""

    def __init__(self, producer: AIOKafkaProducer, names: Names) -> None:
        async def given() -> AIOKafkaProducer:
            return producer

        self.producer, self._names = producer, names
        self.fencing = Fencing(names.app_id, names.topics.beliefs_changelog, given)

    def record(self, value: bytes) -> Record:
        return Record(self._names.topics.beliefs_changelog, PARTITION, b"boat", value)

    async def write(self, value: bytes) -> None:
        await send_all(self.producer, [self.record(value)], self.fencing.leases)


@asynccontextmanager
async def owner(broker: Broker, names: Names) -> AsyncIterator[Owner]:
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all")
    await producer.start()
    try:
        yield Owner(producer, names)
    finally:
        await producer.stop()


def with_two(broker: Broker, names: Names, act: Callable[[Owner, Owner], Awaitable[None]]) -> list[bytes]:
    """What the changelog holds after `act`, without fences."""

    async def acting() -> None:
        async with owner(broker, names) as first, owner(broker, names) as second:
            await act(first, second)

    create(broker.bootstrap_servers, names.topics, partitions=4)
    asyncio.run(acting())
    reading = Reading(broker.bootstrap_servers, names.topics.beliefs_changelog)
    try:
        reading.wait_for(lambda records: records and records[-1].value == b"last", 30, "all is read")
        return [record.value for record in reading.records if record.key != fencing.FENCE_KEY]
    finally:
        reading.close()


def test_a_former_owner_is_refused(broker: Broker, names: Names) -> None:
    async def act(first: Owner, second: Owner) -> None:
        await first.fencing.take([0, PARTITION])
        await first.write(b"1")
        await first.write(b"2")
        await second.fencing.take([PARTITION])
        # the embedded broker has no better word for it than an unknown error
        with pytest.raises(ProducerFenced if not broker.is_embedded else KafkaError):
            await first.write(b"zombie")
        await second.write(b"3")
        await first.fencing.take([PARTITION])
        with pytest.raises(KafkaError):
            await second.write(b"zombie")
        await first.write(b"last")

    assert with_two(broker, names, act) == [b"1", b"2", b"3", b"last"]


def test_a_batch_that_is_delivered_twice_is_there_once(broker: Broker, names: Names) -> None:
    async def act(first: Owner, second: Owner) -> None:
        await first.fencing.take([PARTITION])
        batches = pack_batches(first.producer, [first.record(b"1"), first.record(b"2")], first.fencing.leases)
        place = TopicPartition(names.topics.beliefs_changelog, PARTITION)
        assert await deliver(first.producer, batches) == {place: 2}
        batches[place][0].delivered = False  # as if the answer had been lost
        await deliver(first.producer, batches)
        await first.write(b"last")

    assert with_two(broker, names, act) == [b"1", b"2", b"last"]


@pytest.mark.kafka
def test_only_the_owner_can_renew(
    kafka_broker: KafkaNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fencing, "RENEW_SECONDS", 0.0)

    async def act(first: Owner, second: Owner) -> None:
        await first.fencing.take([PARTITION])
        await first.write(b"1")
        epoch = first.fencing.leases[PARTITION].epoch
        await first.fencing.renew()
        assert first.fencing.leases[PARTITION].epoch == epoch + 1
        await first.write(b"2")
        await second.fencing.take([PARTITION])
        with pytest.raises(Fenced):
            await first.fencing.renew()
        await second.fencing.renew()
        await second.write(b"last")

    assert with_two(kafka_broker, names, act) == [b"1", b"2", b"last"]


def test_a_lease_that_is_not_old_is_not_renewed(broker: Broker, names: Names) -> None:
    async def act(first: Owner, second: Owner) -> None:
        await first.fencing.take([PARTITION])
        leases = first.fencing.leases
        await first.fencing.renew()
        assert first.fencing.leases is leases
        await first.write(b"last")

    assert with_two(broker, names, act) == [b"last"]
