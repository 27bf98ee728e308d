from __future__ import annotations

import bz2
import json
from pathlib import Path

import numpy as np
import pytest

from tests.streams.cli.conftest import Run, assert_one_line


def test_a_task_is_trained_and_scored(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn, of the extra `research`, is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "data" / "sbibm" / "gaussian_mixture" / "files" / "num_observation_1"
    folder.mkdir(parents=True)
    (folder / "observation.csv").write_text("data_1,data_2\n2.0,-3.0\n")
    numbers = np.random.default_rng(0)
    spread = np.where(numbers.random(600) < 0.5, 0.1, 1.0)[:, None]
    known = [2.0, -3.0] + spread * numbers.normal(size=(600, 2))
    lines = ["parameter_1,parameter_2", *(f"{x},{y}" for x, y in known.tolist())]
    (folder / "reference_posterior_samples.csv.bz2").write_bytes(bz2.compress("\n".join(lines).encode()))
    options = ("--task", "gaussian_mixture", "--budget", "1000", "--observations", "1", "--data", "data")
    result = run("sbibm", *options, "--kind", "network", "--kind", "samples")
    assert result.status == 0, result.err
    alone, samples = map(json.loads, result.out.splitlines())
    assert (alone["likelihood"], alone["efficiency"]) == ("unchecked", None)
    assert samples["likelihood"] == "exact" and samples["efficiency"] > 0.5
    assert samples["c2st"] < 0.57 and samples["c2st"] < alone["c2st"] - 0.1


def test_bad_options_are_told(run: Run) -> None:
    assert_one_line(run("sbibm", "--task", "three_moons"), "--task: expected two_moons", "three_moons")
    assert_one_line(
        run("sbibm", "--kind", "guess"), "--kind: expected network, mixture, samples, learned", "guess"
    )
