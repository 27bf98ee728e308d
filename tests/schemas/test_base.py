from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from beliefstream.schemas import (
    BearingSensor,
    ConstantVelocity,
    Coordinate,
    DeadLetter,
    LinearSensor,
    Message,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    Quality,
    RandomWalk,
    RangeSensor,
    Replay,
    SensorHealth,
    explain,
)

MESSAGES: list[type[Message]] = [
    BearingSensor,
    ConstantVelocity,
    Coordinate,
    DeadLetter,
    LinearSensor,
    Mixture,
    Model,
    Observation,
    PositionSensor,
    Posterior,
    Prior,
    Quality,
    RandomWalk,
    RangeSensor,
    Replay,
    SensorHealth,
]


def explanation(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Observation.model_validate({"entity": "a", "sensor": "s", "time": 1.0, "value": 2.0, **fields})
    return explain(caught.value)


def described() -> Iterator[tuple[str, str | None]]:
    for message in MESSAGES:
        shown = message.model_json_schema()["properties"]  # constants are described there
        for name, field in message.model_fields.items():
            yield f"{message.__name__}.{name}", field.description or shown[name].get("description")


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_are_frozen_and_refuse_unknown_fields(message: type[Message]) -> None:
    assert message.model_config.get("frozen") is True
    assert message.model_config.get("extra") == "forbid"
    assert message.__doc__


def test_every_field_is_described() -> None:
    assert [field for field, description in described() if not description] == []


def test_an_explanation_names_field_and_value() -> None:
    assert explanation(standard_deviation=-2.0) == "standard_deviation: Input should be greater than 0 (-2.0)"


def test_an_explanation_joins_what_a_choice_of_types_would_have_accepted() -> None:
    assert explanation(value="x") == "value: Input should be a valid number or a valid tuple ('x')"


def test_an_explanation_points_into_the_value() -> None:
    assert explanation(value=[1, "x"]) == "value[1]: Input should be a valid number ('x')"


def test_an_explanation_is_one_short_line_whatever_the_value() -> None:
    faults = {f"field\n{i}": "y" * 10_000 for i in range(1000)}
    line = explanation(entity="x" * 10_000_000, **faults)
    assert "\n" not in line
    assert len(line) < 1000
    assert "and 997 more" in line


def test_an_explanation_stands_an_integer_that_python_does_not_write_out() -> None:
    said = explanation(value=10**5000)
    assert "too long to show" in said or "<int instance with roughly 5001 digits" in said
