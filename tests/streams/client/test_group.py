from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from beliefstream.streams.client import PosteriorConsumer
from beliefstream.streams.kafka.topics import TopicNames
from tests.brokers import Broker
from tests.conftest import eventually
from tests.streams.client.topics import PATIENCE, QUIET, drain, posterior, put, sequences

# A member that died is missed after this time; on the embedded broker one that joins waits for half of it.
SESSION = {"session_timeout_ms": 1500, "heartbeat_interval_ms": 300}


def grouped(broker: Broker, topics: TopicNames, **options: Any) -> PosteriorConsumer:
    defaults: dict[str, Any] = {"group": topics.posteriors, "from_beginning": True, "timeout": PATIENCE}
    return PosteriorConsumer(
        broker.bootstrap_servers, topics.posteriors, **{**defaults, **SESSION, **options}
    )


def test_a_group_goes_on_where_it_was(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 11)))
    with grouped(broker, topics) as consumer:
        assert sequences([next(consumer) for _ in range(4)]) == [1, 2, 3, 4]
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 6)) == [5, 6, 7, 8, 9, 10]
    with grouped(broker, topics) as consumer:
        assert consumer.poll(2 * QUIET) == []


def test_what_was_not_finished_when_an_exception_came_is_given_out_again(
    broker: Broker, topics: TopicNames, raw: Any
) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 4)))

    def fail_at_the_second() -> None:
        with grouped(broker, topics) as consumer:
            for each in consumer:
                if each.sequence == 2:
                    raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_at_the_second()
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [2, 3]


def test_a_commit_counts_what_was_given_out(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 4)))

    def fail_after_a_commit() -> None:
        with grouped(broker, topics) as consumer:
            assert next(consumer).sequence == 1
            consumer.commit()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_after_a_commit()
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [2, 3]


def test_a_new_group_that_took_nothing_keeps_its_place(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, posterior(1))
    with grouped(broker, topics, from_beginning=False) as consumer:
        put(raw, topics.posteriors, posterior(2))  # before it has joined the group
        assert sequences(drain(consumer, 1)) == [2]
    put(raw, topics.posteriors, posterior(1, "other"), partition=1)  # where nothing was ever taken
    with grouped(broker, topics, from_beginning=False) as consumer:
        assert [each.entity for each in drain(consumer, 1)] == ["other"]


def test_duplicates_are_recognised_across_a_restart(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, posterior(1), posterior(2))
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 2)) == [1, 2]
    put(raw, topics.posteriors, posterior(2), posterior(3))
    with grouped(broker, topics) as consumer:
        assert sequences(drain(consumer, 1)) == [3]


def test_members_of_a_group_share_the_partitions(broker: Broker, topics: TopicNames, raw: Any) -> None:
    found: list[tuple[int, str, int]] = []
    stop = threading.Event()

    def member(number: int) -> None:
        with grouped(broker, topics) as consumer:
            while not stop.is_set():
                found.extend((number, each.entity, each.sequence) for each in consumer.poll(0.2))

    threads = [threading.Thread(target=member, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    sent = 0

    def both_have_some() -> bool:
        nonlocal sent
        put(raw, topics.posteriors, *(posterior(sent + 1, f"e{part}") for part in range(3)), partition=None)
        for part in range(3):
            put(raw, topics.posteriors, posterior(sent + 1, f"p{part}"), partition=part)
        sent += 1
        return {number for number, *_ in found} == {0, 1}

    try:
        eventually(both_have_some, PATIENCE, "both members get posteriors")
        # some may be given out twice when partitions move, so each one is awaited, not their number
        everyone = {
            (f"{kind}{part}", number) for kind in "ep" for part in range(3) for number in range(1, sent + 1)
        }
        eventually(lambda: {each[1:] for each in found} >= everyone, PATIENCE, "all are given out")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE)


KILLED = """
    import os, sys
    from beliefstream.streams.client import PosteriorConsumer
    servers, topic, stop_at = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = {"session_timeout_ms": 1500, "heartbeat_interval_ms": 300}
    for posterior in PosteriorConsumer(servers, topic, group=topic, from_beginning=True, **options):
        print(posterior.sequence, flush=True)
        if posterior.sequence == stop_at:
            os.kill(os.getpid(), 9)
"""


def test_a_killed_consumer_loses_nothing(broker: Broker, topics: TopicNames, raw: Any) -> None:
    put(raw, topics.posteriors, *(posterior(number) for number in range(1, 101)))
    program = [
        sys.executable,
        "-c",
        textwrap.dedent(KILLED),
        broker.bootstrap_servers,
        topics.posteriors,
        "60",
    ]
    run = subprocess.run(program, capture_output=True, text=True, timeout=2 * PATIENCE)
    assert run.returncode == -9
    before = [int(line) for line in run.stdout.split()]
    assert before == list(range(1, 61))
    with grouped(broker, topics) as consumer:
        after = sequences(drain(consumer, 41))  # the killed member's session must end first
    assert after == list(range(after[0], 101))
    assert after[0] <= 60
