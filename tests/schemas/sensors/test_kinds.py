"""Every kind of sensor and motion: there and back, and what is wrong named with field and value."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from beliefstream.schemas import ControlSensor, Model, Reason, Unusable, parse, parse_sensor
from beliefstream.schemas.kinds import AnyMotion
from beliefstream.schemas.sensors.parsing import KINDS
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
    "time_differences": 2,
    "pseudorange_rate": 2,
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
    assert names["pseudorange"] == ("x", "y", "z", "vx")
    assert names["pseudorange_rate"] == ("x", "y", "z", "vx", "vy", "vz", "drift")
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


def complaint(definition: dict[str, Any]) -> str:
    with pytest.raises(Unusable) as caught:
        parse_sensor(json.dumps(definition).encode())
    assert caught.value.reason == Reason.invalid_definition
    return caught.value.detail


NO_WEIGHTS = {"components": [{"weight": 0.5}, {"weight": 0.4}]}
CLUTTERED = {"clutter": [{"kind": "uniform", "probability": 0.6, "low": 0, "high": 1}]}


@pytest.mark.parametrize(
    ("kind", "changes", "field", "shown"),
    [
        ("range", {"noise": NO_WEIGHTS}, "range.noise.components", "expected weights that sum to 1, got 0.9"),
        ("range", {"noise": {"slope": -0.1}}, "range.noise.slope", "(-0.1)"),
        (
            "range",
            {"noise": {"components": [{"weight": 1, "ratio": 0}]}},
            "range.noise.components[0].ratio",
            "(0)",
        ),
        (
            "range",
            {"noise": CLUTTERED, "outlier_probability": 0.5},
            "range.noise",
            "a sum below 1, got 1.1",
        ),
        (
            "range",
            {"noise": {"clutter": [{"kind": "uniform", "probability": 0.1, "low": 2, "high": 1}]}},
            "range.noise.clutter[0].uniform.high",
            "expected a number above low, 2.0 (1)",
        ),
        (
            "range",
            {"noise": {"clutter": [{"kind": "exponential", "probability": 0, "mean": 1}]}},
            "range.noise.clutter[0].exponential.probability",
            "(0)",
        ),
        ("range", {"noise": {"clutter": [{"kind": "gamma"}]}}, "range.noise.clutter[0]", "'gamma'"),
        (
            "position",
            {"noise": {"slope": 0.1}},
            "position.noise",
            "expected no noise for a sensor of 2 numbers",
        ),
        ("linear", {"outlier_probability": 0.1}, "linear.noise", "expected an outlier_probability of 0"),
        ("geodetic", {"origin": {"latitude": 91, "longitude": 0}}, "geodetic.origin.latitude", "(91)"),
        ("geodetic", {"coordinates": ["x"]}, "geodetic.coordinates", "at least 2"),
        ("geodetic", {"covariance": [[1.0]]}, "geodetic.covariance", "2 by 2, got 1 by 1"),
        ("geodetic", {"scale": 2.0}, "geodetic.scale", "(2.0)"),
        ("speed", {"maximum_speed": 0}, "speed.maximum_speed", "(0)"),
        ("range_rate", {"velocities": ["vx"]}, "range_rate.velocities", "expected one velocity for each"),
        ("range_rate", {"velocities": ["vx", "x"]}, "range_rate.velocities", "['vx', 'x']"),
        ("range_rate", {"velocities": ["vx", "vx"]}, "range_rate.velocities", "['vx', 'vx']"),
        ("signal_strength", {"exponent": -2}, "signal_strength.exponent", "(-2)"),
        (
            "signal_strength",
            {"position": [1]},
            "signal_strength.position",
            "expected 2 numbers, one for each of",
        ),
        ("time_difference", {"first": [1, 2, 3]}, "time_difference.first", "[1, 2, 3]"),
        (
            "time_difference",
            {"second": [9, 0]},
            "time_difference.second",
            "expected another position than first",
        ),
        (
            "relative_bearing",
            {"heading": "x"},
            "relative_bearing.heading",
            "expected another name than those in coordinates ('x')",
        ),
        (
            "relative_bearing",
            {"coordinates": ["x", "heading"]},
            "relative_bearing.heading",
            "another name than those in coordinates",
        ),
        (
            "range_rate",
            {"coordinates": ["x", "y", "z"], "position": [0, 0, 0]},
            "range_rate.velocities",
            "expected one velocity for each",
        ),
        ("heading", {"coordinates": ["a", "b"]}, "heading.coordinates", "at most 1"),
        ("course", {"coordinates": ["a"]}, "course.coordinates", "at least 2"),
        ("azimuth_elevation", {"coordinates": ["x", "y"]}, "azimuth_elevation.coordinates", "at least 3"),
        (
            "range_bearing",
            {"bearing": {"standard_deviation": 0}},
            "range_bearing.bearing.standard_deviation",
            "(0)",
        ),
        ("range_bearing", {"standard_deviation": 1}, "range_bearing.standard_deviation", "(1)"),
        (
            "range_relative_bearing",
            {"range": {}},
            "range_relative_bearing.range.standard_deviation",
            "required",
        ),
        ("pseudorange", {"noise": {"slope": 0.1}}, "pseudorange", "expected components only"),
        ("pseudorange", {"noise": CLUTTERED}, "pseudorange", "expected components only"),
        ("pseudorange", {"clock": "x"}, "pseudorange", "each coordinate once"),
        ("pseudorange", {"coordinates": ["x", "y"]}, "pseudorange.coordinates", "at least 3"),
        ("pseudorange", {"origin": {"latitude": 91, "longitude": 0}}, "pseudorange.origin.latitude", "(91)"),
        ("pseudorange_rate", {"drift": "vx"}, "pseudorange_rate", "each coordinate once"),
        ("own", {"parameters": {"two words": 1}}, "own.parameters.two words.[key]", "'two words'"),
        ("own", {"parameters": {"m": [[1], [1, 2]]}}, "own.parameters", "expected rows of one length in m"),
        ("own", {"outputs": 0}, "own.outputs", "(0)"),
        ("own", {"position": [1]}, "own.position", "expected 3 numbers"),
        ("learned", {"problem": "module"}, "learned.problem", "'module'"),
        ("learned", {"problem": "os:path.join"}, "learned.problem", "'os:path.join'"),
        ("learned", {"parameters": {}}, "learned.parameters", "at least 1"),
        ("learned", {"parameters": {"x": "x", "y": "x"}}, "learned.parameters", "each coordinate once"),
        ("learned", {"value": ["count", "count"]}, "learned.value", "each name once"),
        ("learned", {"value": []}, "learned.value", "at least 1"),
        ("learned", {"context": {"count": 1.0}}, "learned.context", "count here or in value, not in both"),
        ("learned", {"standard_deviation": 1}, "learned.standard_deviation", "(1)"),
        ("control", {"inputs": ["a", "a"]}, "control.inputs", "['a', 'a']"),
        (
            "control",
            {"standard_deviation": [0.1]},
            "control.standard_deviation",
            "one standard_deviation for each",
        ),
        ("control", {"scale": [1, 0]}, "control.scale", "other than 0"),
        ("control", {"bias": [1, 2, 3]}, "control.bias", "one bias for each of inputs"),
        ("control", {"standard_deviation": -1}, "control.standard_deviation", "(-1)"),
        ("control", {"standard_deviation": None}, "control.covariance", "exactly one of"),
        (
            "control",
            {"standard_deviation": None, "covariance": [[1, 2], [2, 1]]},
            "control.covariance",
            "expected a positive semidefinite matrix",
        ),
    ],
)
def test_a_field_that_makes_no_sense_is_named_with_its_value(
    kind: str, changes: dict[str, Any], field: str, shown: str
) -> None:
    detail = complaint({**SENSORS[kind], **changes})
    assert detail.startswith(f"{field}: ")
    assert shown in detail


def test_a_control_may_be_exact_and_its_errors_may_hang_together() -> None:
    exact = {**SENSORS["control"], "standard_deviation": 0}
    together = {**SENSORS["control"], "standard_deviation": None, "covariance": [[1, 1], [1, 1]]}
    sensors = [parse_sensor(each) for each in (SENSORS["control"], exact, together)]
    covariances = [sensor.noise_covariance for sensor in sensors if isinstance(sensor, ControlSensor)]
    expected = [((0.1**2, 0.0), (0.0, 0.02**2)), ((0.0, 0.0), (0.0, 0.0)), ((1.0, 1.0), (1.0, 1.0))]
    assert covariances == expected


@pytest.mark.parametrize(
    ("name", "changes", "shown"),
    [
        ("acceleration", {"accelerations": ["ax"]}, "expected one acceleration for each position"),
        (
            "acceleration",
            {"accelerations": ["ax", "ay", "x"]},
            "each coordinate once in positions and velocities",
        ),
        ("velocity", {"inputs": ["ax"]}, "expected no inputs, or one for each of positions (['ax'])"),
        ("velocity", {"inputs": ["ax", "ax"]}, "expected each name once"),
        ("reverting", {"mean": [1, 2, 3]}, "expected one mean for each coordinate, got 3"),
        ("reverting", {"rate": -1}, "(-1)"),
        ("linear", {"drift": [[0, 1]]}, "expected a square matrix"),
        (
            "linear",
            {"drift": [[0.0]], "diffusion": [[1.0]], "input_matrix": [[1]]},
            "one drift for each coordinate",
        ),
        ("linear", {"diffusion": [[0, 1], [1, 0]]}, "expected a positive semidefinite matrix"),
        ("linear", {"diffusion": [[0]]}, "expected a matrix of 2 by 2, got 1 by 1"),
        ("linear", {"step": 1.0}, "expected either drift and diffusion, or transition, noise and step"),
        ("linear", {"diffusion": None}, "expected either drift and diffusion, or transition, noise and step"),
        (
            "linear",
            {"input_matrix": None},
            "expected one row for each coordinate and one column for each input",
        ),
        ("linear", {"inputs": []}, "expected one row for each coordinate and one column for each input"),
        ("steps", {"step": 0}, "(0)"),
        ("steps", {"step": None}, "expected either drift and diffusion, or transition, noise and step"),
        ("unicycle", {"speed_density": 0.1}, "expected 0, because speed is an input"),
        ("unicycle", {"turn_rate_density": 0.1}, "expected 0, because turn_rate is an input"),
        ("unicycle", {"positions": ["x", "x"]}, "expected each name once"),
        ("unicycle", {"heading": "y"}, "expected each name once"),
        ("unicycle", {"turn_rate": "w"}, "got a motion of x, y, heading, w"),
        ("turn", {"turn_rate": None, "turn_rate_density": 0}, "got a motion of x, y, vx, vy"),
        ("turn", {"turn_rate": "vx"}, "expected each name once"),
        ("turn", {"positions": ["vx", "y"]}, "each coordinate once"),
        ("unicycle", {"positions": ["x", "heading"]}, "expected each name once"),
        ("turn", {"velocities": ["vx", "y"]}, "each coordinate once in positions and velocities"),
    ],
)
def test_a_motion_that_makes_no_sense_is_refused(name: str, changes: dict[str, Any], shown: str) -> None:
    definition = model(name)
    with pytest.raises(Unusable) as caught:
        parse(Model, json.dumps({**definition, "motion": {**definition["motion"], **changes}}).encode())
    assert caught.value.reason == Reason.invalid_definition
    assert caught.value.detail.startswith("motion")
    assert shown in caught.value.detail
