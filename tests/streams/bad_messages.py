"""Messages that cannot be used, by what is wrong with them, each with the reason that its dead letter gives."""

from __future__ import annotations

import json
import time
from typing import Any, NamedTuple

from beliefstream.schemas import (
    Geodetic,
    GeodeticSensor,
    LinearSensor,
    Mixture,
    OwnSensor,
    PositionSensor,
    PseudorangeSensor,
    RangeSensor,
    Reason,
    Sensor,
)
from beliefstream.streams.local.simulated_fleet import fleet_model

ENTITY, LIVE = "victim", "live"
POSITION = PositionSensor(sensor="position", standard_deviation=1.5)
SENSORS: tuple[Sensor, ...] = (
    POSITION,
    RangeSensor(sensor="range", position=(0.0, 0.0), standard_deviation=0.5),
    LinearSensor(sensor="height", rows=({"z": 1.0},), standard_deviation=1.0),
    RangeSensor(sensor="absurd", position=(0.0, 0.0), standard_deviation=1e200),
    OwnSensor(sensor="homemade", measurement="nobodys", coordinates=("x",), standard_deviation=1.0),
    GeodeticSensor(sensor="satellite", origin=Geodetic(latitude=50.0, longitude=8.0), standard_deviation=3.0),
    PseudorangeSensor(
        sensor="receiver",
        coordinates=("x", "y", "vx"),
        clock="vy",
        origin=Geodetic(latitude=0.0, longitude=0.0),
        standard_deviation=1.0,
    ),
)
MODELS = (
    fleet_model().model_copy(update={"entity": ENTITY}),
    fleet_model().model_copy(update={"entity": LIVE, "live_time": True}),
)


class Case(NamedTuple):
    reason: Reason
    value: bytes | None
    key: bytes | None = ENTITY.encode()


def observation(**changes: Any) -> bytes:
    """A sound one, but for the changes; a change to `...` leaves the field out."""
    fields = {"entity": ENTITY, "sensor": "range", "time": 1.0, "value": 50.0} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def prior(**changes: Any) -> bytes:
    """A sound one, but for the changes."""
    mixture = Mixture.gaussian((0.0,) * 4, 1.0).model_dump()
    return json.dumps({"entity": ENTITY, "mixture": mixture, "time": 1.0} | changes).encode()


