from __future__ import annotations

import json
from pathlib import Path

import pytest

from beliefstream.inference.training.card import model_card
from tests.streams.cli.conftest import Run, assert_one_line


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where exact posteriors are kept."""
    monkeypatch.setenv("BELIEFSTREAM_EXACT", str(tmp_path / "exact"))
    return tmp_path / "exact"


def test_an_evaluation_is_printed_and_kept(
    run: Run, small_weights: Path, tmp_path: Path, exact: Path
) -> None:
    sizes = ("--dimensions", "1,2", "--count", "3", "--particle-problems", "1", "--components", "8,9")
    few = ("--calibration", "20", "--steps", "3", "--entities", "4")
    kept = ("--json", "kept.json")
    result = run("evaluate", *sizes, *few, "--weights", str(small_weights), *kept)
    assert result.status == 0, result.err
    for row in ("network, K = 9", "checked and refined, K = 8", "EKF", "UKF", "particle filter 10,000"):
        assert row in result.out
    for row in ("with outliers", "one mode", "log evidence", "d = 2, family mixed"):
        assert row in result.out
    for row in ("50% region", "calibration over 3 steps of 4 entities", "3–3", "all"):
        assert row in result.out
    content = json.loads((tmp_path / "kept.json").read_text())
    assert [found["problems"] for found in content["calibration"]] == [20] * 6
    assert (content["run"]["steps"], content["run"]["entities"]) == (3, 4)
    first, second = content["comparisons"]
    assert (first["dimension"], second["dimension"]) == (1, 2)
    assert len(first["divergences"]["EKF"]) == 3
    assert {path.name for path in exact.iterdir()} == {"mixed-1.pt", "mixed-2.pt"}


def test_calibration_and_run_can_be_left_out(run: Run, small_weights: Path, tmp_path: Path) -> None:
    less = ("--dimensions", "1", "--count", "1", "--calibration", "0", "--steps", "0", "--components", "8")
    result = run(
        "evaluate", *less, "--particle-problems", "1", "--weights", str(small_weights), "--json", "a"
    )
    assert result.status == 0, result.err
    assert json.loads((tmp_path / "a").read_text()).keys() == {"weights", "comparisons"}


def test_the_front_is_measured_alone(
    run: Run, small_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("research.evaluation.front.BATCH", 8)
    monkeypatch.setattr("research.evaluation.front._SECONDS", 0.0)
    few = ("--front", "--count", "2", "--particle-problems", "1", "--weights", str(small_weights))
    result = run("evaluate", *few, "--json", "front.json", "--plots", "docs")
    assert result.status == 0, result.err
    assert "refined below 0.97" in result.out
    content = json.loads((tmp_path / "front.json").read_text())
    assert {point["group"] for point in content["front"]} == {"small", "baselines"}
    assert (tmp_path / "docs" / "front.png").exists()


@pytest.mark.parametrize("settings", ["library", "worker"])
def test_tracks_that_turn_are_held_against_the_truth_and_particles(
    run: Run, tmp_path: Path, settings: str
) -> None:
    size = ("--steps", "3", "--entities", "2", "--particles", "4000", "--seed", "3")
    result = run("evaluate", "--family", "turns", *size, "--settings", settings, "--json", "turns.json")
    assert result.status == 0, result.err
    for part in ("90%", "exact posterior inside", "lost: 0 of 2 tracks, 3 steps each"):
        assert part in result.out
    content = json.loads((tmp_path / "turns.json").read_text())
    assert (content["settings"], content["seed"], content["tracks"]) == (settings, 3, 2)
    assert len(content["exact"]["mass"]) == len(content["coverage"]) == 3


def test_plots_without_matplotlib_are_refused_before_the_work(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_one_line(run("evaluate", "--front", "--plots", "pictures"), "beliefstream[demo]")


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--weights", "no-such-weights"), "no-such-weights"),
        (("--family", "cubic"), "planar"),
        (("--plots", "pictures"), "--front"),
        (("--family", "turns", "--particles", "10"), "--particles"),
        (("--family", "turns", "--settings", "mine"), "--settings"),
        (("--dimensions", "2,x"), "--dimensions"),
        (("--dimensions", "12"), "--dimensions"),
        (("--components", "4"), "--components"),
    ],
)
def test_what_cannot_be_evaluated_is_explained(run: Run, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run("evaluate", *options), part)


def test_the_accuracy_is_written_into_the_card_of_a_training(
    run: Run, small_weights: Path, tmp_path: Path
) -> None:
    card = tmp_path / "card.md"
    card.write_text(model_card("small", {"seed": "0"}, [("The weights", "beliefstream train")]))
    assert "Not evaluated." in card.read_text()
    sizes = ("--dimensions", "1,2", "--count", "2", "--components", "8")
    for _ in range(2):  # a second evaluation takes the place of the first
        result = run("evaluate", *sizes, "--weights", str(small_weights), "--card", str(card))
        assert result.status == 0, result.err
        text = card.read_text()
        assert "Not evaluated." not in text
        assert text.count("| 1 | network, K = 8 |") == text.count("| 2 | checked and refined, K = 8 |") == 1
        assert text.index("## Accuracy") < text.index("| d | method |") < text.index("## Commands")
        assert "beliefstream train" in text
    card.write_text("# another file\n")
    assert_one_line(
        run("evaluate", *sizes, "--weights", str(small_weights), "--card", str(card)), "expected a model card"
    )
