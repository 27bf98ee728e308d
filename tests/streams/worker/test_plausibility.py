"""Which values no state could have made a sensor report, each kind with values on both sides of its bound."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from beliefstream.schemas import Observation, Reason, Unusable, parse_sensor
from beliefstream.streams.worker.validation import bounds_of, check_possible

DEGREES = 180 / math.pi
RANGE = {"kind": "range", "position": [0, 0], "standard_deviation": 0.5}
SPEED = {"kind": "speed", "standard_deviation": 0.5}
BEARING = {"kind": "bearing", "position": [0, 0], "standard_deviation": 0.1}
DELAY = {
    "kind": "time_difference",
    "first": [0, 0],
    "second": [30, 40],
    "propagation_speed": 10,
    "standard_deviation": 0.01,
}
RADAR = {
    "kind": "range_bearing",
    "position": [0, 0],
    "range": {"standard_deviation": 1},
    "bearing": {"standard_deviation": 1, "scale": DEGREES},
}
EARLY = {"components": [{"weight": 0.5}, {"weight": 0.5, "bias": -3, "ratio": 2}]}
CLUTTER = {"clutter": [{"kind": "uniform", "probability": 0.1, "low": -30, "high": 20}]}
GROWS = {"slope": 0.2}
SPACE = {
    "position": [0, 0, 0],
    "azimuth": {"standard_deviation": 0.1},
    "elevation": {"standard_deviation": 0.1},
}

POSSIBLE: list[tuple[dict[str, Any], Any, dict[str, Any]]] = [
    (RANGE, -4.9, {}),
    (RANGE, 1e9, {}),
    (RANGE, -5.1, {"standard_deviation": 1.0}),
    (RANGE, -5.1, {"covariance": [[1.0]]}),
    (RANGE, -4.9, {"standard_deviation": 1e-3}),  # the sensor's own noise may be nearer to the truth
    (RANGE | {"bias": 2.0}, -2.9, {}),
    (RANGE | {"scale": -1.0}, -300.0, {}),
    (RANGE | {"noise": EARLY}, -12.9, {}),
    (RANGE | {"noise": CLUTTER}, -30.0, {}),
    (RANGE | {"noise": GROWS}, -300.0, {}),  # 1 000 m with a deviation of 200
    (SPEED, -4.9, {}),
    (BEARING, 8 * math.pi, {}),
    (BEARING | {"scale": -DEGREES, "bias": 90, "standard_deviation": 1}, 359.0, {}),
    (BEARING | {"maximum_turns": 1000}, 5000.0, {}),
    (BEARING | {"noise": GROWS}, 10 * math.pi, {}),
    (DELAY, 5.05, {}),
    (DELAY, -5.05, {}),
    (RADAR, [-9.0, 400.0], {}),
    ({"kind": "heading", "standard_deviation": 0.1}, -8 * math.pi, {}),
    ({"kind": "range_rate", "position": [0, 0], "standard_deviation": 0.1}, -1e6, {}),
]
IMPOSSIBLE: list[tuple[dict[str, Any], Any, dict[str, Any], str]] = [
    (RANGE, -5.1, {}, "value: -5.1 is below -5"),
    (RANGE, -50.0, {"standard_deviation": 1.0}, "value"),
    (RANGE | {"bias": 2.0}, -3.1, {}, "value"),
    (RANGE | {"scale": -1.0}, 5.1, {}, "above 5"),
    (RANGE | {"noise": EARLY}, -13.1, {}, "below -13"),
    (RANGE | {"noise": CLUTTER}, -30.1, {}, "value"),
    (RANGE | {"noise": {"slope": 0.1}}, -5.1, {}, "value"),
    (SPEED, -5.1, {}, "cannot be negative"),
    (BEARING, 270.0, {}, "180/pi"),
    (BEARING, -1e12, {}, "4 turns (maximum_turns)"),
    (BEARING | {"scale": -DEGREES, "bias": 90, "standard_deviation": 1}, 1541.0, {}, "value"),
    (BEARING | {"maximum_turns": 0.5}, 4.2, {}, "0.5 turns"),
    (DELAY, 5.2, {}, "between the receivers"),
    (DELAY, -5.2, {}, "value"),
    (RADAR, [-11.0, 10.0], {}, "value[0]"),
    (RADAR, [5.0, 1e5], {}, "value[1]"),
    (RADAR, [5.0, 1500.0], {"standard_deviation": [1.0, 0.1]}, "value[1]"),
    ({"kind": "heading", "standard_deviation": 0.1}, 100.0, {}, "value"),
    ({"kind": "course", "standard_deviation": 0.1}, 100.0, {}, "value"),
    ({"kind": "relative_bearing", "position": [0, 0], "standard_deviation": 0.1}, 100.0, {}, "value"),
    ({"kind": "azimuth_elevation"} | SPACE, [0.1, 90.0], {}, "value[1]"),
    (
        {"kind": "range_azimuth_elevation", "range": {"standard_deviation": 1}} | SPACE,
        [-11.0, 0.1, 0.1],
        {},
        "value[0]",
    ),
    (
        {"kind": "range_azimuth_elevation", "range": {"standard_deviation": 1}} | SPACE,
        [1.0, 90.0, 0.1],
        {},
        "value[1]",
    ),
]


def check(definition: dict[str, Any], value: Any, noise: dict[str, Any]) -> None:
    sensor = parse_sensor(json.dumps({"sensor": "s"} | definition).encode())
    check_possible(
        Observation(entity="e", sensor="s", time=0.0, value=value, **noise), sensor, bounds_of(sensor)
    )


@pytest.mark.parametrize(("definition", "value", "noise"), POSSIBLE)
def test_what_noise_may_have_made_is_possible(
    definition: dict[str, Any], value: Any, noise: dict[str, Any]
) -> None:
    check(definition, value, noise)


@pytest.mark.parametrize(("definition", "value", "noise", "says"), IMPOSSIBLE)
def test_what_no_state_can_have_made_is_impossible(
    definition: dict[str, Any], value: Any, noise: dict[str, Any], says: str
) -> None:
    with pytest.raises(Unusable) as caught:
        check(definition, value, noise)
    assert caught.value.reason is Reason.impossible
    assert says in caught.value.detail
