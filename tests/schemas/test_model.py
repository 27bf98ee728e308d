from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from beliefstream.schemas import Model, explain

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
