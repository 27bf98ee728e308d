"""How the page reads topics."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.live import reading
from beliefstream.streams.live.posteriors import read_posteriors
from beliefstream.streams.live.reading import Batch, TopicsReader
from tests.brokers import EmbeddedNode
from tests.http_answers import PATIENCE
from tests.streams.client.topics import posterior, put


def test_the_health_of_a_removed_sensor_is_read_as_such_and_moves_no_clock(
    embedded_broker: EmbeddedNode, topics: TopicNames
) -> None:
    reader = TopicsReader(embedded_broker.bootstrap_servers, topics, kept=1)

    async def read() -> Batch:
        await reader.start()
        whole = Batch()
        try:
            async with asyncio.timeout(PATIENCE):
                while whole.sensor_health.keys() < {(0, b"gone"), (1, b"stays")}:
                    batch = await reader.collect(0.5)
                    whole.sensor_health |= batch.sensor_health
                    whole.health_stamps |= batch.health_stamps
        finally:
            await reader.close()
        return whole

    producer = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers)
    for partition, key, value, stamp in ((0, b"gone", None, 9000), (1, b"stays", b"{}", 2000)):
        producer.send(topics.sensor_health, value, key, partition=partition, timestamp_ms=stamp)
    producer.flush()
    producer.close()
    found = asyncio.run(read())
    assert found.sensor_health == {(0, b"gone"): None, (1, b"stays"): b"{}"}
    assert found.health_stamps == {1: 2.0}


def test_the_next_records_are_asked_for_before_these_are_decoded(
    embedded_broker: EmbeddedNode, topics: TopicNames, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker waits for records meanwhile, so that frames come more often."""
    servers, asked = embedded_broker.bootstrap_servers, list[bool]()
    reader = TopicsReader(servers, topics, kept=1)

    def decode_and_note(raws: Any) -> Any:
        asked.append(bool(reader._consumers[0]._fetcher._in_flight))
        return read_posteriors(raws)

    async def read() -> Batch:
        await reader.start()
        try:
            async with asyncio.timeout(PATIENCE):
                while not (batch := await reader.collect(0.5)).posteriors:
                    pass
                return batch
        finally:
            await reader.close()

    monkeypatch.setattr(reading, "read_posteriors", decode_and_note)
    producer = KafkaProducer(bootstrap_servers=servers)
    put(producer, topics.posteriors, posterior(1))
    producer.close()
    batch = asyncio.run(read())
    assert batch.received == 1
    assert asked == [True]
