from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from beliefstream.inference.network import weights
from beliefstream.inference.training import card
from beliefstream.inference.training.run import Diverged
from beliefstream.inference.training.train import Plan, Training
from beliefstream.streams.cli.training.plans import NetworkPlan, NetworkSize
from beliefstream.streams.cli.training.train import make_plan
from tests.streams.cli.conftest import Run, assert_one_line

SMALL = (
    *(
        "--steps",
        "40",
        "--batch",
        "4",
        "--dimensions",
        "2,1",
        "--width",
        "8",
        "--layers",
        "1",
        "--heads",
        "2",
    ),
    *("--hidden", "8", "--threads", "1", "--no-compile", "--device", "cpu", "--checkpoint", "run.pt"),
)


def test_a_training_stops_goes_on_and_writes_weights_and_card(run: Run, tmp_path: Path) -> None:
    stopped = run("train", *SMALL, "--stop-after", "0")
    assert stopped.status == 0
    assert "stopped at step 20 of 40" in stopped.out
    finished = run("train", *SMALL, "--out", "made")
    assert finished.status == 0, finished.err
    log = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [20, 40]
    made = tmp_path / "made" / "equivariant-8x1.safetensors"
    assert weights.load(str(made)).configuration.width == 8
    text = made.with_suffix(".md").read_text()
    for part in (
        "| seed | 0 |",
        "| samples | 80 in 1, 80 in 2 coordinates |",
        "Not evaluated.",
        "--card made/equivariant-8x1.md",
    ):
        assert part in text
    assert (
        "beliefstream train --dimensions 2,1 --steps 40 --batch 4 --width 8 --layers 1 --heads 2 --hidden 8"
    ) in text


def test_a_step_that_diverges_as_ctrl_c_comes_is_told_and_not_saved(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def loss(*_: object) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        raise Diverged("step 0: loss nan")

    monkeypatch.setattr(Training, "batch_loss", loss)
    result = run("train", *SMALL)
    assert result.status == 1
    assert "step 0: loss nan" in result.err
    assert not (tmp_path / "run.pt").exists()


def test_a_step_that_fails_as_ctrl_c_comes_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def loss(*_: object) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        raise RuntimeError("the compiler was interrupted")

    monkeypatch.setattr(Training, "batch_loss", loss)
    result = run("train", *SMALL)
    assert result.status == 0
    assert "the last step failed: RuntimeError: the compiler was interrupted" in result.err
    assert "stopped at step 0 of 40" in result.out
    assert (tmp_path / "run.pt").exists()


def test_a_checkpoint_of_another_plan_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    assert run("train", *SMALL, "--stop-after", "0").status == 0
    before = (tmp_path / "run.pt").read_bytes()
    result = run("train", *SMALL, "--seed", "1")
    assert result.status == 1
    assert "it is of another plan" in result.err
    assert (tmp_path / "run.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--heads", "5"), "--heads"),
        (("--family", "cubic"), "mixed"),
        (("--dimensions", "2,x"), "--dimensions"),
    ],
)
def test_a_plan_that_cannot_be_is_explained(run: Run, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run("train", *options), part)


def test_defaults_are_those_of_the_plan() -> None:
    assert make_plan(NetworkPlan(), NetworkSize()) == Plan()


def test_samples_are_counted_by_dimension() -> None:
    assert card.samples(Plan(dimensions=(2, 1), batch=10), 5) == "20 in 1, 30 in 2 coordinates"
