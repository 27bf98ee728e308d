"""docs/own-sensor.md: the function in it has the posterior of the grid, and `fuse` loads it as the page says."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from beliefstream.inference.likelihood import measurement_functions
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network import weights
from beliefstream.inference.sensors import encode
from beliefstream.inference.tracking.events import Belief
from beliefstream.inference.update.updater import Updater
from beliefstream.schemas import Model, Observation, Posterior, Reason, Unusable, parse, parse_sensor
from beliefstream.streams.definitions import own_code
from beliefstream.streams.definitions.observations import reading_of
from beliefstream.streams.definitions.reader import EntityModel
from beliefstream.streams.definitions.sensors import sensor_over
from research.evaluation.exact.grid import grid_posterior
from tests.streams.cli.conftest import (
    Run,
    assert_one_line,
    run as run,  # the fixture
)

PAGE = (Path(__file__).parents[3] / "docs" / "own-sensor.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """The page's block of code in that language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


DEFINITION: dict[str, Any] = json.loads(block("json"))
OTHER = {**DEFINITION, "sensor": "magnetometer-2", "position": [0, 3]}
WEIGHTS, MEANS, VARIANCE = (0.5, 0.5), ((0.0, 0.0), (0.5, -0.5)), 0.25
MODEL: dict[str, Any] = {
    "entity": "*",
    "name": "magnet",
    "coordinates": [{"name": "x", "unit": "m"}, {"name": "y", "unit": "m"}],
    "motion": {"kind": "random_walk", "spectral_density": 0.0},
    "prior": {
        "weights": WEIGHTS,
        "means": MEANS,
        "covariances": [[[VARIANCE, 0.0], [0.0, VARIANCE]]] * 2,
    },
}
VALUES = {"magnetometer-1": 20 / 2.6**3, "magnetometer-2": 20 / 3.3**3}


@pytest.fixture
def folder(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, with the page's module in it, of which nothing is left behind."""
    (tmp_path / "magnetometer.py").write_text(block("python"))
    monkeypatch.setattr(measurement_functions, "_registered", dict(measurement_functions._registered))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("magnetometer", None)


def observations() -> list[Observation]:
    return [Observation(entity="a", sensor=name, time=1.0, value=value) for name, value in VALUES.items()]


def exact(answer: GaussianMixture) -> float:
    """The divergence of the grid's posterior from an answer."""
    sensors = {each["sensor"]: sensor_over(parse_sensor(each), ("x", "y")) for each in (DEFINITION, OTHER)}
    seen = encode([[reading_of(each, sensors[each.sensor]) for each in observations()]], 2)
    found = grid_posterior(prior(), seen, most_cells=400_000)
    assert found.resolved
    assert found.divergence(prior()) > 1
    return found.divergence(answer)


def prior() -> GaussianMixture:
    covariances = np.tile(VARIANCE * np.eye(2), (2, 1, 1))
    return Belief(0.0, np.array(WEIGHTS), np.array(MEANS), covariances).mixture()


def test_the_function_is_ten_lines() -> None:
    assert len(block("python").splitlines()) <= 10


def test_the_posterior_of_an_update_is_the_grids(folder: Path) -> None:
    assert own_code.load("magnetometer") == ["magnetometer"]
    model = EntityModel(Model.model_validate(MODEL))
    sensors = {each["sensor"]: model.sensor(parse_sensor(each)) for each in (DEFINITION, OTHER)}
    seen = encode([[reading_of(each, sensors[each.sensor]) for each in observations()]], 2)
    found = Updater(weights.load(), dtype=torch.float64).update(prior(), seen)
    assert exact(found.posterior) < 0.05
    assert float(found.sample_efficiency) > 0.8


def test_fuse_loads_it(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [json.dumps(each) for each in (DEFINITION, OTHER, MODEL)]
    lines += [each.to_json().decode() for each in observations()]
    (folder / "log.jsonl").write_text("\n".join(lines))
    monkeypatch.setenv(own_code.SETTING, " magnetometer,")
    result = run("fuse", "log.jsonl", "--strict")
    assert result.status == 0, result.err
    posterior = parse(Posterior, result.out.strip().encode())
    assert posterior.applied == ("line:4", "line:5")
    mixture = posterior.mixture
    weights, means, covariances = map(np.array, (mixture.weights, mixture.means, mixture.covariances))
    assert exact(Belief(posterior.time, weights, means, covariances).mixture()) < 0.1


def test_a_measurement_that_nobody_knows_is_told_with_every_observation(folder: Path, run: Run) -> None:
    (folder / "log.jsonl").write_text("\n".join(json.dumps(each) for each in (DEFINITION, MODEL)))
    with (folder / "log.jsonl").open("a") as file:
        file.writelines(f"\n{each.to_json().decode()}" for each in observations()[:1] * 2)
    result = run("fuse", "log.jsonl")
    told = (
        "invalid_definition: sensor: magnetometer-1 cannot be used: function: no measurement is registered as"
    )
    assert [line.split(": ", 1)[1].startswith(told) for line in result.err.splitlines()[:-1]] == [True, True]
    assert "'inverse_cube'; known are ['elevation'" in result.err


def test_a_fault_is_looked_for_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, sensor = EntityModel(Model.model_validate(MODEL)), parse_sensor(DEFINITION)
    for _ in range(2):
        with pytest.raises(Unusable) as caught:
            model.sensor(sensor)
        assert caught.value.reason == Reason.invalid_definition
        monkeypatch.setattr(
            "beliefstream.streams.definitions.reader.sensor_over", lambda *_: pytest.fail("asked again")
        )


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"parameters": {}}, "'inverse_cube' cannot be used on 2 coordinates with parameters []"),
        ({"parameters": {"moment": 1, "age": 2}}, "unexpected keyword argument 'age'"),
        ({"outlier_span": None}, "outlier_span: required for an outlier_probability of 0.05"),
        ({"outputs": 2}, "parameters ['moment']: it returns 1 number, expected 2, as `outputs` says"),
    ],
)
def test_a_definition_that_does_not_fit_the_function_is_refused(
    folder: Path, changes: dict[str, Any], shown: str
) -> None:
    own_code.load("magnetometer")
    with pytest.raises(Unusable, match="magnetometer-1 cannot be used") as caught:
        sensor_over(parse_sensor({**DEFINITION, **changes}), ("x", "y"))
    assert caught.value.reason == Reason.invalid_definition
    assert shown in caught.value.detail


