"""What the consumer notes of commits and seeks, with aiokafka and a broker beneath it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import GroupAuthorizationFailedError
from faust.types import TP

from beliefstream.streams.kafka.faust.consumer import SafeConsumer, use_safe_consumer
from beliefstream.streams.kafka.faust.recovery import SafeTableManager
from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import Names

RECORDS = 5


@asynccontextmanager
async def consuming(
    broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[SafeConsumer, AIOKafkaConsumer, TP]]:
    """A worker's consumer, without its thread and its worker, that has read all records of one partition."""
    create(broker.bootstrap_servers, names.topics, partitions=1)
    place = TP(names.topics.observations, 0)
    async with AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number in range(RECORDS):
            await producer.send_and_wait(place.topic, b"%d" % number, partition=place.partition)
    app = faust.App(names.app_id, broker=f"kafka://{broker.bootstrap_servers}", TableManager=SafeTableManager)
    app.topic(place.topic)
    use_safe_consumer(app)
    consumer: Any = app.consumer
    reader = AIOKafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        group_id=names.app_id,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await reader.start()
    try:
        reader.assign([TopicPartition(*place)])
        read: list[Any] = []
        async with asyncio.timeout(30):
            while len(read) < RECORDS:
                read += [each for part in (await reader.getmany(timeout_ms=500)).values() for each in part]

        async def call_here(method: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            return await found if isinstance(found, Awaitable) else found

        monkeypatch.setattr(consumer._thread, "_consumer", reader)
        monkeypatch.setattr(consumer._thread, "call_thread", call_here)
        monkeypatch.setattr(app.topics, "acks_enabled_for", lambda topic: True)
        yield consumer, reader, place
    finally:
        await reader.stop()
        close_loop(consumer)


def close_loop(consumer: Any) -> None:
    """Of its thread, which never starts here: Faust has made it, and closes it when a thread ends."""
    consumer._thread.thread_loop.close()


async def commit_all(consumer: SafeConsumer, place: TP) -> bool:
    consumer._acked[place].extend(range(RECORDS))
    done: bool = await consumer.force_commit()
    return done


def refuse(reader: AIOKafkaConsumer) -> None:
    """The broker does, for it knows no such member of the group, as after a rebalance."""
    reader._coordinator.generation, reader._coordinator.member_id = 7, "one-of-before"


def test_after_a_refused_first_commit_the_partition_is_read_from_its_beginning(
    embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with consuming(embedded_broker, names, monkeypatch) as (consumer, reader, place):
            refuse(reader)
            assert not await commit_all(consumer, place)
            assert consumer._committed_offset[place] is None
            await consumer.perform_seek()
            assert await reader.position(TopicPartition(*place)) == 0
            assert await commit_all(consumer, place)
            assert consumer.committed == {place: RECORDS}
            await consumer.perform_seek()
            assert await reader.position(TopicPartition(*place)) == RECORDS

    asyncio.run(run())


def test_what_a_refused_commit_held_goes_with_the_next_one(
    embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run() -> None:
        async with consuming(embedded_broker, names, monkeypatch) as (consumer, reader, place):
            for acknowledged in ([0, 1], [2]):
                consumer._acked[place].extend(acknowledged)
                refuse(reader)
                assert not await consumer.force_commit()
            assert await consumer.force_commit()
            assert consumer.committed == {place: 3}
            consumer._acked[place].append(3)
            refuse(reader)
            assert not await consumer.force_commit()
            consumer._acked[place].append(4)
            assert await consumer.force_commit()
            assert consumer.committed == {place: 5} == consumer._committed_offset

    asyncio.run(run())


def test_offsets_that_the_broker_has_lost_are_not_taken_for_committed(
    embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of a group that was away for longer than `offsets.retention.minutes`."""

    async def run() -> None:
        async with consuming(embedded_broker, names, monkeypatch) as (consumer, reader, place):
            consumer._committed_offset[place] = RECORDS
            await consumer.perform_seek()
            assert await reader.position(TopicPartition(*place)) == 0
            assert consumer._committed_offset[place] is None

    asyncio.run(run())


def test_what_was_acknowledged_before_an_assignment_does_not_count_in_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def run() -> int | None:
        app = faust.App("acks", broker="kafka://127.0.0.1:1", TableManager=SafeTableManager)
        use_safe_consumer(app)
        consumer: Any = app.consumer

        async def assigned(*_: Any) -> None:
            pass

        monkeypatch.setattr(consumer, "_on_partitions_assigned", assigned)
        monkeypatch.setattr(app, "on_rebalance_return", lambda: None)
        place = TP("observations", 0)
        # after Faust has emptied its lists, while the partition was taken away
        consumer._acked[place].append(3)
        await consumer.on_partitions_assigned({place}, 2)
        consumer._acked[place].extend([0, 1, 2])
        offset: int | None = consumer._new_offset(place)
        close_loop(consumer)
        return offset

    assert asyncio.run(run()) == 3


def test_a_commit_that_fails_for_good_stops_the_worker(
    embedded_broker: EmbeddedNode, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Faust crashes there, and may hang."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)

    async def forbidden(*_: Any) -> None:
        raise GroupAuthorizationFailedError("of somebody else")

    async def run() -> None:
        async with consuming(embedded_broker, names, monkeypatch) as (consumer, reader, place):
            monkeypatch.setattr(reader, "commit", forbidden)
            assert not await commit_all(consumer, place)

    asyncio.run(run())
    assert ended == [70]
