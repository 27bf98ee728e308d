from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from beliefstream.schemas import Model, parse, parse_sensor
from tests.conftest import Names
from tests.schemas import kinds
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import BEACON, GPS, WALKER


def test_sensors_are_set_from_json_listed_and_removed(run: Run, topics: Names) -> None:
    assert run("sensors", "set", f"[{BEACON}, {GPS}]").out == "set sensor beacon-1\nset sensor gps\n"
    listed = run("sensors", "list").out.splitlines()
    assert [parse_sensor(line.encode()) for line in listed] == [
        parse_sensor(text.encode()) for text in (BEACON, GPS)
    ]
    assert "beacon-1" in run("sensors", "list", "--table").out
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


def test_every_kind_is_set_and_listed_as_it_was(run: Run, topics: Names) -> None:
    names = [definition["sensor"] for definition in kinds.SENSORS.values()]
    assert run("sensors", "set", json.dumps(list(kinds.SENSORS.values()))).status == 0
    listed = [parse_sensor(line.encode()) for line in run("sensors", "list").out.splitlines()]
    assert listed == [parse_sensor(kinds.SENSORS[name.removesuffix("-1")]) for name in sorted(names)]
    models = [{**kinds.model(name), "entity": f"e{i}"} for i, name in enumerate(kinds.MOTIONS)]
    assert run("models", "set", json.dumps(models)).status == 0
    found = [parse(Model, line.encode()) for line in run("models", "list").out.splitlines()]
    stated = [Model.model_validate(each) for each in models]
    assert found == sorted(stated, key=lambda model: model.entity)
    for listing, kind in (("sensors", "range_azimuth"), ("models", "coordinated_turn")):
        result = run(listing, "list", "--table")
        assert result.status == 0
        assert kind[:6] in result.out


def test_models_are_set_listed_and_removed(run: Run, topics: Names) -> None:
    assert run("models", "set", WALKER).status == 0
    assert parse(Model, run("models", "list").out.encode()).name == "walker"
    assert "random_walk" in run("models", "list", "--table").out
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