def test_a_function_of_several_numbers_reports_them_all(folder: Path) -> None:
    @measurement_functions.register("field")
    def field(place: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        return moment * place * (place.square().sum() + 1e-6) ** -1.5

    definition = {**DEFINITION, "measurement": "field", "outputs": 2, "position": None}
    sensor = sensor_over(parse_sensor(definition), ("x", "y"))
    state = torch.tensor([[[1.0, 2.0]]], dtype=torch.float64)
    value = (20 * state / 5**1.5).flatten().tolist()
    observation = Observation(entity="a", sensor="magnetometer-1", time=1.0, value=value)
    seen = encode([[reading_of(observation, sensor)]], 2)
    nearby = state + 0.1 * torch.randn(
        1, 50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    assert bool((seen.log_likelihood(state) > seen.log_likelihood(nearby)).all())


def test_numbers_that_no_output_takes_are_not_ignored(folder: Path) -> None:
    @measurement_functions.register("field-and-distance")
    def field(place: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
        return torch.cat([moment * place, place.square().sum()[None]])

    definition = {**DEFINITION, "measurement": "field-and-distance", "position": None}
    for outputs, expected in ((2, "expected 2, as `outputs` says"), (None, "expected 1")):
        with pytest.raises(Unusable, match="magnetometer-1 cannot be used") as caught:
            sensor_over(parse_sensor({**definition, "outputs": outputs}), ("x", "y"))
        assert caught.value.reason == Reason.invalid_definition
        assert f"it returns 3 numbers, {expected}" in caught.value.detail
        assert "'field-and-distance'" in caught.value.detail
    sensor_over(parse_sensor({**definition, "outputs": 3}), ("x", "y"))


@pytest.mark.parametrize(
    ("code", "shown"),
    [
        (None, "No module named 'magnetometer'"),
        ("1 / 0", "division by zero"),
        ("raise OSError", "OSError"),
        ("exit(3)", "it calls sys.exit(3)"),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_in_a_line(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch, code: str | None, shown: str
) -> None:
    (folder / "magnetometer.py").unlink()
    if code is not None:
        (folder / "magnetometer.py").write_text(code)
    (folder / "log.jsonl").write_text("")
    monkeypatch.setenv(own_code.SETTING, "magnetometer")
    assert_one_line(run("fuse", "log.jsonl"), f"{own_code.SETTING}: magnetometer cannot be imported: {shown}")
