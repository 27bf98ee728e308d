"""The ids of topics and their partitions, on both brokers."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import UnsupportedVersionError
from aiokafka.protocol.metadata import MetadataRequest
from kafka import KafkaAdminClient

from beliefstream.streams.kafka.reachability import TopicState, changes, topic_states
from beliefstream.streams.kafka.topics import create
from tests.brokers import Broker, KafkaNode
from tests.conftest import Names
from tests.streams.kafka.test_connections import with_producer
from tests.streams.workers import add_partitions, make_again


def test_they_are_those_that_the_broker_tells_an_administrator(broker: Broker, names: Names) -> None:
    servers, chosen = broker.bootstrap_servers, names.topics
    create(servers, chosen, partitions=4)

    async def ask(producer: AIOKafkaProducer) -> dict[str, TopicState]:
        return await topic_states(producer.client, [chosen.observations, chosen.priors])

    admin = KafkaAdminClient(bootstrap_servers=servers)
    described = admin.describe_topics([chosen.observations, chosen.priors])
    admin.close()
    asked = {each["name"]: TopicState(str(each["topic_id"]), 4) for each in described}
    assert with_producer(broker, ask) == asked
    assert len({state.id for state in asked.values()}) == 2


def test_a_topic_that_is_made_again_has_another_and_one_that_is_not_there_none(
    broker: Broker, names: Names
) -> None:
    chosen = names.topics
    create(broker.bootstrap_servers, chosen, partitions=1)
    asked = [chosen.observations, chosen.priors, "nobody"]

    async def ask(producer: AIOKafkaProducer) -> tuple[dict[str, TopicState], dict[str, TopicState]]:
        before = await topic_states(producer.client, asked)
        await asyncio.to_thread(make_again, broker.bootstrap_servers, chosen, chosen.observations, 1)
        return before, await topic_states(producer.client, asked)

    before, after = with_producer(broker, ask)
    assert before.keys() == after.keys() == {chosen.observations, chosen.priors}
    assert changes(before, after) == [f"{chosen.observations!r} was deleted and created again"]
    assert changes(before, {}) == []


@pytest.mark.kafka
def test_partitions_that_were_added_are_a_change(kafka_broker: KafkaNode, names: Names) -> None:
    topic = names.topics.observations
    create(kafka_broker.bootstrap_servers, names.topics, partitions=2)

    async def ask(producer: AIOKafkaProducer) -> list[str]:
        before = await topic_states(producer.client, [topic])
        await asyncio.to_thread(add_partitions, kafka_broker.bootstrap_servers, topic, 3)
        return changes(before, await topic_states(producer.client, [topic]))

    assert with_producer(kafka_broker, ask) == [f"{topic!r} has 3 partitions now, not 2"]


def test_a_broker_that_does_not_know_them_is_refused(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=1)

    async def ask(producer: AIOKafkaProducer) -> None:
        await producer.client.force_metadata_update()
        for connection in producer.client._conns.values():
            # as a broker of before Kafka 3.1 has them
            connection._versions[MetadataRequest.API_KEY] = (0, 11)
        with pytest.raises(UnsupportedVersionError, match=r"Kafka 3\.1 or later"):
            await topic_states(producer.client, [names.topics.observations])

    with_producer(broker, ask)
