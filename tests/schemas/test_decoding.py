from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given, strategies as st

from beliefstream.schemas import (
    Message,
    Model,
    Observation,
    Posterior,
    Prior,
    Reason,
    Unusable,
    parse,
    parse_sensor,
)
from tests.schemas.messages import models, observations, posteriors, priors, relaxed, resets, sensors

SOUND: dict[str, Any] = {"entity": "mower", "sensor": "beacon-1", "time": 12.5, "value": [1.0, 2.0]}


def refused(raw: bytes | None) -> Unusable:
    with pytest.raises(Unusable) as caught:
        parse(Observation, raw)
    return caught.value


@relaxed
@given(observations() | models() | priors() | resets() | posteriors())
def test_a_message_is_the_same_after_json_and_back(message: Message) -> None:
    assert parse(type(message), message.to_json()) == message


@relaxed
@given(sensors())
def test_a_sensor_is_the_same_after_json_and_back(sensor: Any) -> None:
    assert parse_sensor(sensor.to_json()) == sensor


@pytest.mark.parametrize(
    "raw",
    [None, b"", b"{", b"x", b"\xff\xfe", b'{"entity":"\xff"}', b'{"entity":"\\ud800"}', b"[" * 5000, b"{}}"],
)
def test_bytes_that_are_not_json_are_called_so(raw: bytes | None) -> None:
    assert refused(raw).reason == Reason.not_json


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
@pytest.mark.parametrize("field", ["time", "value", "standard_deviation", "sensor"])
def test_a_number_that_is_not_finite_is_called_so(literal: bytes, field: str) -> None:
    raw = orjson.dumps({**SOUND, field: "HERE"}).replace(b'"HERE"', literal)
    error = refused(raw)
    assert error.reason == Reason.not_finite
    assert error.detail.startswith(f"{field}: ")


def test_a_number_that_is_not_finite_within_a_list_is_named_by_its_place() -> None:
    error = refused(orjson.dumps(SOUND).replace(b"2.0", b"NaN"))
    assert (error.reason, error.detail) == (
        Reason.not_finite,
        "value[1]: Input should be a finite number (nan)",
    )


@pytest.mark.parametrize("time", [True, None, "noon", "2026-01-01T00:00:00", "12.5", [], 1_700_000_000_000])
def test_a_time_that_is_none_is_called_so(time: Any) -> None:
    error = refused(orjson.dumps({**SOUND, "time": time}))
    assert error.reason == Reason.invalid_time
    assert error.detail.startswith("time: ")
    assert error.detail.endswith(f"({time!r})")


@pytest.mark.parametrize(
    "covariance",
    [
        [[1, 2], [2, 1]],
        [[0, 0], [0, 0]],
        [[1, 0.1], [0, 1]],
        [[1, 0]],
        [[1]],
        [],
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    ],
)
def test_a_matrix_that_is_no_covariance_of_the_value_is_called_so(covariance: Any) -> None:
    error = refused(orjson.dumps({**SOUND, "covariance": covariance}))
    assert error.reason == Reason.invalid_covariance
    assert error.detail.startswith("covariance: ")


@pytest.mark.parametrize("length", [0, 65])
def test_a_value_that_no_sensor_can_have_has_the_wrong_length(length: int) -> None:
    assert refused(orjson.dumps({**SOUND, "value": [1.0] * length})).reason == Reason.wrong_length


@pytest.mark.parametrize("value", [["far"], ["far", 2.0], [2.0, "far"]])
def test_a_value_with_an_item_that_is_no_number_has_not_the_wrong_length(value: list[Any]) -> None:
    error = refused(orjson.dumps({**SOUND, "value": value}))
    assert (error.reason, "far" in error.detail) == (Reason.invalid, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entity", ""),
        ("entity", "a b"),
        ("entity", "*"),
        ("entity", "a\n"),
        ("entity", "x" * 129),
        ("entity", 7),
        ("sensor", None),
        ("value", "1.5"),
        ("value", True),
        ("value", None),
        ("value", {"x": 1}),
        ("value", [1, "2"]),
        ("standard_deviation", 0),
        ("standard_deviation", -1),
        ("standard_deviation", "1"),
        ("covariance", 1),
        ("id", ""),
        ("id", "a\tb"),
        ("colour", "green"),
    ],
)
def test_a_field_of_the_wrong_type_or_form_is_named_with_its_value(field: str, value: Any) -> None:
    error = refused(orjson.dumps({**SOUND, field: value}))
    assert error.reason == Reason.invalid
    assert error.detail.startswith(field)
    assert "(" in error.detail
    assert "\n" not in error.detail
    assert len(error.detail) < 300


@pytest.mark.parametrize("field", ["entity", "sensor", "time", "value"])
def test_a_missing_field_is_named(field: str) -> None:
    error = refused(orjson.dumps({name: value for name, value in SOUND.items() if name != field}))
    assert (error.reason, error.detail) == (Reason.invalid, f"{field}: Field required")


@pytest.mark.parametrize("raw", [b"null", b"[]", b"1", b'"x"'])
def test_json_that_is_no_object_is_invalid(raw: bytes) -> None:
    error = refused(raw)
    assert error.reason == Reason.invalid
    assert error.detail.startswith("message: Input should be an object")


@pytest.mark.parametrize("message", [Observation, Prior, Posterior, Model])
def test_what_is_wrong_with_a_model_is_an_invalid_definition(message: type[Message]) -> None:
    with pytest.raises(Unusable) as caught:
        parse(message, b"{}")
    assert caught.value.reason == (Reason.invalid_definition if message is Model else Reason.invalid)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", Reason.not_json),
        (None, Reason.not_json),
        (b"{}", Reason.invalid_definition),
        (b'{"kind":"sonar","sensor":"s"}', Reason.invalid_definition),
        (b'{"kind":"position","sensor":"s","standard_deviation":NaN}', Reason.not_finite),
        (
            b'{"kind":"position","sensor":"s","covariance":[[1,2],[2,1]]}',
            Reason.invalid_definition,
        ),
    ],
)
def test_what_is_wrong_with_a_sensor_is_an_invalid_definition(raw: bytes | None, reason: Reason) -> None:
    with pytest.raises(Unusable) as caught:
        parse_sensor(raw)
    assert caught.value.reason == reason


@relaxed
@given(st.binary(max_size=200) | st.from_regex(rb'\{"(entity|time|value)":[-\d.eE"\[\]{},NaInfty]{0,30}\}'))
def test_no_bytes_raise_anything_else(raw: bytes) -> None:
    for message in (Observation, Model, Prior, Posterior):
        with pytest.raises(Unusable):
            parse(message, raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@relaxed
@given(st.sampled_from(sorted(SOUND)), json_values)
def test_any_value_of_a_field_is_accepted_or_refused_with_the_field_named(field: str, value: Any) -> None:
    try:
        parse(Observation, json.dumps({**SOUND, field: value}).encode())  # which writes NaN and any integer
        complaint = None
    except Unusable as error:
        complaint = error.detail
    assert complaint is None or complaint.startswith(field)
