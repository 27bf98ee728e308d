"""MQTT topics and payloads as observations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from beliefstream.schemas import Observation, Unusable
from beliefstream.streams.bridges.mqtt.mapping import Mapping

NOW, MOST = 1769860800.0, 1_000_000


def mapping(topic: str = "sites/+/{entity}/{sensor}", **fields: Any) -> Mapping:
    return Mapping.model_validate({"topics": [{"topic": topic, **fields}]})


def observed(found: Mapping, topic: str, payload: Any) -> Observation:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return found.observation(topic, raw, NOW, MOST)


def test_levels_of_the_topic_are_entity_and_sensor() -> None:
    found = observed(mapping(), "sites/north/mower/gps", {"value": [3, 4], "time": 7})
    assert found == Observation(entity="mower", sensor="gps", time=7.0, value=(3.0, 4.0))
    assert mapping().topics[0].subscription == "sites/+/+/+"


def test_parts_of_the_payload_are_found_by_paths() -> None:
    made = mapping(
        "v1/{tenant}/{tag}/#",
        entity="{tenant}-{tag}",
        sensor="uwb",
        value=["position.x", "position.y"],
        time="stamp",
        time_unit="ms",
        standard_deviation="noise.0",
        id="meta.serial",
    )
    payload = {
        "position": {"x": 1.5, "y": 2},
        "stamp": 1769860800250,
        "noise": [0.3],
        "meta": {"serial": "s-9"},
    }
    assert observed(made, "v1/acme/17/up/link", payload) == Observation(
        entity="acme-17",
        sensor="uwb",
        time=1769860800.25,
        value=(1.5, 2.0),
        standard_deviation=0.3,
        id="s-9",
    )


def test_a_bare_number_is_a_value_of_now() -> None:
    assert observed(mapping(value=".", time=None), "sites/a/b/c", b"12.5").value == 12.5
    assert observed(mapping(value=".", time=None), "sites/a/b/c", b"12.5").time == NOW


def test_the_first_pattern_that_matches_counts() -> None:
    made = Mapping.model_validate(
        {"topics": [{"topic": "a/{entity}", "sensor": "first"}, {"topic": "{entity}/+", "sensor": "second"}]}
    )
    payload = {"value": 1, "time": 1}
    assert observed(made, "a/x", payload).sensor == "first"
    assert observed(made, "b/x", payload).sensor == "second"


@pytest.mark.parametrize(
    ("payload", "reason", "part"),
    [
        (b"", "not_json", "payload: "),
        (b"\xff", "not_json", "payload: "),
        ({"time": 1}, "invalid", "value: the payload has no 'value' ({'time': 1})"),
        (5, "invalid", "time: the payload has no 'time' (5)"),
        ({"value": "x", "time": 1}, "invalid", "value: "),
        ({"value": 1, "time": "soon"}, "invalid_time", "'soon'"),
        ({"value": 1, "time": None}, "invalid_time", "time: "),
    ],
)
def test_a_payload_that_does_not_map_is_named(payload: Any, reason: str, part: str) -> None:
    with pytest.raises(Unusable) as raised:
        observed(mapping(), "sites/a/b/c", payload)
    assert raised.value.reason == reason
    assert part in raised.value.detail


def test_a_topic_that_gives_no_name_is_named() -> None:
    with pytest.raises(Unusable, match="entity"):
        observed(mapping(), "sites/a/b c/d", {"value": 1, "time": 1})
    with pytest.raises(Unusable, match="no pattern matches 'sites/a'"):
        observed(mapping(), "sites/a", {"value": 1, "time": 1})


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"topic": "a/b+/{entity}/{sensor}"}, "b\\+ is no level"),
        ({"topic": "a/#/{entity}"}, "# is no level"),
        ({"topic": "a/x{entity}"}, "x{entity} is no level"),
        ({"topic": "a/{entity}"}, "sensor: {sensor} is not in the topic 'a/{entity}'"),
        ({"topic": "a/{entity}/{sensor}", "entity": "{entity"}, "entity: "),
        ({"topic": "a/{entity}/{sensor}", "colour": 1}, "colour"),
        ({}, "topic"),
    ],
)
def test_a_mapping_that_cannot_work_is_named(fields: dict[str, Any], part: str, tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps({"topics": [fields]}))
    with pytest.raises(ValueError, match=part):
        Mapping.read(path)


def test_a_time_that_no_number_of_seconds_holds_is_refused_in_any_unit() -> None:
    for unit in ("s", "ms", "us", "ns"):
        mapping = Mapping.model_validate({"topics": [{"topic": "{entity}/{sensor}", "time_unit": unit}]})
        with pytest.raises(Unusable, match="time"):
            mapping.observation("a/b", b'{"value": 1, "time": 1%s}' % (b"0" * 400), 0.0, 10_000)


def test_a_sensor_that_moves_states_where_it_was() -> None:
    made = mapping(
        "{entity}/{sensor}", value="bearing", position=["pose.x", "pose.y"], orientation="pose.yaw"
    )
    payload = {"bearing": 0.3, "time": 7, "pose": {"x": 1, "y": 2.5, "yaw": -0.5}}
    assert observed(made, "tag/camera", payload) == Observation(
        entity="tag", sensor="camera", time=7.0, value=0.3, position=(1.0, 2.5), orientation=-0.5
    )
    with pytest.raises(Unusable, match=r"pose\.y: the payload has no 'y'"):
        observed(made, "tag/camera", payload | {"pose": {"x": 1, "yaw": 0}})
