"""Definitions of sensors of whose error a part lasts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from beliefstream.inference.sensors import Gain, PersistentError
from beliefstream.schemas import Model, Observation, Posterior, Unusable, parse, parse_sensor
from beliefstream.streams.definitions.errors import Devices
from beliefstream.streams.definitions.sensors import sensor_over
from beliefstream.streams.local.offline_log import Log
from tests.schemas.kinds import NAMES, SENSORS
from tests.streams.oracle import updater

RANGE = {"sensor": "mast", "kind": "range", "position": [0, 0], "standard_deviation": 0.1}
LASTING = {"persistent_deviation": 0.5, "correlation_time": 20}


def errors(**fields: Any) -> tuple[PersistentError, ...]:
    return sensor_over(parse_sensor(json.dumps(RANGE | fields).encode()), NAMES).all_errors


def test_a_sensor_owns_its_errors() -> None:
    assert errors(**LASTING, bias_deviation=0.2) == (
        PersistentError("mast/range", 0.5, 20.0),
        PersistentError("mast/range/bias", 0.2),
    )


def test_sensors_of_a_device_share_them() -> None:
    assert errors(**LASTING, device="hub") == (PersistentError("hub/range", 0.5, 20.0),)


def test_sensors_of_a_device_share_only_the_errors_that_are_named() -> None:
    fields = {**LASTING, "bias_deviation": 0.2, "scale_deviation": 0.01, "device": "hub"}
    found = errors(**fields, shared_errors=["bias"])
    assert [error.name for error in found] == ["mast/range", "hub/range/bias", "mast/range/scale"]
    found = errors(**fields, shared_errors=["persistent", "scale"])
    assert [error.name for error in found] == ["hub/range", "mast/range/bias", "hub/range/scale"]


def test_each_number_has_errors_of_its_own() -> None:
    radar = {
        "sensor": "radar",
        "kind": "range_bearing",
        "position": [0, 0],
        "range": {"standard_deviation": 0.1, **LASTING},
        "bearing": {"standard_deviation": 0.02, "bias_deviation": 0.01},
    }
    found = sensor_over(parse_sensor(json.dumps(radar).encode()), NAMES).all_errors
    assert [error.name for error in found] == ["radar/range", "radar/bearing/bias"]
    gps = {"sensor": "gps", "kind": "position", "coordinates": ["y", "x"], "standard_deviation": 1, **LASTING}
    sensor = sensor_over(parse_sensor(json.dumps(gps).encode()), NAMES)
    assert [(each.row, each.error.name) for each in sensor.errors] == [(0, "gps/y"), (1, "gps/x")]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"persistent_deviation": 0.5}, "both persistent_deviation and correlation_time"),
        ({"correlation_time": 5}, "both persistent_deviation and correlation_time"),
        (LASTING | {"correlation_time": -1}, "correlation_time"),
        (LASTING | {"persistent_deviation": 0}, "persistent_deviation"),
        ({"bias_deviation": -2}, "bias_deviation"),
        ({"scale_deviation": 0}, "scale_deviation: .*greater than 0"),
        ({"scale_deviation": 0.6}, "scale_deviation: .*less than or equal to 0.5"),
        ({"scale_deviation": 0.1, "noise": {"slope": 0.1}}, "expected no noise with scale_deviation"),
        ({"exponent_deviation": 0.1}, "exponent_deviation"),
        (LASTING | {"noise": {"slope": 0.1}}, "expected no noise with persistent_deviation"),
        ({"persistent_share": 1.2}, "persistent_share"),
        (LASTING | {"device": "no name"}, "device"),
        (LASTING | {"device": "hub", "shared_errors": ["clock"]}, "shared_errors"),
    ],
)
def test_what_has_no_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unusable, match=words):
        parse_sensor(json.dumps(RANGE | fields).encode())


BEACON = {
    "sensor": "beacon",
    "kind": "signal_strength",
    "position": [0, 0],
    "standard_deviation": 4,
    "reference_power": -59,
    "exponent": 2.5,
}


def test_a_scale_and_an_exponent_multiply_what_is_reported() -> None:
    assert errors(scale_deviation=0.01) == (PersistentError("mast/range/scale", 0.01),)
    (found,) = sensor_over(parse_sensor(BEACON | {"exponent_deviation": 0.3}), NAMES).errors
    assert found == (0, PersistentError("beacon/signal_strength/exponent", 0.3), Gain(-59.0, 1 / 2.5))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"exponent_deviation": -0.1}, "exponent_deviation: .*greater than 0"),
        ({"exponent_deviation": 1.3}, "exponent_deviation: expected at most half of the exponent, 1.25"),
        (
            {"exponent_deviation": 0.1, "noise": {"slope": 0.1}},
            "exponent_deviation: expected none with a noise",
        ),
        ({"scale_deviation": 0.1}, "scale_deviation"),
    ],
)
def test_an_exponent_without_sense_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unusable, match=words):
        parse_sensor(json.dumps(BEACON | fields).encode())


@pytest.mark.parametrize(
    "kind", [SENSORS["bearing"], SENSORS["pseudorange"], {"kind": "position", "standard_deviation": 1}]
)
def test_what_has_no_scale_is_refused(kind: dict[str, Any]) -> None:
    with pytest.raises(Unusable, match="scale_deviation"):
        parse_sensor(json.dumps({"sensor": "one"} | kind | {"scale_deviation": 0.01}).encode())


def test_several_numbers_have_no_common_scale() -> None:
    rows = {"sensor": "s", "kind": "linear", "rows": [{"x": 1}, {"y": 1}], "standard_deviation": 1}
    with pytest.raises(Unusable, match="scale_deviation: expected a sensor of one number"):
        sensor_over(parse_sensor(json.dumps(rows | {"scale_deviation": 0.01}).encode()), NAMES)


def test_too_many_errors_of_one_sensor_are_named() -> None:
    rows = [{"x": 1.0}] * 40
    many = {
        "sensor": "array",
        "kind": "linear",
        "rows": rows,
        "standard_deviation": 1,
        **LASTING,
        "bias_deviation": 1,
    }
    with pytest.raises(
        Unusable, match=r"80 errors that last, at most 64: array/linear/0, array/linear/0/bias, "
    ):
        sensor_over(parse_sensor(json.dumps(many).encode()), NAMES)


def test_sensors_of_a_device_state_the_same_numbers() -> None:
    def tag(name: str, **fields: Any) -> Any:
        return parse_sensor(json.dumps(RANGE | LASTING | {"sensor": name, "device": "hub"} | fields).encode())

    devices = Devices()
    devices.add(tag("one"))
    devices.add(tag("two"))
    with pytest.raises(
        Unusable,
        match=r"device: one has a deviation of 0.5 .* for hub/range, and three has a deviation of 0.7",
    ):
        devices.add(tag("three", persistent_deviation=0.7))
    devices.add(tag("three", device="other", persistent_deviation=0.7))
    devices.remove("one")
    devices.remove("two")
    devices.add(tag("three", persistent_deviation=0.7))


@pytest.mark.parametrize("turn", [1, -1])
def test_a_device_with_the_name_of_a_sensor_shares_its_errors(turn: int) -> None:
    alone = RANGE | {"sensor": "hub", "bias_deviation": 0.2}
    shared = RANGE | {"sensor": "tag", "device": "hub", "bias_deviation": 0.3}
    devices = Devices()
    first, second = (parse_sensor(json.dumps(each).encode()) for each in (alone, shared)[::turn])
    devices.add(first)
    with pytest.raises(
        Unusable, match=r"has a deviation of 0\.[23] for hub/range/bias, and .*; state the same"
    ):
        devices.add(second)


MODEL = {
    "entity": "*",
    "name": "walker",
    "coordinates": [{"name": "x", "unit": "m"}, {"name": "y", "unit": "m"}],
    "motion": {"kind": "random_walk", "spectral_density": 0.1},
    "prior": {"weights": [1], "means": [[3, 4]], "covariances": [[[4, 0], [0, 4]]]},
    "live_time": False,
}


@pytest.mark.parametrize("include", [False, True])
def test_posteriors_are_of_the_state_and_have_errors_where_they_are_asked_for(include: bool) -> None:
    log = Log()
    log.define_sensor(json.dumps(RANGE | LASTING).encode())
    log.define_model(parse(Model, json.dumps(MODEL | {"include_errors": include}).encode()))
    for time in range(5):
        log.add(Observation(entity="e", sensor="mast", time=float(time), value=6.0).to_json())
    found = [parse(Posterior, fused.to_json()) for fused in log.fuse(updater())]
    assert all(posterior.mixture.dimension == 2 for posterior in found)
    assert [error.name for error in found[-1].errors] == ["mast/range"] * include
    if include:
        assert 0 < found[-1].errors[0].mean < 1
        assert 0 < found[-1].errors[0].standard_deviation < 0.5


def test_sensors_of_a_device_share_a_scale_whatever_the_order_of_their_reports() -> None:
    def last(times: Iterable[int]) -> Posterior:
        log = Log()
        log.define_model(parse(Model, json.dumps(MODEL | {"include_errors": True}).encode()))
        for name, place in (("one", [0, 0]), ("two", [9, -2])):
            own = {"sensor": name, "position": place, "device": "hub", "scale_deviation": 0.05}
            log.define_sensor(json.dumps(RANGE | own).encode())
        for time in times:
            name, value = (("one", 5.3), ("two", 8.9))[time % 2]
            log.add(Observation(entity="e", sensor=name, time=float(time), value=value).to_json())
        found = [parse(Posterior, fused.to_json()) for fused in log.fuse(updater())]
        return max(found, key=lambda posterior: posterior.time)

    usual, late = last(range(6)), last((0, 5, 3, 2, 4, 1))
    assert [error.name for error in usual.errors] == ["hub/range/scale"]
    assert usual.errors[0].standard_deviation < 0.049
    assert late.mixture == usual.mixture
    assert late.errors == usual.errors
