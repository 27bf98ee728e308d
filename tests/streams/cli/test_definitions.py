from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from schemas import Model, parse, parse_sensor
from tests.conftest import Names
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import BEACON, GPS, WALKER


def test_sensors_are_set_from_json_listed_and_removed(run: Run, topics: Names) -> None:
    assert run("sensors", "set", f"[{BEACON}, {GPS}]").out == "set sensor beacon-1\nset sensor gps\n"
    listed = run("sensors", "list").out.splitlines()
    assert [parse_sensor(line.encode()) for line in listed] == [
        parse_sensor(text.encode()) for text in (BEACON, GPS)
    ]
    assert "beacon-1" in run("sensors", "list", "--format", "table").out
    assert run("sensors", "remove", "gps").status == 0
    assert [json.loads(line)["sensor"] for line in run("sensors", "list").out.splitlines()] == ["beacon-1"]


def test_definitions_come_from_a_file_or_standard_input(
    run: Run, topics: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sensors.jsonl"
    file.write_text(f"{BEACON}\n{GPS}\n")
    assert run("sensors", "set", str(file)).status == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(WALKER.encode())))
    assert run("models", "set", "-").out == "set model of *\n"
    assert len(run("sensors", "list").out.splitlines()) == 2


def test_models_are_set_listed_and_removed(run: Run, topics: Names) -> None:
    assert run("models", "set", WALKER).status == 0
    assert parse(Model, run("models", "list").out.encode()).name == "walker"
    assert "random_walk" in run("models", "list", "--format", "table").out
    assert run("models", "remove", "*").status == 0
    assert run("models", "list").out == ""


def test_one_invalid_definition_leaves_all_as_they_were(run: Run, topics: Names) -> None:
    wrong = BEACON.replace("[0,5]", "[0,5,3]")
    assert_one_line(run("sensors", "set", f"[{GPS}, {wrong}]"), "definition 2 of 2", "position")
    assert run("sensors", "list").out == ""


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("sensors", "set", "no-such-file"), ("no-such-file", "No such file")),
        (("sensors", "set", "{nonsense"), ("not JSON",)),
        (("models", "set", '{"entity": "*"}'), ("name", "required")),
    ],
)
def test_what_is_no_definition_is_explained(
    run: Run, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    assert_one_line(run(*arguments), *parts)


def test_removing_what_is_not_there_is_told(run: Run, topics: Names) -> None:
    assert_one_line(run("sensors", "remove", "beacon-7"), "beacon-7")
