from __future__ import annotations

import json
from pathlib import Path

import pytest

from research.paper.form.training import Plan
from tests.streams.cli.conftest import Run, assert_one_line


def test_a_task_is_printed_and_kept(run: Run, tmp_path: Path) -> None:
    result = run("paper", "--task", "variance", "--count", "20", "--json", "kept.json")
    assert result.status == 0, result.err
    for part in ("DT-5", "mean-field VI", "network, K = 5", "checked and refined, K = 10", "unseen"):
        assert part in result.out
    (table,) = json.loads((tmp_path / "kept.json").read_text())
    rows = {row["method"]: row for row in table["rows"]}
    assert rows["DT-5"]["figures"]["wide"] == {"mean": 0.0003, "error": None}
    assert rows["network, K = 5"]["time"] > 0
    assert [rows[name]["checked"] for name in ("network, K = 5", "checked and refined, K = 5", "DT-5")] == [
        "unchecked",
        "exact",
        None,
    ]
    assert "unchecked" in result.out


def test_an_unknown_task_is_named(run: Run) -> None:
    assert_one_line(run("paper", "--task", "volume"), "--task: expected variance, quantum", "'volume'")


def test_training_goes_on_and_writes_weights_with_a_card(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from research.paper.tasks import TRAINED

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    make, _ = TRAINED["variance"]
    plan = Plan("variance", steps=3, batch=8, counts=(5, 2))
    monkeypatch.setitem(TRAINED, "variance", (make, plan))
    command = ("paper", "--train", "--task", "variance", "--out", "made", "--count", "10")
    stopped = run(*command, "--stop-after", "0")
    assert stopped.status == 0, stopped.err
    assert "stopped at step 0 of 3" in stopped.out
    ended = run(*command)
    assert ended.status == 0, ended.err
    card = (tmp_path / "made" / "variance.md").read_text()
    assert "python -m research.paper --train --task variance --out made" in card
    assert "| network, K = 5 |" in card
    assert (tmp_path / "made" / "variance.safetensors").exists()


def test_training_needs_a_task_with_weights_and_a_folder(run: Run) -> None:
    assert_one_line(
        run("paper", "--train", "--task", "fusion"), "--train: expected --task variance", "'fusion'"
    )
    assert_one_line(run("paper", "--train", "--task", "variance"), "--out DIR")