CROOKED = [[1.0, 2.0], [2.0, 1.0]]  # symmetric, with a negative eigenvalue
R = Reason
OBSERVATIONS: dict[str, Case] = {
    "not JSON": Case(R.not_json, b"\x00\xff not JSON \xfe"),
    "half of a message": Case(R.not_json, observation()[:-20]),
    "empty": Case(R.not_json, b""),
    "null value": Case(R.not_json, None),
    "nested too deeply": Case(R.not_json, b"[" * 100_000),
    "an array": Case(R.invalid, b"[1, 2]"),
    "a missing field": Case(R.invalid, observation(sensor=...)),
    "a field too many": Case(R.invalid, observation(colour="red")),
    "text for a value": Case(R.invalid, observation(value="50.0")),
    "true for a value": Case(R.invalid, observation(value=True)),
    "a number for an entity": Case(R.invalid, observation(entity=7)),
    "a standard deviation of zero": Case(R.invalid, observation(standard_deviation=0.0)),
    "two kinds of noise": Case(R.invalid, observation(standard_deviation=1.0, covariance=[[1.0]])),
    "NaN": Case(R.not_finite, observation(value=float("nan"))),
    "infinity": Case(R.not_finite, observation(value=float("-inf"))),
    "NaN for a time": Case(R.not_finite, observation(time=float("nan"))),
    "a number too large": Case(R.not_finite, observation().replace(b"50.0", b"1e999")),
    "text for a time": Case(R.invalid_time, observation(time="yesterday")),
    "a time without an offset": Case(R.invalid_time, observation(time="2026-01-31T12:00:00")),
    "true for a time": Case(R.invalid_time, observation(time=True)),
    "milliseconds for seconds": Case(R.invalid_time, observation(time=1.77e12)),
    "unknown sensor": Case(R.unknown_sensor, observation(sensor="nowhere")),
    "unknown entity": Case(R.unknown_entity, observation(entity="stranger"), b"stranger"),
    "two numbers for one": Case(R.wrong_length, observation(value=[1.0, 2.0])),
    "one number for two": Case(R.wrong_length, observation(sensor="position", value=1.0)),
    "no number": Case(R.wrong_length, observation(value=[])),
    "a coordinate that the state lacks": Case(R.missing_coordinates, observation(sensor="height")),
    "far future": Case(R.future, observation(entity=LIVE, time=time.time() + 3600), LIVE.encode()),
    "not positive definite": Case(
        R.invalid_covariance, observation(sensor="position", value=[1.0, 2.0], covariance=CROOKED)
    ),
    "a negative variance": Case(R.invalid_covariance, observation(covariance=[[-1.0]])),
    "a covariance of another size": Case(
        R.invalid_covariance, observation(covariance=[[1.0, 0.0], [0.0, 1.0]])
    ),
    "noise that cannot be squared": Case(R.invalid_covariance, observation(standard_deviation=1e200)),
    "noise whose square is zero": Case(R.invalid_covariance, observation(standard_deviation=1e-200)),
    "a sensor whose noise cannot be squared": Case(R.invalid_definition, observation(sensor="absurd")),
    "a measurement that nobody registered": Case(R.invalid_definition, observation(sensor="homemade")),
    "a range far below zero": Case(R.impossible, observation(value=-50.0)),
    "no place on Earth": Case(R.invalid, observation(sensor="satellite", value=[91.0, 8.0])),
    "a satellite below the horizon": Case(
        R.invalid, observation(sensor="receiver", value=3.3e7, position=[-2.6e7, 0.0, 0.0])
    ),
    "a satellite nowhere": Case(R.invalid, observation(sensor="receiver", value=2.0e7)),
    "a pseudorange in kilometres": Case(
        R.impossible, observation(sensor="receiver", value=2.0e4, position=[2.6e7, 0.0, 0.0])
    ),
    "key of another entity": Case(R.key_mismatch, observation(), b"somebody"),
    "key that is not text": Case(R.key_mismatch, observation(), b"\xff\xfe"),
    "null key": Case(R.key_mismatch, observation(), None),
    "empty key": Case(R.key_mismatch, observation(), b""),
    "null key, not JSON": Case(R.not_json, b"{", None),
    "ten thousand fields": Case(R.too_large, observation(**{f"field{n}": n for n in range(10_000)})),
    "control characters in its name": Case(R.invalid, observation(entity="\x1b[2J\nINFO forged")),
    "an identifier that hides": Case(R.invalid, observation(id="a\u202eb\u2028c")),
    "10 MB": Case(R.too_large, observation(id="x" * 10_000_000)),
}
PRIORS: dict[str, Case] = {
    "not JSON": Case(R.not_json, b"}{"),
    "null value": Case(R.not_json, None),
    "an observation": Case(R.invalid, observation()),
    "weights that do not sum to 1": Case(
        R.invalid, prior(mixture={"weights": [0.5], "means": [[0.0]], "covariances": [[[1.0]]]})
    ),
    "not positive definite": Case(
        R.invalid_covariance,
        prior(mixture={"weights": [1.0], "means": [[0.0, 0.0]], "covariances": [CROOKED]}),
    ),
    "two coordinates for four": Case(
        R.wrong_length, prior(mixture=Mixture.gaussian((0.0, 0.0), 1.0).model_dump())
    ),
    "a coordinate that the state lacks": Case(
        R.missing_coordinates, prior(mixture=Mixture.gaussian((0.0,), 1.0).model_dump(), coordinates=["z"])
    ),
    "unknown entity": Case(R.unknown_entity, prior(entity="stranger"), b"stranger"),
    "far future": Case(R.future, prior(entity=LIVE, time=time.time() + 3600), LIVE.encode()),
    "text for a time": Case(R.invalid_time, prior(time="noon")),
    "null key": Case(R.key_mismatch, prior(), None),
    "more than a megabyte": Case(R.too_large, prior(id="x" * 1_000_000)),
}
SENSOR_DEFINITIONS: dict[str, Case] = {
    "not JSON": Case(R.not_json, b"{", b"position"),
    "negative deviation": Case(
        R.invalid_definition, b'{"kind":"position","sensor":"position","standard_deviation":-1}', b"position"
    ),
    "unknown kind": Case(R.invalid_definition, b'{"kind":"sonar","sensor":"position"}', b"position"),
    "NaN": Case(
        R.not_finite, b'{"kind":"position","sensor":"position","standard_deviation":NaN}', b"position"
    ),
    "more than a megabyte": Case(R.too_large, b" " * 1_000_001, b"position"),
    "a kind that would clear the screen": Case(
        R.invalid_definition, b'{"sensor":"position","kind":"\\u001b[2J"}', b"position"
    ),
    "key of another sensor": Case(
        R.key_mismatch, b'{"kind":"position","sensor":"position","standard_deviation":9}', b"range"
    ),
}


def broken_model(**changes: Any) -> bytes:
    return json.dumps(json.loads(MODELS[0].to_json()) | changes).encode()


MODEL_DEFINITIONS: dict[str, Case] = {
    "not JSON": Case(R.not_json, b"nonsense"),
    "no components": Case(R.invalid_definition, broken_model(components=0)),
    "a prior of another size": Case(
        R.invalid_definition, broken_model(prior=Mixture.gaussian((0.0,), 1.0).model_dump())
    ),
    "key of another entity": Case(R.key_mismatch, broken_model(entity="other", name="wrong")),
}
