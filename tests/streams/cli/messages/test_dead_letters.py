"""`beliefstream dead-letters` shows what could not be used, safely, and sends it again once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.schemas import Reason
from beliefstream.streams.cli.messages import dead_letters_output
from beliefstream.streams.kafka.connection import TopicReader
from beliefstream.streams.kafka.topics import MESSAGE_BYTES
from tests.brokers import EmbeddedNode
from tests.conftest import Names
from tests.streams.cli.conftest import Result, Run, assert_one_line
from tests.streams.client.letters import NOW_MS, observation, put_letter

HOSTILE = b"\x1b[2J\x1b]0;owned\x07[red]x[/red]\r\nINFO forged\xff\xfe\xe2\x80\xae"


class Letters:
    """Writes dead letters to the test's topic."""

    def __init__(self, raw: Any, names: Names) -> None:
        self.raw, self.names = raw, names

    def put(self, offset: int, reason: Reason = Reason.unknown_sensor, **changes: Any) -> bytes:
        source = changes.pop("source", self.names.topics.observations)
        stamp = changes.pop("stamp", NOW_MS + offset)
        topic = self.names.topics.dead_letters
        value = put_letter(self.raw, topic, offset, reason, source=source, stamp=stamp, **changes)
        self.raw.flush()
        return value


@pytest.fixture
def put(topics: Names, embedded_broker: EmbeddedNode) -> Iterator[Letters]:
    raw = KafkaProducer(bootstrap_servers=embedded_broker.bootstrap_servers, max_request_size=MESSAGE_BYTES)
    yield Letters(raw, topics)
    raw.close()


def lines(result: Result) -> list[dict[str, Any]]:
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def arrived(broker: EmbeddedNode, topic: str) -> list[Any]:
    with TopicReader(broker.bootstrap_servers, topic, {}) as reader:
        return reader.read_all(20)


def safe(text: str) -> None:
    """Nothing in it moves a cursor or hides; lines are ours."""
    assert all(line.isprintable() for line in text.splitlines())
    assert not any(line.startswith("INFO forged") for line in text.splitlines())


def test_each_letter_is_shown_with_reason_source_entity_sensor_and_message(run: Run, put: Letters) -> None:
    value = put.put(17, partition=2, key=b"boat", value=observation("boat", "mast", id="a"))
    put.put(18, Reason.not_json, key=None, value=b"\xff\x00", detail="message: no JSON")
    first, second = lines(run("dead-letters"))
    assert first == {
        "time": "2026-01-31T12:00:00.017000Z",
        "reason": "unknown_sensor",
        "detail": "sensor: no definition",
        "topic": put.names.topics.observations,
        "partition": 2,
        "offset": 17,
        "entity": "boat",
        "sensor": "mast",
        "key": "boat",
        "value": value.decode(),
        "bytes": len(value),
        "dead_letter": f"{put.names.topics.dead_letters}/2:0",
        "replay_of": None,
    }
    assert (second["key"], second["value_base64"], second["entity"], second["bytes"]) == (
        None,
        "/wA=",
        None,
        2,
    )
    shown = run("dead-letters", "--table").out
    for part in ("unknown_sensor", f"{put.names.topics.observations} 2:17", "entity boat", "sensor mast"):
        assert part in shown
    assert "sensor: no definition" in shown and value.decode() in shown and r"\xff\x00" in shown


def test_a_letter_of_the_mqtt_bridge_is_shown_with_its_mqtt_topic(run: Run, put: Letters) -> None:
    put.put(7, Reason.invalid, key=None, value=b"far", source="mqtt", mqtt_topic="sites/a/mower/gps")
    (shown,) = lines(run("dead-letters"))
    assert (shown["topic"], shown["mqtt_topic"]) == ("mqtt", "sites/a/mower/gps")
    assert "mqtt sites/a/mower/gps" in run("dead-letters", "--table").out


def test_hostile_letters_are_shown_safely(run: Run, put: Letters) -> None:
    nasty = HOSTILE.decode(errors="ignore")
    put.put(0, key=HOSTILE, value=HOSTILE, detail=nasty)
    put.put(1, value=observation(nasty, nasty), replay_of=nasty)
    put.put(2, value=b"{" + HOSTILE * 30_000)
    put.put(3, value="é".encode() * 100_000)
    put.put(4, source="mqtt", mqtt_topic=nasty)
    for arguments in ([], ["--json"], ["--summary"], ["--summary", "--json"]):
        result = run("dead-letters", *(arguments or ["--table"]))
        assert result.status == 0, result.err
        safe(result.out)
        safe(result.err)
        assert len(result.out) < 20_000
    shown = lines(run("dead-letters", "--json"))
    assert shown[3]["value"] == "é" * dead_letters_output.SHOWN_CHARACTERS
    assert (shown[3]["value_is_cut"], shown[3]["bytes"]) == (True, 200_000)
    assert "[red]x[/red]" in run("dead-letters", "--table").out


