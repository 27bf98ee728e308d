"""Verdicts on sensors: those of the topic, under the present definition, judged again when there is something new."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from beliefstream.schemas import RangeSensor
from beliefstream.streams.kafka.producing import Record
from beliefstream.streams.live import verdicts
from beliefstream.streams.live.verdicts import SensorVerdicts
from tests.streams.live.pages import Page, watched
from tests.streams.worker.test_sensor_health import GPS, RADAR, Keeping, seen


def summaries(records: Iterable[Record]) -> dict[tuple[int, bytes], bytes | None]:
    return {(record.partition, record.key or b""): record.value for record in records}


@pytest.fixture
def biased() -> dict[tuple[int, bytes], bytes | None]:
    """The radar, off by one and a half of the predicted deviation of 0.7 m, beside a healthy receiver."""
    keeping = Keeping()
    both = [
        seen(offset, name, score=1.5 if name == "radar" else (-1.0) ** offset)
        for offset in range(400)
        for name in ("gps", "radar")
    ]
    return summaries(keeping.add(*both).summaries)


def judge(table: SensorVerdicts) -> None:
    asyncio.run(table.judge())


def test_a_biased_sensor_is_told_with_its_bias(biased: dict[tuple[int, bytes], bytes | None]) -> None:
    table = SensorVerdicts()
    assert table.of(RADAR) is None
    table.add(biased)
    judge(table)
    told, healthy = table.of(RADAR), table.of(GPS)
    assert told is not None
    assert healthy is not None
    assert told["verdict"] == "biased"
    assert told["channels"][0]["bias"] == pytest.approx(1.5 * 0.7, rel=1e-3)
    assert (healthy["verdict"], len(healthy["channels"])) == ("healthy", 2)


def test_a_verdict_on_an_earlier_definition_is_not_told(
    biased: dict[tuple[int, bytes], bytes | None],
) -> None:
    table = SensorVerdicts()
    table.add(biased)
    judge(table)
    assert table.of(RADAR.model_copy(update={"bias": 1.0})) is None


def test_partitions_are_judged_together_and_a_removed_one_no_more() -> None:
    keeping, table = Keeping(), SensorVerdicts()
    for partition in (0, 1):
        table.add(
            summaries(keeping.add(*(seen(offset, partition=partition) for offset in range(40))).summaries)
        )
    judge(table)
    assert (told := table.of(RADAR)) is not None
    assert told["channels"][0]["count"] == 80
    table._due = 0.0
    table.add({(1, b"radar"): None})
    judge(table)
    assert (told := table.of(RADAR)) is not None
    assert told["channels"][0]["count"] == 40


def test_a_sensor_that_was_removed_everywhere_leaves_nothing_behind(
    biased: dict[tuple[int, bytes], bytes | None],
) -> None:
    table = SensorVerdicts()
    table.add(biased)
    judge(table)
    table._due = 0.0
    table.add({place: None for place in biased if place[1] == b"radar"})
    judge(table)
    assert table.of(RADAR) is None
    assert table.of(GPS) is not None
    assert {sensor for _, sensor in table._messages} == {b"gps"}
    assert table._judged.keys() == {"gps"}
    assert table._new == {}


def test_it_judges_again_only_when_there_is_something_new_and_time_has_passed(
    biased: dict[tuple[int, bytes], bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = SensorVerdicts()
    table.add(biased)
    judge(table)
    table.add(biased)
    judge(table)
    assert table.version == 1
    monkeypatch.setattr(verdicts, "JUDGE_SECONDS", 0.0)
    table._due = 0.0
    judge(table)
    judge(table)
    assert table.version == 2


def test_what_is_no_summary_is_passed_over(biased: dict[tuple[int, bytes], bytes | None]) -> None:
    table = SensorVerdicts()
    table.add({**biased, (0, b"bad"): b"[]", (1, b""): b"\xff"})
    judge(table)
    assert (told := table.of(RADAR)) is not None
    assert told["verdict"] == "biased"


def test_a_viewer_is_sent_the_verdicts(page: Page, biased: dict[tuple[int, bytes], bytes | None]) -> None:
    definition = RangeSensor.model_validate(RADAR.model_dump())
    page.raw.send(page.topics.sensors, key=b"radar", value=definition.to_json())
    for (partition, key), value in biased.items():
        page.raw.send(page.topics.sensor_health, key=key, value=value, partition=partition)
    page.raw.flush()
    with watched(page) as browser:
        told = browser.wait_for("verdicts")
        assert set(told) == {"radar"}  # the receiver is not defined
        assert told["radar"]["verdict"] == "biased"
