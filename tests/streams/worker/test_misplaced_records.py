"""What is said of records in the wrong partition: all of them counted, few lines logged."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from beliefstream.streams.kafka.partitioners import CRC32, UNKNOWN
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.monitoring import metrics
from beliefstream.streams.worker.misplaced_records import QUIET_SECONDS, REMEMBERED, Misplaced, Placement
from tests.conftest import Names
from tests.streams.placements import LIBRDKAFKA, MURMUR2, PARTITIONS, placed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def placement(names: Names, clock: Clock) -> Placement:
    return Placement(names.topics, PARTITIONS, True, clock)


def checked(placement: Placement, topic: str, placements: list[tuple[bytes, int]]) -> list[Misplaced]:
    found = [
        placement.check(topic, key, partition, offset) for offset, (key, partition) in enumerate(placements)
    ]
    return [each for each in found if each is not None]


def counted(topic: str) -> float:
    value = metrics.REGISTRY.get_sample_value("beliefstream_misplaced_records_total", {"topic": topic})
    assert value is not None, "the series is there from the start"
    return value


def test_what_lies_where_it_belongs_is_none(placement: Placement, names: Names) -> None:
    assert checked(placement, names.topics.observations, placed(MURMUR2)) == []


def test_each_is_counted_by_its_topic(placement: Placement, names: Names) -> None:
    topics: TopicNames = names.topics
    assert (counted(topics.observations), counted(topics.priors)) == (0, 0)
    found = checked(placement, topics.observations, placed(LIBRDKAFKA))
    placement.note(found)
    placement.note(found)
    placement.note(checked(placement, topics.priors, placed(LIBRDKAFKA)[:9]))
    assert (counted(topics.observations), counted(topics.priors)) == (2 * 36, 7)


def test_a_thousand_records_are_one_line_a_cause(placement: Placement, names: Names, clock: Clock) -> None:
    found = checked(placement, names.topics.observations, placed(LIBRDKAFKA))
    with capture_logs() as logs:
        placement.note(found[:1])
        for _ in range(100):
            clock.now += 1.0
            placement.note(found)
        assert [line["partitioner"] for line in logs] == [UNKNOWN.name, CRC32.name]
        assert logs[1]["remedy"] == CRC32.remedy
        clock.now += QUIET_SECONDS
        placement.note(found)
    assert [line["partitioner"] for line in logs[2:]] == [CRC32.name]
    assert logs[2]["records"] == 100 * len(found)


def test_the_cause_is_told_as_soon_as_there_are_keys_enough(placement: Placement, names: Names) -> None:
    with capture_logs() as logs:
        for record in checked(placement, names.topics.observations, placed(LIBRDKAFKA)):
            placement.note([record])
    assert [line["partitioner"] for line in logs] == [UNKNOWN.name, CRC32.name]


def test_each_topic_has_its_own_line(placement: Placement, names: Names) -> None:
    with capture_logs() as logs:
        for topic in (names.topics.observations, names.topics.priors):
            placement.note(checked(placement, topic, placed(LIBRDKAFKA)))
    assert [line["topic"] for line in logs] == [names.topics.observations, names.topics.priors]


def test_what_is_remembered_is_bounded(placement: Placement, names: Names) -> None:
    topic = names.topics.observations
    placement.note(
        record
        for number in range(10_000)
        if (record := placement.check(topic, b"e-%d" % number, number % 8, number))
    )
    assert len(placement._seen[topic].placements) == REMEMBERED