def test_all_of_a_message_is_shown_where_asked(run: Run, put: Letters) -> None:
    value = put.put(0, value=observation(note="é" * 1000))
    (short,) = lines(run("dead-letters"))
    (full,) = lines(run("dead-letters", "--full"))
    assert short["value_is_cut"] and "value_is_cut" not in full
    assert full["value"].encode() == value


def test_filters_and_limit_leave_out_and_say_so(run: Run, put: Letters) -> None:
    for number in range(6):
        put.put(number, partition=number % 3, value=observation(sensor=f"s{number % 2}"))
    put.put(6, Reason.late, key=b"boat")
    found = lines(run("dead-letters", "--sensor", "s1", "--reason", "unknown_sensor", "--entity", "mower"))
    assert [each["offset"] for each in found] == [1, 3, 5]
    assert [each["offset"] for each in lines(run("dead-letters", "--entity", "boat"))] == [6]
    limited = run("dead-letters", "--limit", "2")
    assert [each["offset"] for each in lines(limited)] == [5, 6]
    assert "older ones are not shown" in limited.err
    assert "older" not in run("dead-letters", "--limit", "7").err


def test_notes_of_replays_do_not_take_the_place_of_letters(run: Run, put: Letters) -> None:
    for number in range(8):
        put.put(number, partition=number % 2)
    assert run("dead-letters", "--replay", "--yes").status == 0
    shown = lines(run("dead-letters", "--limit", "3"))
    assert [each["offset"] for each in shown] == [5, 6, 7]


def test_only_what_is_new_enough_is_shown(run: Run, put: Letters) -> None:
    now = round(time.time() * 1000)
    put.put(0, stamp=now - 7_200_000)
    put.put(1, stamp=now - 60_000)
    for since in ("1h", "90m", str(now / 1000 - 3600)):
        assert [each["offset"] for each in lines(run("dead-letters", "--since", since))] == [1]
    assert len(lines(run("dead-letters", "--since", "2026-01-31T12:00:00+01:00"))) == 2
    assert_one_line(run("dead-letters", "--since", "yesterday"), "--since", "yesterday")
    assert_one_line(run("dead-letters", "--since", str(now)), "--since", "future")  # milliseconds


def test_without_letters_it_says_so(run: Run, topics: Names) -> None:
    for arguments in ((), ("--summary",)):
        result = run("dead-letters", *arguments)
        assert (result.status, result.out, result.err) == (0, "", "no dead letters\n")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--reason", "boredom"), "unknown_sensor"),
        (("--summary", "--follow"), "--summary"),
        (("--yes",), "--replay"),
        (("--force",), "--replay"),
    ],
)
def test_a_wrong_call_is_explained(run: Run, topics: Names, arguments: tuple[str, ...], part: str) -> None:
    assert_one_line(run("dead-letters", *arguments), part)


def test_a_summary_counts_by_reason_and_says_what_to_do(run: Run, put: Letters) -> None:
    for number in range(3):
        put.put(number, value=observation(sensor="mast"))
    put.put(3, Reason.late)
    put.put(4, replay_of="dead-letters/0:0")
    assert run("dead-letters", "--replay", "--reason", "late", "--yes").status == 0
    first, second = lines(run("dead-letters", "--summary"))
    assert (first["reason"], first["count"], first["failed_again"], first["sent_again"]) == (
        *("unknown_sensor", 4, 1, 0),
    )
    assert first["sensors"] == ["mast", "radar"]
    assert "sensors set" in first["mend"]
    assert (second["reason"], second["sent_again"], second["newest"][:19]) == (
        "late",
        1,
        "2026-01-31T12:00:00",
    )
    shown = run("dead-letters", "--summary", "--table").out
    assert "unknown_sensor" in shown and "mast" in shown


def test_following_shows_what_was_there_since_and_what_comes(run: Run, put: Letters) -> None:
    now = round(time.time() * 1000)
    put.put(0, stamp=now - 7_200_000)
    for number in range(1, 4):
        put.put(number, partition=number % 2, stamp=now - 1000 + number)
    result = run("dead-letters", "--follow", "--since", "1h", "--limit", "3")
    assert [each["offset"] for each in lines(result)] == [1, 2, 3]


