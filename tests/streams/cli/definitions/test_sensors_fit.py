"""`beliefstream sensors fit-files`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from beliefstream.schemas import Model, PositionSensor, parse, parse_sensor
from beliefstream.streams.fitting import fit as fitting
from tests.streams.cli.conftest import Run, assert_one_line
from tests.streams.cli.examples import GPS, WALKER

MODEL = json.dumps(json.loads(WALKER) | {"live_time": False})
GIVEN = ("--sensors", GPS, "--models", MODEL)


@pytest.fixture(autouse=True)
def weights(small_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BELIEFSTREAM_WEIGHTS", str(small_weights))


def write(path: Path, count: int, deviation: float) -> None:
    """A walker at rest, observed each second, by independent errors."""
    values = deviation * np.random.default_rng(7).normal(size=(count, 2))
    lines = [
        json.dumps({"entity": "anna", "sensor": "gps", "time": time, "value": value})
        for time, value in enumerate(values.tolist())
    ]
    path.write_text("\n".join(lines))


def test_fitted_sensors_are_json_lines_that_sensors_set_reads(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", 200, deviation=1.5)
    result = run("sensors", "fit-files", "log.jsonl", *GIVEN, "--models-out", "models.jsonl")
    assert result.status == 0, result.err
    (line,) = result.out.splitlines()
    sensor = parse_sensor(line.encode())
    assert isinstance(sensor, PositionSensor) and sensor.standard_deviation and sensor.persistent_deviation
    assert sensor.standard_deviation == pytest.approx(1.5, rel=0.2)
    assert np.hypot(sensor.standard_deviation, sensor.persistent_deviation) == pytest.approx(2.0)
    assert f"position: standard_deviation {sensor.standard_deviation / 2:.3g} times" in result.err
    assert "the stated deviation may be too large" in result.err  # no error of these observations lasts
    model = parse(Model, (tmp_path / "models.jsonl").read_bytes())
    assert model.motion.spectral_density < 0.1  # type: ignore[union-attr, operator]


def test_it_says_what_modes_gain(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "EVALUATIONS", 4)
    write(tmp_path / "log.jsonl", 240, deviation=1.5)
    result = run("sensors", "fit-files", "log.jsonl", *GIVEN, "--modes", "--models-out", "models.jsonl")
    assert result.status == 0, result.err
    assert "modes of the motion noise are not proposed: they gain" in result.err
    assert parse(Model, (tmp_path / "models.jsonl").read_bytes()).modes == ()


def test_it_says_in_one_line_what_it_lacks(run: Run, tmp_path: Path) -> None:
    write(tmp_path / "log.jsonl", 40, deviation=0.5)
    few = run("sensors", "fit-files", "log.jsonl", *GIVEN)
    assert few.status == 1 and few.out == ""
    assert "20 observations before the split are too few to fit 2 numbers" in few.err.splitlines()[-1]
    assert_one_line(run("sensors", "fit-files", "log.jsonl", "--models", MODEL), "Missing option '--sensors'")
    (tmp_path / "empty.jsonl").write_text("")
    assert_one_line(run("sensors", "fit-files", "empty.jsonl", *GIVEN), "no row can be used")
