"""The doctor counts the dead letters of the last hour, shows the newest, and says what to do."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaProducer

from beliefstream.schemas import Reason
from beliefstream.streams.cli.doctor import topics as doctor_topics
from beliefstream.streams.cli.doctor.run import Status
from beliefstream.streams.cli.doctor.topics import examine_dead_letters
from beliefstream.streams.kafka import topics
from beliefstream.streams.settings import Settings
from tests.brokers import Broker
from tests.conftest import Names
from tests.streams.client.letters import observation, put_letter
from tests.streams.workers import renamed


@pytest.fixture
def settings(broker: Broker, names: Names) -> Settings:
    topics.create(broker.bootstrap_servers, names.topics, partitions=3)
    return Settings(brokers=broker.bootstrap_servers, topics=renamed(names.topics))


@pytest.fixture
def raw(broker: Broker) -> Iterator[Any]:
    opened = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
    yield opened
    opened.close()


def stamp(seconds_ago: float) -> int:
    return round((time.time() - seconds_ago) * 1000)


def test_without_letters_in_the_last_hour_all_is_well(settings: Settings, raw: Any) -> None:
    put_letter(raw, settings.names.dead_letters, 0, stamp=stamp(7200))
    raw.flush()
    finding = examine_dead_letters(settings)
    assert (finding.status, finding.detail) == (Status.ok, "none in the last hour")


def test_letters_are_counted_by_reason_with_the_newest_and_what_to_do(settings: Settings, raw: Any) -> None:
    put_letter(raw, settings.names.dead_letters, 0, Reason.not_json, stamp=stamp(7200))
    for number in range(1, 6):
        put_letter(raw, settings.names.dead_letters, number, partition=number % 3, stamp=stamp(600 - number))
    put_letter(
        raw,
        settings.names.dead_letters,
        17,
        Reason.late,
        stamp=stamp(5),
        value=observation("boat", "mast\x1b[2J"),
        detail="time: too old",
    )
    raw.flush()
    finding = examine_dead_letters(settings)
    assert finding.status is Status.problem
    assert finding.detail.startswith("6 in the last hour: unknown_sensor 5, late 1; the newest at 20")
    assert r"from observations 0:17, entity 'boat', sensor 'mast\x1b[2J': time: too old" in finding.detail
    assert finding.remedy.startswith("unknown_sensor: define the sensor")
    assert "beliefstream dead-letters --summary" in finding.remedy


def test_of_a_flood_it_says_that_there_are_more(
    settings: Settings, raw: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_topics, "READING_SECONDS", 0.0)
    for number in range(3):
        put_letter(raw, settings.names.dead_letters, number, stamp=stamp(60))
    raw.flush()
    assert examine_dead_letters(settings).detail.startswith("more than 1 in the last hour")


def test_a_topic_that_is_not_there_is_skipped(settings: Settings) -> None:
    finding = examine_dead_letters(settings, {settings.names.dead_letters})
    assert finding.status is Status.skipped
    assert settings.names.dead_letters in finding.detail
