"""The workers' group as the broker knows it, held against what members of a group did."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from beliefstream.streams.kafka.connection import find_partitions
from beliefstream.streams.kafka.topics import create
from beliefstream.streams.live.group import GroupReader, GroupState
from beliefstream.streams.local.broker import free_port
from tests.brokers import Broker, KafkaNode
from tests.conftest import Names, eventually

PATIENCE = 30.0  # seconds


@contextmanager
def opened(broker: Broker, names: Names) -> Iterator[GroupReader]:
    create(broker.bootstrap_servers, names.topics, partitions=2)
    read = (names.topics.observations, names.topics.priors)
    reader = GroupReader(broker.bootstrap_servers, names.app_id, read)
    try:
        yield reader
    finally:
        reader.close()


def send(broker: Broker, topic: str, count: int) -> None:
    """Each in a batch of its own: the end that the embedded broker tells may be within the last."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for number in range(count):
        producer.send(topic, value=b"x", partition=number % 2).get(PATIENCE)
    producer.close()


def wait_for(reader: GroupReader, **expected: Any) -> None:
    def reached() -> bool:
        state = reader.read()
        return all(getattr(state, name) == value for name, value in expected.items())

    eventually(reached, PATIENCE, f"{expected}; it is {reader.read()}")


def test_all_messages_wait_where_nobody_has_joined(broker: Broker, names: Names) -> None:
    with opened(broker, names) as reader:
        wait_for(reader, workers=0, lag=0, note="")
        send(broker, names.topics.observations, 10)
        wait_for(reader, workers=0, lag=10)
        assert reader.read({TopicPartition(names.topics.observations, 1): 9}).lag == 14


@pytest.mark.kafka
def test_lag_and_members_are_those_of_the_group(kafka_broker: KafkaNode, names: Names) -> None:
    topic = names.topics.observations
    with opened(kafka_broker, names) as reader:
        send(kafka_broker, topic, 10)
        member = KafkaConsumer(
            bootstrap_servers=kafka_broker.bootstrap_servers, group_id=names.app_id, enable_auto_commit=False
        )
        try:
            member.subscribe([topic])
            # a member that joins before it knows the partitions is assigned none, and stays so
            find_partitions(member, topic, kafka_broker.bootstrap_servers, PATIENCE)
            eventually(lambda: member.poll(timeout_ms=200) or member.assignment(), PATIENCE, "it has joined")
            member.commit({TopicPartition(topic, 0): OffsetAndMetadata(3, "", -1)})
            wait_for(reader, workers=1, lag=7, note="")
        finally:
            member.close()
        wait_for(reader, workers=0)


def test_a_broker_that_is_away_is_told() -> None:
    reader = GroupReader(f"127.0.0.1:{free_port()}", "nobody", ("observations",), bootstrap_timeout_ms=300)
    state = reader.read()
    assert (state.workers, state.lag) == (None, None)
    assert "127.0.0.1" in state.note
    assert GroupState().note
