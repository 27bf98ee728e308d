"""`beliefstream observe` says what became of the observation. A thread answers in place of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer

from beliefstream.schemas import Observation, Posterior, Reason, parse
from beliefstream.streams.settings import as_text
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.client.letters import put_letter
from tests.streams.client.topics import posterior
from tests.streams.workers import renamed

Answer = Callable[[Any, Any], None]  # of a producer and a record
CONTROL = '{"sensor": "wheels", "kind": "control", "inputs": ["speed", "turn_rate"], "standard_deviation": [0.1, 0.1]}'


@contextmanager
def answering(broker: EmbeddedNode, names: Names, answer: Answer) -> Iterator[None]:
    """Something that reads observations and answers each."""
    raw = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    reader: Any = KafkaConsumer(
        names.topics.observations,
        bootstrap_servers=broker.bootstrap_servers,
        group_id=None,
        auto_offset_reset="earliest",
    )
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            for records in reader.poll(timeout_ms=50).values():
                for record in records:
                    answer(raw, record)
                    raw.flush()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        reader.close()
        raw.close()


def send_posterior(raw: Any, names: Names, record: Any, sequence: int, applied: tuple[str, ...] = ()) -> None:
    observation = parse(Observation, record.value)
    name = observation.id or f"{record.partition}:{record.offset}"
    made = posterior(sequence, observation.entity, applied=applied or ("other", name))
    raw.send(names.topics.posteriors, key=record.key, value=made.to_json())


@pytest.mark.parametrize("options", [(), ("--id", "mine")])
def test_the_posterior_of_the_observation_is_printed(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, options: tuple[str, ...]
) -> None:
    def answer(raw: Any, record: Any) -> None:
        put_letter(raw, topics.topics.dead_letters, 99, source=topics.topics.observations)  # another's
        send_posterior(raw, topics, record, sequence=1, applied=("another",))
        send_posterior(raw, topics, record, sequence=2)

    with answering(embedded_broker, topics, answer):
        result = run("observe", "mower", "gps", "1", "2", *options, "--json")
        shown = run("observe", "mower", "gps", "1", "2", "--id", "second", "--table")
    assert result.status == 0, result.err
    assert parse(Posterior, result.out.encode()).sequence == 2
    assert result.err.startswith(topics.topics.observations)
    assert shown.status == 0
    place, row = shown.out.splitlines()
    assert place.startswith(topics.topics.observations)
    assert "mower  #2" in row


def test_a_dead_letter_is_told_with_its_reason(
    run: Run, topics: Names, embedded_broker: EmbeddedNode
) -> None:
    def answer(raw: Any, record: Any) -> None:
        put_letter(
            raw,
            topics.topics.dead_letters,
            record.offset,
            Reason.unknown_sensor,
            source=topics.topics.observations,
            partition=record.partition,
            detail="sensor: no definition of 'gps'",
        )

    with answering(embedded_broker, topics, answer):
        result = run("observe", "mower", "gps", "1", "--table")
    assert_one_line(result, "dead letter: unknown_sensor: sensor: no definition of 'gps'")
    assert result.out.startswith(topics.topics.observations)


def test_without_an_answer_it_says_so_in_time(run: Run, topics: Names) -> None:
    result = run("observe", "mower", "gps", "1", "--timeout", "0.3", "--table")
    assert_one_line(result, "within 0.3 s", "beliefstream doctor")
    assert "id" not in result.err.partition("doctor")[2]
    named = run("observe", "mower", "gps", "1", "--timeout", "0", "--id", "x", "--table")
    assert_one_line(named, "An id that was applied before")


def test_a_control_has_no_posterior_to_wait_for(
    run: Run, topics: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.cli.messages.observe.CONTROL_SECONDS", 0.2)
    assert run("sensors", "set", CONTROL).status == 0
    result = run("observe", "mower", "wheels", "1", "0.1", "--table")
    assert result.status == 0
    assert "wheels is a control" in result.err


def test_where_posteriors_cannot_be_read_nothing_is_sent(
    run: Run, topics: Names, embedded_broker: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", as_text(renamed(topics.topics) | {"posteriors": "nowhere"}))
    assert_one_line(run("observe", "mower", "gps", "1"), "nothing was sent", "nowhere", "--no-wait")
    assert run("observe", "mower", "gps", "1", "--no-wait").out.endswith(":0\n")
