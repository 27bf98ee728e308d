from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import MessageSizeTooLargeError
from kafka import KafkaConsumer

from beliefstream.streams.kafka.producing import Record, send_all
from beliefstream.streams.kafka.topics import create
from tests.brokers import Broker
from tests.conftest import Names


def send(
    broker: Broker, records: list[Record], times: int = 1, **settings: object
) -> dict[TopicPartition, int]:
    async def sending() -> dict[TopicPartition, int]:
        producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", **settings)
        await producer.start()
        try:
            for _ in range(times):
                offsets = await send_all(producer, records)
            return offsets
        finally:
            await producer.stop()

    return asyncio.run(sending())


def received(broker: Broker, topic: str, count: int) -> list[Record]:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=30_000,
    )
    found = []
    for message in consumer:
        found.append(Record(topic, message.partition, message.key, message.value, tuple(message.headers)))
        if len(found) == count:
            break
    consumer.close()
    return found


def of_partition(records: list[Record], topic: str, partition: int) -> list[Record]:
    return [record for record in records if (record.topic, record.partition) == (topic, partition)]


def test_every_record_arrives_in_order_with_its_headers(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=4)
    topics = (names.topics.posteriors, names.topics.beliefs_changelog)
    # 500 bytes each, so that a batch of 16 KB is split many times.
    records = [
        Record(topics[i % 2], i % 3, b"entity %d" % i, b"%0500d" % i, (("ce_id", b"%d" % i),))
        for i in range(3000)
    ]
    offsets = send(broker, records)
    assert offsets == {TopicPartition(topic, partition): 499 for topic in topics for partition in range(3)}
    for topic in topics:
        found = received(broker, topic, 1500)
        for partition in range(3):
            assert of_partition(found, topic, partition) == of_partition(records, topic, partition)


def test_offsets_go_on_from_one_call_to_the_next(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    records = [Record(names.topics.posteriors, 5, b"a", b"1")] * 7
    assert send(broker, records, times=3) == {TopicPartition(names.topics.posteriors, 5): 20}


def test_large_records_keep_their_place(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    sizes = [10, 200_000, 10, 10, 60_000, 3_000_000, 40_000, 10]
    topic = names.topics.posteriors
    records = [Record(topic, 0, b"%d" % i, b"x" * size) for i, size in enumerate(sizes)]
    assert send(broker, records, max_request_size=4_000_000) == {TopicPartition(topic, 0): 7}
    assert received(broker, topic, 8) == records


def test_record_without_value_deletes_and_one_without_key_is_sent(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    changelog, posteriors = names.topics.beliefs_changelog, names.topics.posteriors
    send(broker, [Record(changelog, 0, b"boat", None), Record(posteriors, 0, None, b"1")])
    assert received(broker, changelog, 1)[0].value is None
    assert received(broker, posteriors, 1)[0].key is None


def test_record_the_producer_refuses_raises_before_any_is_sent(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    topic = names.topics.posteriors
    records = [
        Record(topic, 0, b"a", b"1"),
        Record(topic, 0, b"b", b"x" * 2_000_000),
        Record(topic, 1, b"c", b"3"),
    ]
    with pytest.raises(MessageSizeTooLargeError):
        send(broker, records, max_request_size=1_000_000)
    assert send(broker, records[:1]) == {TopicPartition(topic, 0): 0}


@pytest.mark.kafka
def test_record_the_broker_refuses_raises(kafka_broker: Broker, names: Names) -> None:
    create(kafka_broker.bootstrap_servers, names.topics)
    record = Record(names.topics.posteriors, 0, b"a", b"x" * 14_000_000)
    with pytest.raises(MessageSizeTooLargeError):
        send(kafka_broker, [record], max_request_size=16_000_000)


def test_nothing_to_send_is_nothing(broker: Broker) -> None:
    assert send(broker, []) == {}
