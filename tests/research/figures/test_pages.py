"""Tables and sentences of the pages follow from the kept figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from beliefstream.streams.cli.main import run
from research.figures import kept, pages
from research.figures.__main__ import app, reduced


def test_other_figures_give_other_pages_with_the_commit_and_the_machine_of_their_part() -> None:
    figures = kept.read()
    figures["accuracy"] |= {"commit": "1234abcd", "machine": "an abacus", "command": "python -m x --count 3"}
    figures["accuracy"]["distances"][pages.OURS]["2"] = [0.0123, 0.0004, None]
    text = pages.written(figures)[pages.ROOT / "README.md"]
    words = " ".join(text.split())
    assert "Measured with `python -m x --count 3` at commit 1234abcd on an abacus" in words
    assert f"`{figures['speed']['command']}` at commit {figures['speed']['commit']}" in words
    assert "0.012 / 0.000 / ∞" in text


def test_a_page_without_the_comment_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("# Nothing\n")
    with pytest.raises(ValueError, match=r"README\.md: .*figures: answers"):
        pages.written(kept.read())


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004, "0.000"), (0.0427, "0.043"), (0.2, "0.20"), (2.24, "2.2"), (16.9, "17"), (13_440.0, "13 000")],
)
def test_a_distance_has_two_digits(value: float, text: str) -> None:
    assert pages.number(value) == text


def test_of_an_evaluation_is_kept_what_the_pages_show() -> None:
    row = {"method": pages.OURS, "kind": "all", "mean": 0.2, "median": 0.1, "worst": 0.9, "problems": 3}
    comparison = {
        "dimension": 2,
        "problems": 3,
        "table": [row, {**row, "kind": "one mode"}],
        "evidence": [{"method": pages.OURS, "mean_absolute_error": 0.01}],
    }
    coverage = {"method": pages.OURS, "dimension": 2, "coverage": [{"share": 0.5}, {"share": 0.91}]}
    assert reduced({"comparisons": [comparison], "calibration": [coverage]}) == {
        "problems": 3,
        "distances": {pages.OURS: {"2": [0.2, 0.1, 0.9]}},
        "evidence": {"2": 0.01},
        "coverage": {"2": [0.5, 0.91]},
    }


@pytest.mark.parametrize(
    ("options", "told"), [(["--only", "speed,color"], "color"), (["--only", "kafka"], "--brokers")]
)
def test_wrong_options_are_told_before_anything_is_measured(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(app, "figures", options)
    assert ended.value.code == 1
    assert told in capsys.readouterr().err
