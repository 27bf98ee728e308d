"""Consumers whose broker has gone away while they read can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from beliefstream.streams.kafka.aiokafka_clients import client_of, connected_nodes, stop_consumer
from beliefstream.streams.kafka.faust.watermarks import ConsumerThread
from beliefstream.streams.kafka.topics import create
from tests.brokers import EmbeddedNode
from tests.conftest import Names

PATIENCE = 30.0  # seconds


async def stopped_without_broker(
    names: Names, caplog: pytest.LogCaptureFixture, stop: Callable[[AIOKafkaConsumer], Awaitable[None]]
) -> AIOKafkaConsumer:
    """Stop a consumer with `stop` while it waits to fetch again; returns it."""
    with EmbeddedNode() as broker:
        create(broker.bootstrap_servers, names.topics, partitions=1)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=broker.bootstrap_servers,
            auto_offset_reset="earliest",
            retry_backoff_ms=1000 * int(PATIENCE),
        )
        await consumer.start()
        consumer.assign([TopicPartition(names.topics.observations, 0)])
        await consumer.getmany(timeout_ms=200)
    async with asyncio.timeout(PATIENCE):
        while "Failed fetch messages" not in caplog.text:
            await asyncio.sleep(0.02)
        await stop(consumer)
    return consumer


def test_a_consumer_without_its_broker_stops(names: Names, caplog: pytest.LogCaptureFixture) -> None:
    consumer = asyncio.run(stopped_without_broker(names, caplog, stop_consumer))
    assert connected_nodes(client_of(consumer)) == []


def test_aiokafka_alone_says_that_whoever_stops_it_was_cancelled(
    names: Names, caplog: pytest.LogCaptureFixture
) -> None:
    """When this fails, `stop_consumer` is not needed any more."""
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped_without_broker(names, caplog, AIOKafkaConsumer.stop))


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_consumers_thread_ends_early_only_if_it_is_cancelled_itself(
    monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    stopping: list[asyncio.Future[None]] = []

    async def wait(_: AIOKafkaConsumerThread) -> None:
        fetch = asyncio.ensure_future(asyncio.sleep(PATIENCE))
        asyncio.get_running_loop().call_soon((stopping[0] if cancelled else fetch).cancel)
        await fetch

    async def stop() -> None:
        stopping.append(asyncio.ensure_future(ConsumerThread.on_thread_stop(thread)))
        await stopping[0]

    thread = ConsumerThread.__new__(ConsumerThread)
    monkeypatch.setattr(AIOKafkaConsumerThread, "on_thread_stop", wait)
    if not cancelled:
        asyncio.run(stop())
        return
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stop())
