from __future__ import annotations

import time
from dataclasses import replace

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import MessageSizeTooLargeError

from beliefstream.streams.kafka.topics import (
    DEAD_LETTER_BYTES,
    MESSAGE_BYTES,
    TopicError,
    TopicNames,
    check,
    create,
)
from beliefstream.streams.local.broker import free_port
from tests.brokers import Broker
from tests.conftest import Names

TEN_MEGABYTES = 10_000_000
BOMB_BYTES = 40_000_000


def make(broker: Broker, *topics: NewTopic) -> None:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        client.create_topics(list(topics))
    finally:
        client.close()


def test_created_topics_pass_the_check_and_are_not_created_twice(broker: Broker, names: Names) -> None:
    assert create(broker.bootstrap_servers, names.topics) == list(names.topics)
    assert check(broker.bootstrap_servers, names.topics) == []
    assert create(broker.bootstrap_servers, names.topics) == []
    assert check(broker.bootstrap_servers, names.topics) == []


def test_only_what_is_missing_is_created(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=2)
    renamed = replace(names.topics, priors=f"{names.topics.priors}-new")
    assert create(broker.bootstrap_servers, renamed, partitions=2) == [renamed.priors]


def test_missing_topics_are_named(broker: Broker, names: Names) -> None:
    problems = check(broker.bootstrap_servers, names.topics)
    assert problems == [f"The topic {name!r} does not exist." for name in names.topics]


def test_wrong_number_of_partitions_is_found(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics, partitions=4)
    assert check(broker.bootstrap_servers, names.topics, partitions=4) == []
    assert check(broker.bootstrap_servers, names.topics, partitions=None) == []
    problems = check(broker.bootstrap_servers, names.topics, partitions=8)
    assert f"The topic {names.topics.observations!r} has 4 partitions instead of 8." in problems
    assert len(problems) == 6  # sensors and models have one, and should


def test_unequal_partitions_are_found(broker: Broker, names: Names) -> None:
    make(broker, NewTopic(names.topics.priors, num_partitions=3, replication_factor=1))
    make(broker, NewTopic(names.topics.dead_letters, num_partitions=1, replication_factor=1))
    create(broker.bootstrap_servers, names.topics, partitions=4)
    problems = check(broker.bootstrap_servers, names.topics, partitions=None)
    assert any(
        "the same number of partitions" in problem and f"{names.topics.priors!r} 3" in problem
        for problem in problems
    )
    assert any("has fewer partitions than" in problem for problem in problems)


def test_topic_that_is_not_compacted_is_found(broker: Broker, names: Names) -> None:
    both = {"cleanup.policy": "compact,delete"}
    make(broker, NewTopic(names.topics.sensors, num_partitions=1, replication_factor=1))
    make(broker, NewTopic(names.topics.models, num_partitions=1, replication_factor=1, topic_configs=both))
    create(broker.bootstrap_servers, names.topics)
    problems = [text for text in check(broker.bootstrap_servers, names.topics) if "compact" in text]
    assert [names.topics.sensors in problems[0], names.topics.models in problems[1]] == [True, True]


def test_topic_that_takes_small_messages_only_is_found(broker: Broker, names: Names) -> None:
    small = {"max.message.bytes": "1000000"}
    make(
        broker,
        NewTopic(names.topics.observations, num_partitions=8, replication_factor=1, topic_configs=small),
    )
    create(broker.bootstrap_servers, names.topics)
    problems = check(broker.bootstrap_servers, names.topics)
    assert problems == [
        f"The topic {names.topics.observations!r} accepts messages up to 1000000 bytes (max.message.bytes) instead "
        f"of {MESSAGE_BYTES}."
    ]


def test_ten_megabytes_pass_observations_and_their_dead_letter_too(broker: Broker, names: Names) -> None:
    create(broker.bootstrap_servers, names.topics)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, max_request_size=DEAD_LETTER_BYTES)
    value = b"0" * TEN_MEGABYTES
    producer.send(names.topics.observations, key=b"boat", value=value).get(30)
    headers = [("beliefstream_reason", b"too_large")]
    producer.send(names.topics.dead_letters, key=b"boat", value=value, headers=headers).get(30)
    producer.close()
    consumer = KafkaConsumer(
        names.topics.dead_letters,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        group_id=None,
        consumer_timeout_ms=30_000,
    )
    letter = next(consumer)
    consumer.close()
    assert (len(letter.value), letter.headers) == (TEN_MEGABYTES, headers)


@pytest.mark.kafka
def test_a_batch_that_unpacks_to_more_than_a_message_may_be_is_refused(
    kafka_broker: Broker, names: Names
) -> None:
    servers = kafka_broker.bootstrap_servers
    create(servers, names.topics, partitions=1)
    as_it_comes = f"{names.topics.observations}-as-it-comes"
    limit = {"max.message.bytes": str(MESSAGE_BYTES)}
    make(kafka_broker, NewTopic(as_it_comes, num_partitions=1, replication_factor=1, topic_configs=limit))
    producer = KafkaProducer(
        bootstrap_servers=servers, compression_type="gzip", max_request_size=2 * BOMB_BYTES, retries=0
    )
    bomb = bytes(BOMB_BYTES)  # 40 kB as it is sent
    producer.send(as_it_comes, key=b"boat", value=bomb).get(30)  # a consumer gets all of it
    for topic in names.topics.read_by_workers:
        with pytest.raises(MessageSizeTooLargeError):
            producer.send(topic, key=b"boat", value=bomb).get(30)
    honest = producer.send(names.topics.observations, key=b"boat", value=b"0" * TEN_MEGABYTES)
    assert honest.get(30).offset == 0
    producer.close()


@pytest.mark.kafka
def test_refusal_is_told_in_the_brokers_words(kafka_broker: Broker, names: Names) -> None:
    with pytest.raises(TopicError, match=f"{names.topics.observations}: Unable to replicate"):
        create(kafka_broker.bootstrap_servers, names.topics, replication=3)


@pytest.mark.parametrize(
    ("host", "cause"), [("127.0.0.1", "the connection is refused"), ("nowhere.invalid", "cannot be resolved")]
)
def test_absent_broker_is_told_in_time(host: str, cause: str) -> None:
    started = time.monotonic()
    with pytest.raises(TopicError, match=f"no Kafka broker answers at {host}.*: .*{cause}"):
        check(f"{host}:{free_port()}")
    assert time.monotonic() - started < 30  # it tries for 3


def test_changelog_is_named_as_faust_names_it() -> None:
    assert TopicNames().beliefs_changelog == TopicNames.for_app("beliefstream").beliefs_changelog
    assert TopicNames.for_app("harbour", priors="p").beliefs_changelog == "harbour-beliefs-changelog"
