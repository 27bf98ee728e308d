"""Sensors of kind `learned`: the problem that a definition names, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch

from beliefstream.inference.sensors import encode
from beliefstream.schemas import Observation, Reason, Unusable, parse_sensor
from beliefstream.streams.definitions import own_code
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.sensors import sensor_over
from tests.schemas.kinds import SENSORS

DEFINITION: dict[str, Any] = SENSORS["learned"]
MOVING = {
    **DEFINITION,
    "value": ["counter_x", "counter_y", "count"],
    "context": {"height": 1.0, "background": 0.5, "efficiency": 2.0, "exposure": 4.0},
}
STATE = ("z", "x", "v", "y")
MODULE = """
import torch

class Coin:
    parameters = {"bias": "unit"}
    data = {"head": "binary"}
    context = ("weight",)

    def simulate(self, parameters, context, generator):
        return {"head": torch.bernoulli(parameters["bias"], generator=generator)}

    def log_likelihood(self, data, parameters, context):
        if bool((context["weight"] < 0).any()):
            raise ArithmeticError("a coin has a weight")
        return torch.where(data["head"] == 1, parameters["bias"].log(), torch.log1p(-parameters["bias"]))

class Broken(Coin):
    def simulate(self, parameters, context, generator):
        return {"head": parameters["bias"] * float("nan")}

class Needy(Coin):
    def __init__(self, what):
        pass

class Silent(Coin):
    log_likelihood = None

class Mute:
    parameters, data, context, simulate = Coin.parameters, Coin.data, Coin.context, Coin.simulate

fair = Coin()
number = 3
"""
COIN = {
    "sensor": "coin",
    "kind": "learned",
    "problem": "coins:Coin",
    "parameters": {"bias": "x"},
    "value": ["head", "weight"],
}


@pytest.fixture
def coins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "coins.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(own_code, "_modules", set())
    own_code.find.cache_clear()
    own_code.load("coins")
    yield
    sys.modules.pop("coins", None)
    own_code.find.cache_clear()


def observed(value: Any, **more: Any) -> Observation:
    return Observation.model_validate({"entity": "e", "sensor": "s", "time": 0, "value": value, **more})


@pytest.mark.parametrize(("definition", "value"), [(DEFINITION, 7), (MOVING, [1.0, 2.0, 7])])
def test_its_likelihood_is_the_problems(definition: dict[str, Any], value: Any) -> None:
    sensor = sensor_over(parse_sensor(definition), STATE)
    points = torch.randn(1, 50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = encode([[reading_of(observed(value), sensor)]], 4).log_likelihood(points)[0]
    z, x, _, y = points[0].numpy().T
    mean = 4 * (0.5 + 2 * np.exp(z) / ((x - 1) ** 2 + (y - 2) ** 2 + 1))
    np.testing.assert_allclose(found, scipy.stats.poisson(mean).logpmf(7), rtol=1e-12)


def test_sensors_of_one_problem_are_evaluated_together() -> None:
    sensors = [sensor_over(parse_sensor(each), STATE) for each in (DEFINITION, MOVING)]
    readings = [reading_of(observed(7), sensors[0]), reading_of(observed([1, 2, 7]), sensors[1])]
    observations = encode([readings], 4)
    assert observations.likelihoods is not None
    assert len(observations.likelihoods.functions) == 1


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"problem": "os:getcwd"}, "os:getcwd is in a module that is not loaded; name it in BELIEFSTREAM_"),
        ({"problem": "coins:Coyn"}, "coins has no Coyn"),
        ({"problem": "coins:number"}, "problem: builtins:int has no parameters"),
        ({"problem": "coins:Needy"}, "coins:Needy cannot be made: TypeError"),
        ({"problem": "coins:Broken", "value": ["head"], "context": {"weight": 1.0}}, "is not finite: nan"),
        ({"problem": "coins:Mute"}, "log_likelihood: coins:Mute has none"),
        ({"problem": "coins:Silent"}, "log_likelihood: coins:Silent has none"),
        ({"parameters": {"bies": "x"}}, "parameters: coins:Coin has ['bias'], got ['bies']"),
        ({"value": ["head"]}, "context: coins:Coin needs weight"),
        ({"value": ["weight"]}, "value: must report head"),
    ],
)
def test_a_definition_that_does_not_fit_the_problem_is_refused(
    coins: None, changes: dict[str, Any], shown: str
) -> None:
    with pytest.raises(Unusable, match="coin cannot be used") as caught:
        sensor_over(parse_sensor({**COIN, **changes}), ("x", "y"))
    assert caught.value.reason == Reason.invalid_definition
    assert shown in caught.value.detail


def test_an_instance_is_a_problem_too(coins: None) -> None:
    sensor = sensor_over(parse_sensor({**COIN, "problem": "coins:fair"}), ("x", "y"))
    assert sensor.value_length == 2


@pytest.mark.parametrize(
    ("observation", "reason", "shown"),
    [
        (observed([2, 1.0]), Reason.invalid, "value: head: must be 0 or 1, got 2"),
        (observed(1), Reason.wrong_length, "reports 2 numbers, got 1"),
        (observed([1, 1.0], standard_deviation=1.0), Reason.invalid_covariance, "likelihood of its own"),
        (observed([1, -1.0]), Reason.invalid_definition, "ArithmeticError: a coin has a weight"),
    ],
)
def test_an_observation_that_the_problem_cannot_use_is_refused(
    coins: None, observation: Observation, reason: Reason, shown: str
) -> None:
    sensor = sensor_over(parse_sensor(COIN), ("x", "y"))
    with pytest.raises(Unusable) as caught:
        reading_of(observation, sensor)
    assert caught.value.reason == reason and shown in caught.value.detail
    assert reading_of(observed([1, 1.0]), sensor).value.tolist() == [1.0, 1.0]
