from __future__ import annotations

from typing import Any

import pytest

from beliefstream.schemas import LinearSensor, PositionSensor, RangeSensor, Reason, Unusable, parse_sensor

RANGE: dict[str, Any] = {"kind": "range", "sensor": "b1", "position": [1, 2], "standard_deviation": 0.3}
BEARING: dict[str, Any] = {**RANGE, "kind": "bearing"}
POSITION: dict[str, Any] = {"kind": "position", "sensor": "gps", "standard_deviation": 2}
LINEAR: dict[str, Any] = {"kind": "linear", "sensor": "v", "rows": [{"vx": 1}], "standard_deviation": 1}


def test_defaults_are_those_of_a_perfectly_calibrated_sensor_in_the_plane() -> None:
    sensor = parse_sensor(RANGE)
    assert isinstance(sensor, RangeSensor)
    assert (sensor.coordinates, sensor.scale, sensor.bias) == (("x", "y"), 1.0, 0.0)
    assert (sensor.outlier_probability, sensor.maximum_range) == (0.0, 100.0)


@pytest.mark.parametrize(
    ("definition", "length"),
    [
        (RANGE, 1),
        (BEARING, 1),
        (POSITION, 2),
        ({**POSITION, "coordinates": ["x", "y", "z"]}, 3),
        ({**LINEAR, "rows": [{"x": 1}, {"y": 2}]}, 2),
    ],
)
def test_the_length_of_a_value_follows_from_the_definition(definition: dict[str, Any], length: int) -> None:
    assert parse_sensor(definition).value_length == length


def test_a_linear_sensor_knows_its_coordinates() -> None:
    sensor = LinearSensor(
        sensor="s", rows=({"b": 1.0, "a": 2.0}, {"a": 1.0, "c": 1.0}), standard_deviation=1.0
    )
    assert sensor.coordinates == ("b", "a", "c")


def test_a_covariance_takes_the_place_of_a_standard_deviation() -> None:
    sensor = PositionSensor(sensor="gps", covariance=((1.0, 0.5), (0.5, 1.0)))
    assert (sensor.standard_deviation, sensor.covariance) == (None, ((1.0, 0.5), (0.5, 1.0)))


@pytest.mark.parametrize(
    ("definition", "field"),
    [
        ({**RANGE, "position": [1, 2, 3]}, "range.position"),
        ({**RANGE, "maximum_range": 0}, "range.maximum_range"),
        ({**RANGE, "standard_deviation": 0}, "range.standard_deviation"),
        ({**RANGE, "scale": 0}, "range.scale"),
        ({**RANGE, "outlier_probability": 0.95}, "range.outlier_probability"),
        ({**RANGE, "coordinates": ["x", "x"]}, "range.coordinates"),
        ({**RANGE, "covariance": [[1]]}, "range.covariance"),
        ({**RANGE, "sensor": "a b"}, "range.sensor"),
        ({**BEARING, "coordinates": ["x", "y", "z"], "position": [1, 2, 3]}, "bearing.coordinates"),
        ({**BEARING, "maximum_range": 3}, "bearing.maximum_range"),
        ({**POSITION, "standard_deviation": None}, "position.covariance"),
        ({**POSITION, "covariance": [[1, 0], [0, 1]]}, "position.covariance"),
        ({**POSITION, "standard_deviation": None, "covariance": [[1]]}, "position.covariance"),
        ({**POSITION, "coordinates": []}, "position.coordinates"),
        ({**LINEAR, "rows": []}, "linear.rows"),
        ({**LINEAR, "rows": [{}]}, "linear.rows[0]"),
        ({**LINEAR, "rows": [{"x": "1"}]}, "linear.rows[0].x"),
        ({**LINEAR, "rows": [{"x y": 1}]}, "linear.rows[0].x y"),
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(definition: dict[str, Any], field: str) -> None:
    with pytest.raises(Unusable) as caught:
        parse_sensor(definition)
    assert caught.value.reason == Reason.invalid_definition
    assert caught.value.detail.startswith(field)


@pytest.mark.parametrize("definition", [{}, {"sensor": "s"}, {**RANGE, "kind": "sonar"}])
def test_the_kind_must_be_known(definition: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="kind"):
        parse_sensor(definition)
