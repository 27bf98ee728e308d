"""Dead letters are sent again once, as they were, and it is known of each what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from kafka.partitioner import murmur2

from beliefstream.schemas import Reason, Replay, cloudevents
from beliefstream.streams.client import DeadLetterConsumer, Replayer, Selection, replaying
from beliefstream.streams.client.producers import Publisher
from beliefstream.streams.client.replaying import (
    DEFINITION,
    DUPLICATE,
    EMPTY,
    FAILED_AGAIN,
    INTERRUPTED,
    OTHER_TOPIC,
    OVER_LIMIT,
    SENT,
    ReplayHistory,
    ReplayPlan,
)
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.streams.client.letters import NOW_MS, observation, put_letter

UNKNOWN = Selection(reasons={Reason.unknown_sensor})


def new_replayer(broker: Broker, topics: TopicNames) -> Replayer:
    return Replayer(
        broker.bootstrap_servers,
        topics.dead_letters,
        sources=(topics.observations, topics.priors),
        definitions=(topics.sensors, topics.models),
    )


@pytest.fixture
def replayer(broker: Broker, topics: TopicNames) -> Iterator[Replayer]:
    with new_replayer(broker, topics) as opened:
        yield opened


def arrived(broker: Broker, topic: str) -> list[Any]:
    with TopicReader(broker.bootstrap_servers, topic, {}) as reader:
        return reader.read_all(20)


def offsets(plan: ReplayPlan) -> list[int]:
    """Of the messages in their source."""
    return [int(letter.source.rpartition(":")[2]) for letter in plan.chosen]


def test_key_value_and_partition_are_as_they_were_and_a_header_names_the_replay(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    keys = [b"mower", b"boat", b"anna", b"\xff\xfe", None]
    values = [
        put_letter(
            raw, topics.dead_letters, number, source=topics.observations, key=key, stamp=NOW_MS + number
        )
        for number, key in enumerate(keys)
    ]
    values.append(
        put_letter(
            raw,
            topics.dead_letters,
            9,
            source=topics.priors,
            key=b"anna",
            value=b"\x00\xff",
            stamp=NOW_MS + 9,
        )
    )
    raw.flush()
    plan = replayer.plan(UNKNOWN)
    assert offsets(plan) == [0, 1, 2, 3, 4, 9]
    results = list(replayer.send(plan))
    assert [each.letter for each in results] == plan.chosen
    assert not [each.problem for each in results if each.place is None or each.problem]
    (prior,) = arrived(broker, topics.priors)
    assert (prior.key, prior.value) == (b"anna", b"\x00\xff")
    records = {record.value: record for record in arrived(broker, topics.observations)}
    assert len(records) == len(keys)
    for key, value, result in zip(keys, values, results, strict=False):
        record = records[value]
        place = result.place
        assert place is not None
        assert (record.topic, record.partition, record.offset) == (place.topic, place.partition, place.offset)
        assert record.key == key
        if key is not None:
            assert record.partition == (murmur2(key) & 0x7FFFFFFF) % 3
        of = result.letter.place
        assert record.headers == [("beliefstream_replay_of", b"%s/0:%d" % (of.topic.encode(), of.offset))]


def test_what_was_sent_is_not_sent_again_but_by_force(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    put_letter(raw, topics.dead_letters, 0, source=topics.observations)
    raw.flush()
    assert len(list(replayer.send(replayer.plan(UNKNOWN)))) == 1
    with new_replayer(broker, topics) as later:
        again = later.plan(UNKNOWN)
        assert (again.chosen, dict(again.skipped)) == ([], {SENT: 1})
        assert list(later.send(again)) == []
        assert len(arrived(broker, topics.observations)) == 1
        assert len(list(later.send(later.plan(UNKNOWN, force=True)))) == 1
    assert len(arrived(broker, topics.observations)) == 2


def test_a_plan_leaves_out_what_is_of_no_use_to_send_and_says_why(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    letters = topics.dead_letters
    put_letter(raw, letters, 0, source=topics.sensors)
    put_letter(raw, letters, 1, source="payments")  # whoever writes to this topic names a source
    put_letter(raw, letters, 2, source=topics.observations, key=None, value=b"")
    put_letter(raw, letters, 3, source=topics.observations, replay_of=f"{letters}/0:1")
    for _ in range(2):  # a worker that was killed has written it twice
        put_letter(raw, letters, 4, source=topics.observations)
    put_letter(raw, letters, 5, Reason.late, source=topics.observations)
    put_letter(raw, letters, 6, source=topics.observations)
    raw.flush()
    plan = replayer.plan(UNKNOWN)
    assert offsets(plan) == [4, 6]
    assert plan.skipped == {DEFINITION: 1, OTHER_TOPIC: 1, EMPTY: 1, FAILED_AGAIN: 1, DUPLICATE: 1}
    newest = replayer.plan(UNKNOWN, most=1)
    assert (offsets(newest), newest.skipped[OVER_LIMIT]) == ([6], 1)
    forced = replayer.plan(UNKNOWN, force=True)
    assert offsets(forced) == [3, 4, 6]
    assert forced.skipped == {DEFINITION: 1, OTHER_TOPIC: 1, EMPTY: 1, DUPLICATE: 1}


def test_a_failure_after_a_replay_is_known_by_its_place_too(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    """As where a worker has kept the message for a while and lost its headers."""
    put_letter(raw, topics.dead_letters, 0, source=topics.observations)
    raw.flush()
    (sent,) = replayer.send(replayer.plan(UNKNOWN))
    assert sent.place is not None
    put_letter(
        raw,
        topics.dead_letters,
        sent.place.offset,
        source=sent.place.topic,
        partition=sent.place.partition,
        value=observation(),
    )
    raw.flush()
    plan = replayer.plan(UNKNOWN)
    assert (plan.chosen, dict(plan.skipped)) == ([], {SENT: 1, FAILED_AGAIN: 1})


def test_a_replay_that_was_interrupted_is_not_repeated_unasked(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_letter(raw, topics.dead_letters, 0, source=topics.observations)
    raw.flush()

    class Killed(BaseException):
        pass

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(replaying, "_publish", die)
        with pytest.raises(Killed):
            list(replayer.send(replayer.plan(UNKNOWN)))
    plan = replayer.plan(UNKNOWN)
    assert (plan.chosen, dict(plan.skipped)) == ([], {INTERRUPTED: 1})
    assert offsets(replayer.plan(UNKNOWN, force=True)) == [0]


def test_of_two_who_send_the_same_letter_again_one_does(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    for number in range(3):
        put_letter(raw, topics.dead_letters, number, source=topics.observations, stamp=NOW_MS + number)
    raw.flush()
    mine = replayer.plan(UNKNOWN)
    with new_replayer(broker, topics) as other:
        first = list(other.send(other.plan(UNKNOWN, most=2)))  # between the plan and its doing
    second = list(replayer.send(mine))
    assert all(each.place is not None for each in first)
    assert [each.problem for each in second] == [replaying.OTHER_CLIENT if n else "" for n in range(3)]
    assert len(arrived(broker, topics.observations)) == 3


def test_many_and_large_letters_are_sent_in_groups(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "GROUP_BYTES", 1000)
    monkeypatch.setattr(replaying, "GROUP_LETTERS", 5)
    sent = [
        put_letter(
            raw,
            topics.dead_letters,
            number,
            source=topics.observations,
            partition=number % 3,
            stamp=NOW_MS + number,
            value=observation(id=str(number), note="x" * (2000 if number % 7 == 0 else 10)),
        )
        for number in range(24)
    ]
    raw.flush()
    results = list(replayer.send(replayer.plan(UNKNOWN)))
    assert [each.letter.source.rpartition(":")[2] for each in results] == [str(n) for n in range(24)]
    assert [record.value for record in arrived(broker, topics.observations)] == sent  # of one entity
    with DeadLetterConsumer(broker.bootstrap_servers, topics.dead_letters, from_beginning=True) as consumer:
        assert len(list(consumer.stored())) == 24  # notes are no letters
        assert len(ReplayHistory.of(consumer.replays).sent) == 24
        assert len(consumer.replays) > 8


def test_a_message_that_the_broker_refuses_is_told_and_the_rest_not_tried(
    broker: Broker, topics: TopicNames, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replaying, "GROUP_LETTERS", 2)
    large = observation(note="x" * 3000)
    for number in range(4):
        put_letter(
            raw,
            topics.dead_letters,
            number,
            source=topics.observations,
            value=large if number == 1 else None,
            stamp=NOW_MS + number,
        )
    raw.flush()

    def small(servers: Any, topic: str, source: str, options: dict[str, Any]) -> Publisher:
        return Publisher(servers, topic, source, {**options, "max_request_size": 2000})

    monkeypatch.setattr(replaying, "Publisher", small)
    with new_replayer(broker, topics) as replayer:
        results = list(replayer.send(replayer.plan(UNKNOWN)))
    assert [each.place is not None for each in results] == [True, False, False, False]
    assert "MessageSizeTooLargeError" in results[1].problem
    assert [each.problem for each in results[2:]] == [replaying.NOT_TRIED] * 2
    with new_replayer(broker, topics) as later:
        again = later.plan(UNKNOWN)
    assert (offsets(again), dict(again.skipped)) == ([2, 3], {SENT: 1, INTERRUPTED: 1})


def test_a_letter_that_the_topic_deletes_meanwhile_is_told(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    put_letter(raw, topics.dead_letters, 0, source=topics.observations)
    raw.flush()
    plan = replayer.plan(UNKNOWN)
    missing = replace(plan.chosen[0], place=replace(plan.chosen[0].place, offset=99))
    results = list(replayer.send(ReplayPlan([missing])))
    assert [(each.place, each.problem) for each in results] == [(None, replaying.DELETED)]
    assert arrived(broker, topics.observations) == []


def test_a_note_that_is_none_stops_nobody(
    broker: Broker, topics: TopicNames, raw: Any, replayer: Replayer
) -> None:
    headers = cloudevents.headers(cloudevents.REPLAY, "/x", "1", 0.0)
    put_letter(raw, topics.dead_letters, 0, source=topics.observations)
    raw.flush()
    plan = replayer.plan(UNKNOWN)
    raw.send(topics.dead_letters, value=b"{", headers=headers, partition=0).get(20)
    assert [each.problem for each in replayer.send(plan)] == [""]


def test_notes_without_places_are_taken_for_what_they_say() -> None:
    begun = Replay(id="a", state="begun", time=0.0, letters=("t/0:1#x", "t/0:2#y"))
    sent = Replay(id="a", state="sent", time=0.0, letters=("t/0:1#x",), places=("t/0:7",))
    history = ReplayHistory.of([begun, sent])
    assert history.begun == {"t/0:1#x", "t/0:2#y"}
    assert history.sent == {"t/0:1#x": "t/0:7"}