def test_a_replay_says_of_each_message_where_it_went(
    run: Run, put: Letters, embedded_broker: EmbeddedNode
) -> None:
    topics = put.names.topics
    values = [put.put(number, value=observation(id=str(number))) for number in range(2)]
    put.put(2, Reason.late)
    put.put(3, source=topics.sensors)
    result = run("dead-letters", "--replay", "--reason", "unknown_sensor", "--yes")
    shown = lines(result)
    assert [each["source"] for each in shown] == [f"{topics.observations}/0:{n}" for n in range(2)]
    assert [(each["entity"], each["sensor"], each["problem"]) for each in shown] == [
        ("mower", "radar", None)
    ] * 2
    told = result.err.splitlines()
    assert told[0].startswith("left out: 1 that are definitions")
    assert told[1] == f"to send again: 2 to {topics.observations}; entities: 1; reasons: unknown_sensor 2"
    assert told[-1] == "2 sent again"
    records = arrived(embedded_broker, topics.observations)
    assert [record.value for record in records] == values
    assert [each["replayed_to"] for each in shown] == [
        f"{record.topic}/{record.partition}:{record.offset}" for record in records
    ]
    listed = lines(run("dead-letters"))
    assert [each.get("replayed_to") for each in listed] == [*(e["replayed_to"] for e in shown), None, None]


def test_a_replay_is_not_repeated_and_one_that_failed_needs_force(
    run: Run, put: Letters, embedded_broker: EmbeddedNode
) -> None:
    put.put(0)
    put.put(1, replay_of=f"{put.names.topics.dead_letters}/0:0")
    assert len(lines(run("dead-letters", "--replay", "--yes"))) == 1
    again = run("dead-letters", "--replay", "--yes")
    assert (again.status, again.out) == (0, "")
    assert "1 that were sent again before; only --force" in again.err
    assert "1 that were sent again before and have failed again; only --force" in again.err
    assert "nothing to send again" in again.err
    assert len(arrived(embedded_broker, put.names.topics.observations)) == 1
    assert len(lines(run("dead-letters", "--replay", "--yes", "--force"))) == 2
    shown = run("dead-letters", "--table").out
    assert "failed again after a replay of" in shown and "sent again to" in shown


def test_nothing_is_sent_without_a_yes(
    run: Run, put: Letters, embedded_broker: EmbeddedNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    put.put(0)
    assert run("dead-letters", "--replay").err.splitlines()[-1].endswith("--yes sends without asking")

    def answer(text: str) -> Result:
        class Terminal:
            def isatty(self) -> bool:
                return True

            def readline(self) -> str:
                return text

        monkeypatch.setattr("sys.stdin", Terminal())
        monkeypatch.setattr(
            "beliefstream.streams.cli.messages.dead_letters_output.typer.confirm", _confirm(text)
        )
        return run("dead-letters", "--replay")

    no = answer("n")
    assert (no.status, no.err.splitlines()[-1]) == (1, "beliefstream: aborted")
    assert arrived(embedded_broker, put.names.topics.observations) == []
    assert answer("y").status == 0
    assert len(arrived(embedded_broker, put.names.topics.observations)) == 1


def _confirm(text: str) -> Any:
    import typer

    def confirm(question: str, **_: Any) -> bool:
        assert question == "Send 1 message again?"
        if text != "y":
            raise typer.Abort
        return True

    return confirm


def test_a_replay_that_the_broker_refuses_ends_with_1(
    run: Run, put: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    put.put(0, value=observation(note="x" * 5000))
    monkeypatch.setattr("beliefstream.streams.client.producers.MESSAGE_BYTES", 4000)
    result = run("dead-letters", "--replay", "--yes", "--table")
    assert result.status == 1
    assert "not sent: MessageSizeTooLargeError" in result.out
    assert "beliefstream: 1 of 1 messages were not sent" in result.err


def test_without_a_topic_it_says_how_to_make_it(
    run: Run, topics: Names, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("beliefstream.streams.kafka.connection.TOPIC_TIMEOUT", 0.3)
    monkeypatch.setenv("BELIEFSTREAM_TOPICS", "dead_letters=nowhere")
    for arguments in ((), ("--summary",), ("--follow",), ("--replay",)):
        assert_one_line(run("dead-letters", *arguments), "nowhere", "topics create")
