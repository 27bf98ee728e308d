"""`beliefstream train-likelihood`: stops, goes on, and writes weights and card that a sensor can use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from beliefstream.inference.likelihood.learned import weights
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.training.likelihood.train import Plan
from beliefstream.streams.cli.training.plans import LikelihoodPlan
from beliefstream.streams.definitions import own_code
from tests.learned import module_in
from tests.streams.cli.conftest import Run, assert_one_line

PROBLEM = "simulators:Clipped"
SMALL = (
    *("train-likelihood", PROBLEM, "--steps", "40", "--batch", "64", "--width", "16", "--layers", "1"),
    *("--device", "cpu", "--checkpoint", "run.pt"),
)


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
    log = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [20, 40] and all(line["loss"] for line in log)
    path = folder / "Clipped.safetensors"
    found = weights.load(path, PROBLEM, ProblemFunction.of(own_code.find(PROBLEM)))
    assert found.expected_error > 0
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    card = path.with_suffix(".md").read_text()
    assert digest in card and digest in finished.out
    for part in (
        "| laws | level: density beside the values 2 |",
        "| simulations | 2,560 in 40 steps |",
        "| x | parameter, real | -9 | 9 |",
        "| expected calibration error of the data | 0.",
        "| rank error of the parameters (simulation-based calibration) | 0.",
        f"beliefstream train-likelihood {PROBLEM} --steps 40 --batch 64 --width 16 --layers 1 --out .",
    ):
        assert part in card


def test_a_checkpoint_of_another_plan_is_not_overwritten(run: Run, folder: Path) -> None:
    assert run(*SMALL, "--stop-after", "0").status == 0
    before = (folder / "run.pt").read_bytes()
    assert_one_line(run(*SMALL, "--seed", "1"), "it is of another plan")
    assert (folder / "run.pt").read_bytes() == before


NAN = """
import torch


class Broken:
    parameters = {"x": "real"}
    data = {"level": "real"}
    context = ()
    ranges = {"x": (0, 1)}

    def simulate(self, parameters, context, generator):
        return {"level": parameters["x"].sub(0.5).log()}


class Bare(Broken):
    ranges = None
"""


def test_defaults_are_those_of_the_plan() -> None:
    assert Plan(PROBLEM, **asdict(LikelihoodPlan())) == Plan(PROBLEM)


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        ("absent:It", "absent cannot be imported"),
        ("simulators:It", "simulators has no It"),
        ("broken:Broken", "simulate: level of broken:Broken is not finite: nan"),
        (
            "broken:Bare",
            "ranges: broken:Bare needs the lowest and highest value by name, got None",
        ),
    ],
)
def test_a_problem_that_cannot_be_trained_is_explained(
    run: Run, folder: Path, problem: str, shown: str
) -> None:
    (folder / "broken.py").write_text(NAN)
    assert_one_line(run("train-likelihood", problem, "--checkpoint", "run.pt"), shown)
    assert not (folder / "run.pt").exists()
