"""Observations of a topic as a recording, on real brokers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.schemas import Observation, Reason
from beliefstream.streams.fitting.stored import Part, Refusals, Stored, read_observations
from beliefstream.streams.kafka import topics
from beliefstream.streams.kafka.connection import TopicReader
from tests.brokers import Broker
from tests.conftest import Names

Read = Callable[..., Stored]


@pytest.fixture
def refusals() -> Refusals:
    return Refusals()


@pytest.fixture
def read(broker: Broker, names: Names, refusals: Refusals) -> Read:
    """Reads a topic of ten observations of two entities, in two partitions, among three messages that are none."""
    topics.create(broker.bootstrap_servers, names.topics, partitions=2)
    topic = names.topics.observations
    raw: Any = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    for time in range(10):
        entity = ("anna", "bert")[time % 2]
        value = Observation(entity=entity, sensor="gps", time=float(time), value=[0.0, 0.0]).to_json()
        raw.send(topic, key=entity.encode(), value=value, partition=time % 2)
    raw.send(topic, key=b"anna", value=b"{", partition=0)
    raw.send(topic, key=b"anna", value=b"no", partition=0)
    raw.send(topic, key=b"carl", value=value, partition=1)
    raw.flush()
    raw.close()

    def call(*part: Any, **options: Any) -> Stored:
        return read_observations(
            broker.bootstrap_servers, topic, part=Part(*part), refusals=refusals, **options
        )

    return call


def times(stored: Stored) -> list[float]:
    return sorted(each.observation.time for each in stored.found if isinstance(each.observation, Observation))


def test_all_of_a_topic_is_read_and_what_is_no_observation_is_counted(read: Read, refusals: Refusals) -> None:
    stored = read(100)
    assert (times(stored), stored.records, stored.older, stored.unread) == (list(range(10)), 13, 0, [])
    assert refusals.counts == {Reason.not_json: 2, Reason.key_mismatch: 1}
    assert refusals.first[Reason.not_json].place.endswith(" 0:5")
    assert times(read(100)) == list(range(10))  # no group remembers that it was read


def test_the_newest_are_kept_of_what_is_asked_for(read: Read) -> None:
    stored = read(3)
    assert (times(stored), stored.older) == ([7.0, 8.0, 9.0], 7)
    assert times(read(100, ["bert"])) == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert times(read(100, ["bert"], 4.5)) == [5.0, 7.0, 9.0]


def test_what_could_not_be_read_in_time_is_named(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = TopicReader.read

    def some(self: TopicReader, *arguments: Any) -> Iterator[Any]:
        """One record, and then an end of patience."""
        yield next(whole(self, *arguments))
        yield from whole(self, arguments[0], -1.0)

    monkeypatch.setattr(TopicReader, "read", some)
    stored = read(100)
    assert len(stored.found) == 1
    assert sorted(each.partition(" ")[2] for each in stored.unread) in (
        ["from 0 to 5", "from 1 to 6"],
        ["from 0 to 6", "from 1 to 5"],
    )
