"""`beliefstream train-posterior`: stops, goes on, and writes weights and card that answer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from beliefstream.inference.published.one_pass import OnePass
from beliefstream.inference.published.train import Plan
from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.training.plans import PosteriorPlan
from beliefstream.streams.definitions import own_code
from tests.learned import module_in
from tests.streams.cli.conftest import Run, assert_one_line

PROBLEM = "simulators:Clipped"
SMALL = (
    *("train-posterior", PROBLEM, "--steps", "40", "--batch", "8", "--tokens", "2,3"),
    *("--width", "8", "--layers", "1", "--heads", "2", "--hidden", "8", "--checkpoint", "run.pt"),
)
LIKELIHOOD = ("train-likelihood", PROBLEM, "--steps", "40", "--batch", "64", "--checkpoint", "likelihood.pt")


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Iterator[Path]:
    with module_in(tmp_path):
        yield tmp_path


def test_a_training_stops_goes_on_and_writes_weights_and_card(run: Run, folder: Path) -> None:
    stopped = run(*SMALL, "--out", ".", "--stop-after", "0")
    assert stopped.status == 0, stopped.err
    assert "stopped at step 20 of 40" in stopped.out
    finished = run(*SMALL, "--out", ".")
    assert finished.status == 0, finished.err
    path = folder / "Clipped.published.safetensors"
    card = path.with_suffix(".md").read_text()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest in card and digest in finished.out
    for part in (
        "| priors | mixtures |",
        "| targets | the true parameters |",
        "| problems | 320 in 40 steps |",
        "| x | parameter, real | -9 | 9 |",
        "answers are `unchecked`",
        "| network alone | 3 |",
        f"beliefstream train-posterior {PROBLEM} --steps 40 --batch 8 --tokens 2,3",
    ):
        assert part in card
    problem = own_code.find(PROBLEM)
    prior = SimpleNamespace(weights=[1.0], means=[[0.0]], covariances=[[[4.0]]])
    assert OnePass.load(path, problem).posterior(prior, {"level": 1.0}).likelihood == "unchecked"
    assert run(*LIKELIHOOD, "--out", ".").status == 0
    checked = OnePass.load(path, problem, folder / "Clipped.safetensors").posterior(prior, {"level": 1.0})
    assert checked.likelihood == "learned" and checked.sample_efficiency is not None


def test_a_checkpoint_of_another_plan_is_not_overwritten(run: Run, folder: Path) -> None:
    assert run(*SMALL, "--stop-after", "0").status == 0
    before = (folder / "run.pt").read_bytes()
    assert_one_line(run(*SMALL, "--seed", "1"), "it is of another plan")
    assert (folder / "run.pt").read_bytes() == before


def test_defaults_are_those_of_the_plan() -> None:
    tokens = whole_numbers(PosteriorPlan().tokens, "--tokens", 1)
    assert Plan(PROBLEM, **asdict(PosteriorPlan()) | {"tokens": tokens}) == Plan(PROBLEM)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("train-posterior", "simulators:Nothing"), "simulators has no Nothing"),
        ((*SMALL, "--family", "planar"), "No such option: --family"),
        ((*SMALL, "--heads", "3"), "--heads: 3 do not divide --width 8"),
        ((*SMALL, "--tokens", "0"), "--tokens: expected whole numbers from 1"),
        (("train-posterior",), "Missing argument 'MODULE:NAME'"),
    ],
)
def test_what_cannot_be_trained_is_told(run: Run, folder: Path, options: tuple[str, ...], part: str) -> None:
    assert_one_line(run(*options), part)
