from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from research.evaluation.adversarial.command import refused
from research.evaluation.adversarial.mixtures import Mixture
from tests.streams.cli.conftest import Run, assert_one_line


@pytest.mark.parametrize("settings", ["library", "worker"])
def test_a_table_of_families_is_printed_and_kept(
    run: Run, small_weights: Path, tmp_path: Path, settings: str
) -> None:
    only = ("--only", "planar; linear, 40 components", "--weights", str(small_weights))
    some = ("--family", "adversarial", "--count", "2", "--seed", "3", "--settings", settings)
    result = run("evaluate", *some, *only, "--json", "kept.json")
    assert result.status == 0, result.err
    for part in (
        "planar",
        "linear, 40 components",
        f"settings {settings}",
        "dishonest",
        "in a batch and alone: 0 of 1",
    ):
        assert part in result.out
    content = json.loads((tmp_path / "kept.json").read_text())
    assert (content["problems"], content["seed"], content["settings"]) == (4, 3, settings)
    assert content.keys() >= {"dishonest", "false_alarms", "near", "faults", "batch_differences", "notable"}
    row = content["families"]["linear, 40 components"]
    assert row.keys() >= {
        "mean",
        "median",
        "worst",
        "dishonest",
        "false_alarms",
        "milliseconds",
        "evidence_error",
    }
    assert row["mean"] < 0.5


def test_runs_have_a_table_of_their_own(run: Run, small_weights: Path, tmp_path: Path) -> None:
    options = ("--family", "adversarial", "--count", "1", "--weights", str(small_weights))
    result = run("evaluate", *options, "--only", "ordinary", "--json", "kept.json")
    assert result.status == 0, result.err
    for part in ("ordinary", "Sequences, settings library, seed 0", "dishonest", "recovery", "too low"):
        assert part in result.out
    content = json.loads((tmp_path / "kept.json").read_text())
    assert content.keys() == {"settings", "seed", "count", "weights", "sequences"}
    row = content["sequences"]["families"]["ordinary"]
    assert (row["runs"], row["undecided"]) == (1, 0)
    assert row["recovery"]["moves"] == 0
    assert row["mean"] < 0.5


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--settings", "demo"), "--settings: expected library or worker, got 'demo'"),
        (("--only", "nonsense"), "--only: family: expected one of planar, "),
    ],
)
def test_what_does_not_exist_is_explained(run: Run, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run("evaluate", "--family", "adversarial", "--count", "1", *options), part)


def test_an_answer_is_held_against_the_schema() -> None:
    sound = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    assert refused(sound) == ""
    crooked = sound._replace(covariances=np.array([[[1.0, 0.5], [0.4, 1.0]]]))
    assert "covariances" in refused(crooked)
    assert "weights" in refused(sound._replace(weights=np.array([0.9])))
