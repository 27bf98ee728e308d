from __future__ import annotations

import json

import pytest

from beliefstream.schemas import Model, RangeSensor, Sensor, parse, parse_sensor
from beliefstream.streams.bridges.definition_files import documents, parse_definitions, read_definitions

SENSORS = """# two masts
- &mast
  sensor: mast-1
  kind: range
  position: [0, 5]
  standard_deviation: 3e-1
- <<: *mast
  sensor: no
"""
MODEL = """
entity: "*"
name: walker
coordinates:
  - {name: x, unit: m}
  - {name: y, unit: m}
motion:
  kind: random_walk
  spectral_density: %s
prior:
  weights: [1]
  means: [[0, 0]]
  covariances: [[[100, 0], [0, 100]]]
"""


def test_sensors_in_yaml_are_those_of_json() -> None:
    first = RangeSensor(sensor="mast-1", position=(0, 5), standard_deviation=0.3)
    found = parse_definitions(read_definitions(SENSORS.encode(), "sensors.yaml"), parse_sensor)
    assert found == [first, first.model_copy(update={"sensor": "no"})]


def test_several_documents_are_several_definitions() -> None:
    text = f"{MODEL % 0.1}---\n{(MODEL % 0.2).replace('*', 'anna')}"
    found = parse_definitions(read_definitions(text.encode(), "models.yml"), lambda raw: parse(Model, raw))
    assert [model.entity for model in found] == ["*", "anna"]


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        (
            SENSORS.replace("sensor: no", "sensor: mast-1"),
            "s.yaml",
            r"s.yaml: line 8: sensor: 'mast-1' is def",
        ),
        (f"{MODEL % 0.1}---\n{MODEL % 0.2}", "m.yaml", r"m.yaml: line \d+: entity: '\*' is defined twice"),
        (
            '{"sensor": "a", "kind": "speed", "standard_deviation": 1}\n' * 2,
            "s.jsonl",
            "definition 2 of 2: sensor",
        ),
    ],
)
def test_one_name_in_two_definitions_is_an_error(text: str, name: str, message: str) -> None:
    def read(raw: bytes) -> Sensor | Model:
        return parse_sensor(raw) if b'"sensor"' in raw else parse(Model, raw)

    with pytest.raises(ValueError, match=message):
        parse_definitions(read_definitions(text.encode(), name), read)


def test_a_definition_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stated = read_definitions(SENSORS.encode(), "sensors.yaml")
    monkeypatch.setattr(json, "loads", lambda raw: pytest.fail("decoded again"))
    decoded: list[bytes] = []

    def read(raw: bytes) -> Sensor | Model:
        decoded.append(raw)
        return parse_sensor(raw)

    assert [each.sensor for each in parse_definitions(stated, read) if isinstance(each, RangeSensor)] == [
        "mast-1",
        "no",
    ]
    assert decoded == [each.raw for each in stated]


@pytest.mark.parametrize("text", ["- sensor: a\n  kind: speed", '[{"sensor": "a", "kind": "speed"}]'])
def test_standard_input_may_be_either(text: str) -> None:
    (only,) = read_definitions(text.encode(), "standard input")
    assert json.loads(only.raw) == {"sensor": "a", "kind": "speed"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("1e-3", 0.001),
        ("010", 10),
        ("1:30", "1:30"),
        ("-.5", -0.5),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00Z"),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("5.", 5.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    (only,) = documents(f"key: {text}".encode(), "x.yaml")
    assert only.value == {"key": value}
    assert type(only.value["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "- sensor: a\n  kind: range\n  standard_deviation: 1\n  position: [0,\n    far]\n",
            ("s.yaml: line 5: ", "position[1]", "'far'"),
        ),
        (
            "- sensor: a\n  kind: speed\n  standard_deviation: 1\n- kind: range\n  sensor: b\n",
            ("s.yaml: line 4: ", "required"),
        ),
        ("- sensor: a\n  kind: nothing\n", ("s.yaml: line 1: ", "'nothing'")),
        ("- sensor: a\n  kind: [\n", ("s.yaml: line 3: not YAML: ",)),
        ("- sensor: a\n\tkind: b\n", ("s.yaml: line 2: not YAML: ", "\\t")),
        ("sensor: a\nsensor: b\n", ("s.yaml: line 2: sensor stands here twice",)),
        ("? [a]\n: b\n", ("s.yaml: line 1: ",)),
        ("a: &x [*x]\n", ("s.yaml: line 1: ", "alias")),
        ("a: *x\n", ("s.yaml: line 1: not YAML: ", "'x'")),
        ("a: !!python/object:os.system x\n", ("s.yaml: line 1: not YAML: ", "python")),
        ("a: \x00", ("s.yaml: not YAML: ",)),
    ],
)
def test_an_error_names_file_and_line(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError) as caught:
        parse_definitions(read_definitions(text.encode(), "s.yaml"), parse_sensor)
    assert str(caught.value).startswith(parts[0]), caught.value
    for part in parts:
        assert part in str(caught.value)


def test_the_line_is_that_of_a_field_inside_the_motion() -> None:
    stated = read_definitions((MODEL % "fast").encode(), "models.yaml")
    with pytest.raises(ValueError, match=r"^models\.yaml: line 9: motion.*spectral_density.*'fast'"):
        parse_definitions(stated, lambda raw: parse(Model, raw))


def test_aliases_of_aliases_have_an_end() -> None:
    levels = [f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 10)}]" for n in range(9)]
    with pytest.raises(ValueError, match=r"s\.yaml: line \d+: more than 100000 values"):
        read_definitions("\n".join(["a: &a [1]", *levels]).encode(), "s.yaml")


def test_yaml_that_is_empty_defines_nothing() -> None:
    assert read_definitions(b"# nothing yet\n", "sensors.yaml") == []
