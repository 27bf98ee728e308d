"""Connections that break at the worst moment, under the loop that a worker runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaProducer, client
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError, UnsupportedVersionError
from aiokafka.protocol.metadata import MetadataRequest

from beliefstream.streams.kafka import reachability
from beliefstream.streams.kafka.aiokafka_clients import fault_of, use_safe_connections
from beliefstream.streams.kafka.topics import check, create
from tests.brokers import Broker, EmbeddedNode
from tests.conftest import Names

WAIT = 10.0  # seconds


@pytest.fixture
def safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AIOKafkaConnection, "send", AIOKafkaConnection.send)  # to be put back
    monkeypatch.setattr(client, "MetadataRequest", client.MetadataRequest)
    use_safe_connections()


def with_producer(broker: Broker, act: Callable[[AIOKafkaProducer], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        await producer.start()
        try:
            return await act(producer)
        finally:
            await producer.stop()

    return uvloop.run(run())


async def reset(producer: AIOKafkaProducer) -> AIOKafkaConnection:
    """One of its connections, of which only the transport knows yet that it is no more."""
    await producer.client.force_metadata_update()
    connection: AIOKafkaConnection = next(iter(producer.client._conns.values()))
    connection._writer.transport.abort()
    await asyncio.sleep(0)
    return connection


def test_a_write_to_a_closed_transport_is_a_broken_connection(
    embedded_broker: EmbeddedNode, safe: None
) -> None:
    async def act(producer: AIOKafkaProducer) -> None:
        connection = await reset(producer)
        with pytest.raises(KafkaConnectionError, match="closed"):
            connection.send(MetadataRequest([]))

    with_producer(embedded_broker, act)


def test_a_request_that_the_broker_does_not_know_is_no_broken_connection(
    embedded_broker: EmbeddedNode, safe: None
) -> None:
    """NotImplementedError is a RuntimeError too; a broker that is too old is said at once, not tried for a minute."""

    async def act(producer: AIOKafkaProducer) -> bool:
        await producer.client.force_metadata_update()
        for connection in producer.client._conns.values():
            connection._versions[MetadataRequest.API_KEY] = (0, 11)
        async with asyncio.timeout(WAIT):
            with pytest.raises(UnsupportedVersionError, match=r"Kafka 3\.1 or later"):
                await reachability.topic_states(producer.client, ["any"])
        return all(connection.connected() for connection in producer.client._conns.values())

    assert with_producer(embedded_broker, act)


def test_a_client_whose_metadata_nobody_keeps_is_found(embedded_broker: EmbeddedNode) -> None:
    async def act(producer: AIOKafkaProducer) -> tuple[str | None, str | None]:
        asked, before = producer.client, fault_of(producer.client)

        def broken(*_: object) -> None:
            raise RuntimeError("the handler is closed")

        asked._metadata_update = broken
        asked.force_metadata_update()
        async with asyncio.timeout(WAIT):
            await asyncio.wait([asked._sync_task])
        fault = fault_of(asked)
        asked._sync_task = None  # which the client would wait for at its end
        return before, fault

    assert with_producer(embedded_broker, act) == (None, "RuntimeError('the handler is closed')")
    assert fault_of(None) is None


def test_a_producer_goes_on_after_all_its_connections_were_reset(
    embedded_broker: EmbeddedNode, names: Names, safe: None
) -> None:
    create(embedded_broker.bootstrap_servers, names.topics, partitions=1)

    async def act(producer: AIOKafkaProducer) -> int:
        for _ in range(20):
            for connection in list(producer.client._conns.values()):
                connection._writer.transport.abort()
            await asyncio.sleep(0)
            async with asyncio.timeout(WAIT):
                sent = await producer.send_and_wait(names.topics.posteriors, b"still here", partition=0)
            assert fault_of(producer.client) is None
        return int(sent.offset)

    assert with_producer(embedded_broker, act) >= 19


def test_a_client_does_not_create_the_topic_it_asks_for(
    embedded_broker: EmbeddedNode, names: Names, safe: None
) -> None:
    """A changelog that a broker creates by itself has its own number of partitions, and is not compacted."""
    changelog = names.topics.beliefs_changelog

    async def act(producer: AIOKafkaProducer) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await producer.send_and_wait(changelog, b"a belief", partition=0)

    with_producer(embedded_broker, act)
    assert f"The topic {changelog!r} does not exist." in check(
        embedded_broker.bootstrap_servers, names.topics
    )
    assert changelog in create(embedded_broker.bootstrap_servers, names.topics, partitions=3)
    assert check(embedded_broker.bootstrap_servers, names.topics, partitions=3) == []
