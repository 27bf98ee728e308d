from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from beliefstream.schemas import Model, explain
from beliefstream.schemas.motions import DecayingVelocity

PLANAR: dict[str, Any] = {
    "entity": "*",
    "name": "planar",
    "coordinates": [
        {"name": name, "unit": unit} for name, unit in zip("xyuv", ("m", "m", "m/s", "m/s"), strict=True)
    ],
    "motion": {
        "kind": "constant_velocity",
        "positions": ["x", "y"],
        "velocities": ["u", "v"],
        "spectral_density": 0.1,
    },
    "prior": {
        "weights": [1],
        "means": [[0, 0, 0, 0]],
        "covariances": [[[float(i == j) for j in range(4)] for i in range(4)]],
    },
}
WALK: dict[str, Any] = {"kind": "random_walk", "spectral_density": 1.0}


def refused(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        Model.model_validate({**PLANAR, **fields})
    return explain(caught.value)


def test_defaults() -> None:
    model = Model.model_validate(PLANAR)
    assert (model.version, model.components, model.lateness_window, model.live_time) == (1, 8, 2.0, True)
    assert model.coordinate_names == ("x", "y", "u", "v")
    assert model.expires_after is None


def test_a_random_walk_has_one_density_or_one_each() -> None:
    Model.model_validate({**PLANAR, "motion": WALK})
    Model.model_validate({**PLANAR, "motion": {**WALK, "spectral_density": [1, 1, 0, 0]}})
    assert refused(motion={**WALK, "spectral_density": [1, 1]}).startswith(
        "motion: expected one spectral_density"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"positions": ["x"], "velocities": ["u"]},
        {"positions": ["x", "y"], "velocities": ["u", "w"]},
        {"positions": ["x", "y", "z"], "velocities": ["u", "v", "w"]},
        {"positions": ["x", "y"], "velocities": ["u"]},
        {"positions": ["x", "y"], "velocities": ["u", "x"]},
        {"spectral_density": -1},
        {"spectral_density": [1, 1]},
        {"kind": "teleport"},
    ],
)
def test_motion_must_move_exactly_the_coordinates(changes: dict[str, Any]) -> None:
    assert refused(motion={**PLANAR["motion"], **changes}).startswith("motion")


def test_the_prior_is_over_all_coordinates() -> None:
    prior = {"weights": [1], "means": [[0, 0]], "covariances": [[[1, 0], [0, 1]]]}
    assert refused(prior=prior).startswith("prior: expected a mixture over 4 coordinates, got 2")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("entity", "**"),
        ("version", 0),
        ("version", 1.5),
        ("version", True),
        ("components", 0),
        ("components", 65),
        ("lateness_window", -1),
        ("expires_after", 0),
        ("expires_after", "1 h"),
        ("live_time", "yes"),
        ("live_time", 1),
        ("coordinates", []),
        ("coordinates", [{"name": "x", "unit": "m"}, {"name": "x", "unit": "m"}]),
        ("coordinates", [{"name": "x"}]),
    ],
)
def test_a_field_out_of_bounds_is_named(field: str, value: Any) -> None:
    assert refused(**{field: value}).startswith(field)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"modes": [0.1, 10]}, "mode_time: expected modes and mode_time, or neither"),
        ({"mode_time": 10}, "mode_time: expected modes and mode_time, or neither"),
        ({"modes": [0.1, 10], "mode_time": 0}, "mode_time"),
        ({"modes": [0.1, -10], "mode_time": 5}, "modes"),
        ({"modes": [0.1, 0], "mode_time": 5}, "modes"),
        ({"modes": [2], "mode_time": 5}, "modes: expected none, or at least 2 modes"),
        ({"modes": [1] * 9, "mode_time": 5}, "modes"),
        (
            {"modes": [1] * 5, "mode_time": 5, "components": 13},
            "modes: expected at most 64 components in all modes, got 5 modes of 13",
        ),
        (
            {"modes": [1, 2], "mode_time": 5, "motion": PLANAR["motion"] | {"spectral_density": 0}},
            "modes: expected a motion with noise",
        ),
    ],
)
def test_modes_of_the_motion_noise(fields: dict[str, Any], complaint: str) -> None:
    assert complaint in refused(**fields)
    assert Model.model_validate({**PLANAR, "modes": [0.1, 1, 10], "mode_time": 5}).modes == (0.1, 1.0, 10.0)


def test_a_fit_and_modes_take_the_noises_that_are_not_0() -> None:
    fields = {"kind": "decaying_velocity", "positions": ["x"], "velocities": ["v"], "time_constant": 1.0}
    both = DecayingVelocity.model_validate(fields | {"spectral_density": 0.3, "position_density": 0.2})
    assert set(both.noises) == {"spectral_density", "position_density"}
    assert both.with_noise({"position_density": 2.0}).position_density == 0.4
    assert DecayingVelocity.model_validate(fields | {"spectral_density": 0.3}).noises == ("spectral_density",)
