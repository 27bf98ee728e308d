"""Where a consumer of posteriors starts, and when it has caught up."""

from __future__ import annotations

from typing import Any

import pytest

from beliefstream.streams.client import PosteriorConsumer
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.conftest import eventually
from tests.streams.client.topics import PATIENCE, drain, posterior, put, sequences


def test_the_last_records_of_each_partition_are_read_first(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 11)), partition=0)
    put(raw, topics.posteriors, *(posterior(number, "other") for number in range(1, 3)), partition=1)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, last=3) as consumer:
        put(raw, topics.posteriors, posterior(11))
        found = drain(consumer, 6)
    assert sequences([each for each in found if each.entity == "mower"]) == [8, 9, 10, 11]
    assert sequences([each for each in found if each.entity == "other"]) == [1, 2]  # there are no more


def test_a_group_starts_before_the_end_once_and_then_goes_on(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 6)))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, "watchers", last=2) as consumer:
        assert sequences(drain(consumer, 2)) == [4, 5]
    put(raw, topics.posteriors, posterior(6))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, "watchers", last=2) as consumer:
        assert sequences(drain(consumer, 1)) == [6]


def test_it_has_caught_up_when_all_that_was_there_has_been_given_out(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 6)), partition=0)
    put(raw, topics.posteriors, posterior(1, "other"), partition=2)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        found: list[str] = []
        while len(found) < 6:
            assert not consumer.caught_up, found
            found += [each.entity for each in consumer.poll(PATIENCE, most=1)]
        assert consumer.caught_up
        put(raw, topics.posteriors, posterior(6))  # came later, so it does not count
        assert consumer.caught_up


def test_a_member_of_a_group_has_not_caught_up_before_it_has_partitions(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, "watchers", from_beginning=True
    ) as consumer:
        assert not consumer.caught_up
        assert sequences(drain(consumer, 1)) == [1]
        assert consumer.caught_up


def test_it_has_caught_up_at_once_where_nothing_was_there(broker: Broker, topics: TopicNames) -> None:
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert consumer.caught_up


@pytest.mark.parametrize("last", [None, 2])
def test_it_has_caught_up_beyond_records_that_are_not_given_out(
    last: int | None, broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    for value in (b"{", None, b"7"):
        raw.send(topics.posteriors, key=b"mower", value=value, partition=0)
    raw.flush()
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, from_beginning=last is None, last=last
    ) as consumer:

        def caught_up() -> bool:
            consumer.poll(0.2)
            return consumer.caught_up

        eventually(caught_up, PATIENCE, "it has caught up")
