from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from beliefstream.streams.client import PosteriorConsumer
from beliefstream.streams.client.producers import Place
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.streams.client.topics import PATIENCE, QUIET, drain, posterior, put, sequences


def test_posteriors_are_read_from_the_beginning_with_their_types(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    sent = [posterior(1), posterior(2), posterior(3)]
    put(raw, topics.posteriors, *sent)
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, from_beginning=True, timeout=PATIENCE
    ) as found:
        assert [next(found), next(found), next(found)] == sent


def test_a_consumer_begins_where_the_topic_ended_when_it_was_made(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 11)))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors) as consumer:
        put(raw, topics.posteriors, posterior(11))  # before the first read
        assert sequences(drain(consumer, 1)) == [11]


def test_only_the_entities_asked_for_are_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    for number in range(1, 4):
        put(
            raw, topics.posteriors, *(posterior(number, entity) for entity in ("a", "b", "c")), partition=None
        )
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, entities=["a", "c"], from_beginning=True
    ) as consumer:
        found = drain(consumer, 6)
    assert sorted((each.entity, each.sequence) for each in found) == [
        (entity, number) for entity in ("a", "c") for number in (1, 2, 3)
    ]


def test_an_iteration_ends_after_the_timeout_and_may_be_taken_up_again(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    with PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, from_beginning=True, timeout=5 * QUIET
    ) as consumer:
        assert sequences(list(consumer)) == [1]
        assert list(consumer) == []
        put(raw, topics.posteriors, posterior(2))
        assert sequences(list(consumer)) == [2]


def test_a_poll_gives_out_no_more_than_asked_for(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 6)))
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert sequences(consumer.poll(PATIENCE, most=2)) == [1, 2]
        assert sequences(consumer.poll(0, most=10)) == [3, 4, 5]
        assert consumer.poll(0) == []


def test_a_record_that_is_no_posterior_is_logged_and_passed_over(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, posterior(1))
    for value in (b"{", None, b'{"entity":"mower"}'):
        raw.send(topics.posteriors, key=b"mower", value=value, partition=0)
    put(raw, topics.posteriors, posterior(2))
    with (
        capture_logs() as logs,
        PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer,
    ):
        assert sequences(drain(consumer, 2)) == [1, 2]
    assert [(entry["offset"], entry["reason"]) for entry in logs if "offset" in entry] == [
        (1, "not_json"),
        (2, "not_json"),
        (3, "invalid"),
    ]


def test_what_was_sent_twice_is_given_out_once(broker: Broker, topics: TopicNames, raw: Any) -> None:
    first, other = posterior(1), posterior(1, "other")
    second = posterior(2)
    third, revised = posterior(3), posterior(3, revision=1)
    put(raw, topics.posteriors, first, first, second, other, second, third, revised, third, second, other)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 5) == [first, second, other, third, revised]


def test_what_was_sent_again_with_more_observations_is_given_out(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    less, more = posterior(2), posterior(2, applied=("0:2", "0:3"), time=3.0)
    put(raw, topics.posteriors, less, more, more)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 2) == [less, more]


def test_a_belief_begun_anew_is_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    sent = [posterior(1), posterior(2), posterior(3), posterior(1, time=100.0), posterior(2, time=101.0)]
    put(raw, topics.posteriors, *sent)
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors, from_beginning=True) as consumer:
        assert drain(consumer, 5) == sent


def test_the_answer_to_one_observation_is_returned_or_its_absence_told(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    with PosteriorConsumer(broker.bootstrap_servers, topics.posteriors) as consumer:
        answers = [
            posterior(number, applied=(name,)) for number, name in ((1, "3:6"), (2, "3:7"), (3, "own"))
        ]
        put(raw, topics.posteriors, *answers)
        assert consumer.answer(Place("observations", 3, 7), PATIENCE) == answers[1]
        assert consumer.answer("own", PATIENCE) == answers[2]
        with pytest.raises(TimeoutError, match=r"observation 3:8 within 0\.1 s"):
            consumer.answer(Place("observations", 3, 8), timeout=0.1)
