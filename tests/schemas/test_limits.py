"""How large, how deep and how named a message may be; and that to refuse one costs next to nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pydantic import TypeAdapter

from beliefstream.schemas import (
    Message,
    Model,
    Name,
    Observation,
    Posterior,
    Prior,
    Reason,
    Unusable,
    is_name,
    parse,
    parse_sensor,
    printable,
)
from beliefstream.schemas.beliefs.mixture import MAXIMUM_COMPONENTS
from tests.schemas.kinds import model

OBSERVATION: dict[str, Any] = {"entity": "a", "sensor": "s", "time": 1.0, "value": 1.0}
MEGABYTE = 1_000_000  # what a worker parses at most, by default
AT_ONCE = 10.0  # seconds of the processor; it takes milliseconds, and minutes to an hour without these limits


def mixture(components: int, size: int) -> dict[str, Any]:
    identity = [[float(i == j) for j in range(size)] for i in range(size)]
    weights = [1 / components] * components
    return {"weights": weights, "means": [[0.0] * size] * components, "covariances": [identity] * components}


def refused(message: type[Message], content: Any) -> Unusable:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    began = time.process_time()
    with pytest.raises(Unusable) as caught:
        parse(message, raw)
    assert time.process_time() - began < AT_ONCE
    assert len(caught.value.detail) < 2000
    return caught.value


HOSTILE: dict[str, tuple[type[Message], Any]] = {
    "fields that nobody knows": (Observation, {**OBSERVATION, **{f"x{i}": 1 for i in range(70_000)}}),
    "as many as are parsed": (Observation, {**OBSERVATION, **{f"x{i}": 1 for i in range(2_000)}}),
    "numbers": (Observation, {**OBSERVATION, "value": [1] * 300_000}),
    "text for numbers": (Observation, {**OBSERVATION, "value": ["a"] * 2_000}),
    "a huge covariance": (Observation, {**OBSERVATION, "covariance": [[1.0] * 400] * 400}),
    "a field with a long name": (Observation, {**OBSERVATION, "k" * MEGABYTE: 1}),
    "a long name": (Observation, {**OBSERVATION, "entity": "k" * MEGABYTE}),
    "a long time": (Observation, {**OBSERVATION, "time": "9" * MEGABYTE}),
    "a number of many digits": (Observation, b'{"entity":"a","value":' + b"9" * MEGABYTE + b"}"),
    "components": (Prior, {"entity": "a", "time": 1, "mixture": mixture(10_000, 1)}),
    "coordinates": (Prior, {"entity": "a", "time": 1, "mixture": mixture(1, 200)}),
    "crooked components": (
        Prior,
        {"entity": "a", "time": 1, "mixture": {**mixture(9, 1), "covariances": [[["x"]]] * 30_000}},
    ),
    "a model's coordinates": (
        Model,
        {**model("walk"), "coordinates": [{"name": f"x{i}", "unit": "m", "q": 1} for i in range(9_000)]},
    ),
    "a posterior's names": (Posterior, {"applied": [f"{i}:{i}" for i in range(60_000)]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_refused_at_once(name: str) -> None:
    refused(*HOSTILE[name])


def test_hostile_definitions_of_sensors_are_refused_at_once() -> None:
    sensor = {"sensor": "s", "kind": "own", "measurement": "m", "coordinates": ["x"], "standard_deviation": 1}
    noise = {"components": [{"weight": 1, "q": 2}] * 3_000}
    rows = [{f"x{i}": 1.0 for i in range(9_000)}]
    for hostile in (
        {**sensor, "parameters": {"a": [[1.0] * 300] * 300}},
        {**sensor, "parameters": {f"-{i}": 1 for i in range(9_000)}},
        {"sensor": "s", "kind": "range", "position": [0, 0], "standard_deviation": 1, "noise": noise},
        {"sensor": "s", "kind": "linear", "rows": rows, "standard_deviation": 1},
    ):
        began = time.process_time()
        with pytest.raises(Unusable):
            parse_sensor(json.dumps(hostile).encode())
        assert time.process_time() - began < AT_ONCE


def test_too_many_values_and_fields_are_counted_before_they_are_parsed() -> None:
    """By commas and colons: what follows is no JSON, and nobody finds out."""
    assert refused(Observation, b"," * (Observation.most_parts + 1)).reason == Reason.too_large
    assert refused(Observation, b"," * Observation.most_parts).reason == Reason.not_json


def test_the_largest_sound_messages_are_within_the_limits() -> None:
    value, names = [1.5] * 64, "a:b," * 32
    identity = [[float(i == j) for j in range(64)] for i in range(64)]
    largest = {**OBSERVATION, "entity": ":" * 128, "value": value, "covariance": identity, "id": names}
    assert parse(Observation, json.dumps(largest).encode()).id == names
    widest = {"entity": "a", "time": 1, "mixture": mixture(MAXIMUM_COMPONENTS, 16)}
    assert parse(Prior, json.dumps(widest).encode()).mixture.components == MAXIMUM_COMPONENTS


def test_json_may_be_200_deep_and_hardly_deeper() -> None:
    for depth, reason in ((200, Reason.invalid), (210, Reason.not_json), (100_000, Reason.not_json)):
        nested = b'{"entity":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"
        assert refused(Observation, nested).reason == reason, depth


FORBIDDEN = (
    *("", "a" * 129, "a b", "a\n", "\n", "a\x00", "\x1b[2J", "a\u202eb", "é", "a\u2028"),
    *("a,b", "a;b", "a'b", '"', "<b>", "[red]", "$(x)"),
)


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("field", ["entity", "sensor"])
def test_names_are_of_the_documented_alphabet_and_length(field: str, name: str) -> None:
    assert refused(Observation, {**OBSERVATION, field: name}).reason == Reason.invalid
    shown = refused(Observation, {**OBSERVATION, field: name}).detail
    assert shown.isprintable()


@pytest.mark.parametrize(
    "hidden", ["\n", "\x00", "\x1b", "\x7f", "\x9b", "\xad", "\u200b", "\u202e", "\u2028", "\ufeff"]
)
def test_what_is_not_seen_is_in_no_identifier_and_no_unit(hidden: str) -> None:
    refused(Observation, {**OBSERVATION, "id": f"a{hidden}b"})
    moving = model("walk")
    refused(Model, {**moving, "coordinates": [{"name": "x", "unit": f"m{hidden}"}, moving["coordinates"][1]]})


@pytest.mark.parametrize("unit", ["m", "m/s", "°", "m s⁻²", "µΩ", "[red]m", "%"])
def test_units_may_be_written_as_people_write_them(unit: str) -> None:
    moving = model("walk")
    read = parse(
        Model,
        json.dumps(
            {**moving, "coordinates": [{"name": "x", "unit": unit}, moving["coordinates"][1]]}
        ).encode(),
    )
    assert read.coordinates[0].unit == unit


def test_a_refusal_quotes_nothing_that_is_not_seen() -> None:
    for hostile in ("\x1b[2J", "a\nb", "\u202e", "\x9b31m"):
        assert refused(Observation, {**OBSERVATION, hostile: 1}).detail.isprintable()
        assert Unusable(Reason.invalid, f"said {hostile}").detail.isprintable()
        with pytest.raises(Unusable) as caught:  # the message of pydantic quotes the kind as it is
            parse_sensor(json.dumps({"sensor": "s", "kind": hostile}).encode())
        assert caught.value.detail.isprintable()


def test_what_is_escaped_can_be_told_from_what_is_not() -> None:
    assert printable("plain é 漢") == "plain é 漢"
    assert printable("a\x1b[2J\r\nb\u202e") == "a\\x1b[2J\\r\\nb\\u202e"
    assert printable("a\nb\x07", "\n") == "a\nb\\x07"


@given(st.binary(max_size=140) | st.from_regex(rb"[A-Za-z0-9._:/@+\-\n\x00]{0,140}", fullmatch=True))
def test_a_key_is_a_name_where_a_message_could_name_it(key: bytes) -> None:
    try:
        TypeAdapter(Name).validate_python(key.decode())
    except ValueError:  # no text, or no name
        assert not is_name(key)
    else:
        assert is_name(key)
