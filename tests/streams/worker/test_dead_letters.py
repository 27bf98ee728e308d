"""The worker logs dead letters: the first of a reason at once, the others as counts; and marks failed replays."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from beliefstream.schemas import DeadLetter, Reason
from beliefstream.streams.kafka.topics import TopicNames
from beliefstream.streams.worker import batch as batches
from beliefstream.streams.worker.batch import PERIOD_SECONDS, Announcer, Batch, Example

EXAMPLE = Example(("observations", 3, 17), b"mower", "sensor: no definition of 'mast'")
Logs = list[MutableMapping[str, Any]]


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def announcer(clock: Clock) -> Announcer:
    return Announcer(clock)


@pytest.fixture
def logs() -> Iterator[Logs]:
    with capture_logs() as found:
        yield found


def events(logs: Logs) -> list[str]:
    return [entry["event"] for entry in logs]


def test_the_first_of_a_reason_is_logged_at_once_with_where_it_lies(announcer: Announcer, logs: Logs) -> None:
    announcer.note(Reason.unknown_sensor, EXAMPLE)
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert {name: entry[name] for name in ("event", "reason", "topic", "partition", "offset", "entity")} == {
        "event": "dead letter",
        "reason": "unknown_sensor",
        "topic": "observations",
        "partition": 3,
        "offset": 17,
        "entity": "mower",
    }
    assert entry["detail"] == EXAMPLE.detail


def test_a_flood_is_a_line_a_period_with_counts_by_reason(
    announcer: Announcer, clock: Clock, logs: Logs
) -> None:
    for _ in range(10_000):
        announcer.note(Reason.late, EXAMPLE)
    announcer.note(Reason.not_json, EXAMPLE, 5)
    assert events(logs) == ["dead letter"] * 2
    clock.now += PERIOD_SECONDS - 1
    announcer.log_counts()
    assert len(logs) == 2
    clock.now += 1
    announcer.log_counts()
    announcer.log_counts()
    assert events(logs[2:]) == ["dead letters"]
    assert logs[2]["reasons"] == {"late": 10_000, "not_json": 5}
    assert (logs[2]["count"], logs[2]["since_start"], logs[2]["seconds"]) == (10_005, 10_005, 60)
    announcer.note(Reason.late, EXAMPLE)  # goes on: no example again
    clock.now += PERIOD_SECONDS
    announcer.log_counts()
    assert (logs[3]["reasons"], logs[3]["since_start"]) == ({"late": 1}, 10_006)
    assert len(logs) == 4


def test_a_single_one_needs_no_second_line(announcer: Announcer, clock: Clock, logs: Logs) -> None:
    announcer.note(Reason.late, EXAMPLE)
    clock.now += PERIOD_SECONDS
    announcer.log_counts()
    assert events(logs) == ["dead letter"]


def test_a_reason_that_was_quiet_for_a_period_is_announced_anew(
    announcer: Announcer, clock: Clock, logs: Logs
) -> None:
    for _ in range(3):
        announcer.note(Reason.late, EXAMPLE)
        clock.now += PERIOD_SECONDS
        announcer.log_counts()
        clock.now += PERIOD_SECONDS
        announcer.log_counts()
    assert events(logs) == ["dead letter"] * 3


def test_what_is_not_yet_counted_is_told_at_the_end(announcer: Announcer, clock: Clock, logs: Logs) -> None:
    announcer.note(Reason.late, EXAMPLE, 7)
    clock.now += 2
    announcer.flush()
    announcer.flush()
    assert [entry.get("count") for entry in logs] == [None, 7]


def test_an_example_of_hostile_bytes_is_one_short_line(announcer: Announcer, logs: Logs) -> None:
    announcer.note(Reason.key_mismatch, Example(("t", 0, 0), b"\x1b[2J\n\xff" + b"x" * 10_000, "\x1b[2J"))
    (entry,) = logs
    assert entry["entity"].startswith(r"\x1b[2J\n\xff")
    assert len(entry["entity"]) < 120
    assert entry["entity"].isprintable() and entry["detail"].isprintable()
    assert Example(("t", 0, 0), None, "").fields()["entity"] is None


def message(offset: int, headers: Any = None) -> Any:
    return SimpleNamespace(
        topic="observations", partition=2, offset=offset, key=b"mower", value=b"{}", headers=headers
    )


def test_a_batch_announces_what_it_rejected_once_it_is_durable(
    monkeypatch: pytest.MonkeyPatch, logs: Logs
) -> None:
    monkeypatch.setattr(batches, "ANNOUNCER", Announcer())
    batch = Batch(TopicNames())
    for offset in range(3):
        batch.reject(message(offset), Reason.late, f"time: {offset}")
    assert logs == []
    batch.measure({})
    assert [(entry["offset"], entry["detail"]) for entry in logs] == [(0, "time: 0")]


@pytest.mark.parametrize("headers", [None, [], [("ce_id", b"1")]])
def test_a_message_that_was_not_sent_again_leaves_no_mark(headers: Any) -> None:
    batch = Batch(TopicNames())
    batch.reject(message(7, headers), Reason.late, "")
    assert "beliefstream_replay_of" not in dict(batch.dead_letters[0].headers)


def test_a_message_that_was_sent_again_and_fails_is_marked() -> None:
    batch = Batch(TopicNames())
    batch.reject(message(7, [("beliefstream_replay_of", b"dead-letters/2:5")]), Reason.late, "")
    record = batch.dead_letters[0]
    letter = DeadLetter.from_record(record.key, record.value, record.headers)
    assert letter.replay_of == "dead-letters/2:5"
    assert (letter.offset, record.partition, record.value) == (7, 2, b"{}")
