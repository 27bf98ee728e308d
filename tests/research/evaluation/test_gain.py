from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from beliefstream.inference.network import weights
from beliefstream.inference.training.families import Mixed
from beliefstream.inference.update.settings import UpdateSettings
from research.evaluation.gain import gain, reach, untrained
from research.evaluation.problems import in_double
from tests.streams.cli.conftest import Run

SETTINGS = UpdateSettings(search=False, repeat_points=())


def test_training_refinement_and_the_check_each_bring_something() -> None:
    trained = weights.load()
    found = gain({"untrained": untrained(trained), "trained": trained}, SETTINGS, 3, 12)
    rows = {(row.weights, row.answer): row for row in found}
    assert len(rows) == len(found) == 6
    for answer in ("alone", "refined once"):
        assert rows["trained", answer].mean < rows["untrained", answer].mean
    for name in ("trained", "untrained"):
        alone, once, published = (rows[name, answer] for answer in ("alone", "refined once", "published"))
        assert published.mean <= once.mean < alone.mean
    assert len({row.problems for row in found}) == 1
    assert all(row.dimension == 3 and row.milliseconds > 0 for row in found)


@pytest.mark.parametrize(("kind", "some"), [("vector", False), ("range", True)])
def test_only_problems_that_reach_the_network_count(kind: str, some: bool) -> None:
    problems = in_double(Mixed(kinds=(kind,)).sample(16, 3, torch.Generator().manual_seed(1)))
    seen = problems.observations
    sound = replace(seen, outlier_probability=torch.zeros_like(seen.outlier_probability))
    assert bool(reach(problems._replace(observations=sound), weights.load(), SETTINGS).any()) == some


def test_the_command_prints_and_keeps_it(run: Run, small_weights: Path, tmp_path: Path) -> None:
    few = ("--gain", "--dimensions", "3", "--count", "2", "--exact", "exact")
    result = run("evaluate", *few, "--weights", str(small_weights), "--json", "gain.json")
    assert result.status == 0, result.err
    assert "refined once" in result.out
    rows = json.loads((tmp_path / "gain.json").read_text())["gain"]
    assert [row["weights"] for row in rows] == ["untrained"] * 3 + ["small"] * 3
