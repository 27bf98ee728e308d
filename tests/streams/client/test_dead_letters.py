"""Dead letters are read whole, in order of time, by what they are about; whatever stands in them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from structlog.testing import capture_logs

from beliefstream.schemas import DeadLetter, Reason
from beliefstream.streams.client import DeadLetterConsumer, ReceivedDeadLetter, Selection, TopicMissing
from beliefstream.streams.client.producers import Place
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.streams.client.letters import NOW_MS, observation, put_letter


def received(
    key: bytes | None, value: bytes | None, reason: Reason = Reason.invalid, time: float = 0.0
) -> ReceivedDeadLetter:
    letter = DeadLetter(
        reason=reason, detail="", topic="observations", partition=1, offset=2, key=key, value=value
    )
    return ReceivedDeadLetter(letter, Place("dead-letters", 1, 7), time)


def all_of(broker: Broker, topic: str, **options: Any) -> list[ReceivedDeadLetter]:
    with DeadLetterConsumer(
        broker.bootstrap_servers, topic, from_beginning=True, timeout=0, **options
    ) as consumer:
        return list(consumer)


def test_letters_of_all_partitions_come_in_order_of_time(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    """Also where one partition has many and old ones, and another one few and new ones."""
    stamps = {0: range(0, 3000, 2), 1: range(2990, 3010), 2: range(1, 3000, 500)}
    for partition, found in stamps.items():
        for number, stamp in enumerate(found):
            put_letter(raw, topics.dead_letters, number, partition=partition, stamp=NOW_MS + stamp)
    raw.flush()
    letters = all_of(broker, topics.dead_letters)
    times = [each.time for each in letters]
    assert times == sorted((NOW_MS + stamp) / 1000 for found in stamps.values() for stamp in found)
    assert len({each.id for each in letters}) == len(letters)


def test_key_value_and_source_are_those_of_the_message(broker: Broker, topics: TopicNames, raw: Any) -> None:
    value = b"\x00\xff" * 100
    put_letter(raw, topics.dead_letters, 7, Reason.not_json, partition=2, key=b"\xff", value=value)
    raw.flush()
    (found,) = all_of(broker, topics.dead_letters)
    assert (found.letter.key, found.letter.value) == (b"\xff", value)
    assert (found.source, found.letter.reason) == ("observations/2:7", Reason.not_json)
    assert found.place == Place(topics.dead_letters, 2, 0)
    assert (found.entity, found.sensor) == (r"\xff", None)


def test_without_more_a_consumer_begins_at_the_end(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put_letter(raw, topics.dead_letters, 1)
    raw.flush()
    with DeadLetterConsumer(broker.bootstrap_servers, topics.dead_letters, timeout=20) as consumer:
        put_letter(raw, topics.dead_letters, 2)
        raw.flush()
        assert next(iter(consumer)).source == "observations/0:2"


def test_letters_that_come_while_it_reads_follow_those_that_were_there(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put_letter(raw, topics.dead_letters, 1, stamp=NOW_MS + 10)
    raw.flush()
    with DeadLetterConsumer(
        broker.bootstrap_servers, topics.dead_letters, from_beginning=True, timeout=20
    ) as consumer:
        letters = iter(consumer)
        assert next(letters).source == "observations/0:1"
        put_letter(raw, topics.dead_letters, 2, partition=1, stamp=NOW_MS)
        raw.flush()
        assert next(letters).source == "observations/1:2"


def test_letters_since_a_time_are_all_there_and_no_older_ones(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    for number in range(30):
        put_letter(raw, topics.dead_letters, number, partition=number % 3, stamp=NOW_MS + 1000 * number)
        raw.flush()
    found = all_of(broker, topics.dead_letters, since=NOW_MS / 1000 + 12)
    assert [each.letter.offset for each in found] == list(range(12, 30))
    assert all_of(broker, topics.dead_letters, since=NOW_MS / 1000 + 31) == []


def test_the_last_few_of_each_partition_can_be_asked_for(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    for number in range(10):
        put_letter(raw, topics.dead_letters, number, partition=number % 2, stamp=NOW_MS + number)
    raw.flush()
    with DeadLetterConsumer(broker.bootstrap_servers, topics.dead_letters, last=2) as consumer:
        assert [each.letter.offset for each in consumer.stored()] == [6, 7, 8, 9]


def test_filters_leave_out_what_was_not_asked_for(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put_letter(raw, topics.dead_letters, 0, Reason.late)
    put_letter(raw, topics.dead_letters, 1, value=observation(sensor="mast"))
    put_letter(raw, topics.dead_letters, 2, key=b"boat", value=observation("boat", "mast"))
    put_letter(raw, topics.dead_letters, 3, Reason.key_mismatch, key=b"boat")
    raw.flush()

    def offsets(**options: Any) -> list[int]:
        return [each.letter.offset for each in all_of(broker, topics.dead_letters, **options)]

    assert offsets(reasons=[Reason.late, Reason.key_mismatch]) == [0, 3]
    assert offsets(sensors=["mast"]) == [1, 2]
    assert offsets(entities=["boat"]) == [2, 3]  # in the message, or its key
    assert offsets(entities=["boat"], sensors=["mast"], reasons=[Reason.unknown_sensor]) == [2]


def test_what_is_no_dead_letter_is_logged_counted_and_passed_over(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    raw.send(topics.dead_letters, key=b"k", value=b"v", partition=0)
    put_letter(raw, topics.dead_letters, 5)
    raw.flush()
    with (
        capture_logs() as logs,
        DeadLetterConsumer(broker.bootstrap_servers, topics.dead_letters, from_beginning=True) as consumer,
    ):
        assert [each.letter.offset for each in consumer.stored()] == [5]
        assert consumer.skipped == 1
    assert [entry["offset"] for entry in logs if "offset" in entry] == [0]


def test_a_topic_that_is_not_there_is_named(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    with pytest.raises(TopicMissing, match="nowhere"):
        DeadLetterConsumer(broker.bootstrap_servers, "nowhere")


@pytest.mark.parametrize(
    ("value", "entity", "sensor"),
    [
        (b'{"entity":"a","sensor":"b","value":[1,2', "a", "b"),  # half of a message
        (b'{"entity":"a","sensor":"b","value":NaN}', "a", "b"),
        (b'{"entity":7,"sensor":{"x":1}}', "key", None),
        (b"[" * 100_000, "key", None),
        (b"entity,sensor\na,b", "key", None),
        (b"\xff\xfe", "key", None),
        (b"[1, 2]", "key", None),
        (None, "key", None),
        (b'{"entity":"a","sensor":"b","note":"' + b"\xc3\xa4" * 200_000 + b'"}', "a", "b"),
    ],
)
def test_entity_and_sensor_are_read_as_far_as_they_can_be(
    value: bytes | None, entity: str, sensor: str | None
) -> None:
    found = received(b"key", value)
    assert (found.entity, found.sensor) == (entity, sensor)


def test_a_letter_of_many_megabytes_is_looked_at_in_milliseconds() -> None:
    value = b'{"entity":"a","x":[' + b"[]," * 4_000_000
    started = time.process_time()  # what else runs on the machine does not count
    assert received(None, value).entity == "a"
    assert time.process_time() - started < 1.0


def test_the_id_is_of_the_message() -> None:
    first = received(b"k", b"v")
    assert first.id == received(b"k", b"v", Reason.late, time=9.0).id
    others = {each.id for each in (received(b"k", b""), received(b"k", None), received(None, b"kv"))}
    assert len(others | {first.id}) == 4
    assert first.id.startswith("observations/1:2#")


def test_a_selection_without_parts_is_everything() -> None:
    assert Selection().is_everything
    assert not Selection(since=0.0).is_everything
    assert received(None, None) in Selection()
