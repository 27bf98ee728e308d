"""Every kind of sensor and motion: there and back, and what is wrong named with field and value."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from schemas import Model, parse, parse_sensor
from schemas.motions import AnyMotion
from schemas.sensor import KINDS
from tests.schemas.kinds import MOTIONS, SENSORS, model


def test_there_is_an_example_of_every_kind() -> None:
    assert set(SENSORS) == {each.model_fields["kind"].default for each in KINDS}
    motions = {each.model_fields["kind"].default for each in get_args(AnyMotion)}
    assert {motion["kind"] for _, motion in MOTIONS.values()} == motions


@pytest.mark.parametrize("kind", SENSORS)
def test_a_sensor_is_the_same_after_json_and_back(kind: str) -> None:
    sensor = parse_sensor(json.dumps(SENSORS[kind]).encode())
    assert sensor.kind == kind
    assert parse_sensor(sensor.to_json()) == sensor


@pytest.mark.parametrize("name", MOTIONS)
def test_a_model_is_the_same_after_json_and_back(name: str) -> None:
    found = parse(Model, json.dumps(model(name)).encode())
    assert found.motion.kind == MOTIONS[name][1]["kind"]
    assert parse(Model, found.to_json()) == found


LENGTHS = {
    "position": 2,
    "geodetic": 2,
    "azimuth_elevation": 2,
    "range_bearing": 2,
    "range_relative_bearing": 2,
    "range_azimuth_elevation": 3,
    "control": 2,
}


@pytest.mark.parametrize("kind", SENSORS)
def test_the_length_of_a_value_follows_from_the_kind(kind: str) -> None:
    assert parse_sensor(SENSORS[kind]).value_length == LENGTHS.get(kind, 1)


def test_a_sensor_knows_every_coordinate_that_it_sees() -> None:
    names = {kind: parse_sensor(SENSORS[kind]).coordinate_names for kind in SENSORS}
    assert names["range_rate"] == ("x", "y", "vx", "vy")
    assert names["relative_bearing"] == names["range_relative_bearing"] == ("x", "y", "heading")
    assert names["linear"] == ("x", "vx")
    assert names["control"] == ()


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        ("walk", ()),
        ("velocity", ("ax", "ay")),
        ("linear", ("force",)),
        ("steps", ()),
        ("unicycle", ("speed", "turn_rate")),
        ("unicycle with its own speed", ("turn_rate",)),
        ("turn", ()),
        ("turn under a gyroscope", ("turn_rate",)),
    ],
)
def test_a_motion_names_its_inputs(name: str, inputs: tuple[str, ...]) -> None:
    assert Model.model_validate(model(name)).motion.input_names == inputs
