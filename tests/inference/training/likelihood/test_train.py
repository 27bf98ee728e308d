"""Training of a likelihood: it resumes, follows the seed, stops where it diverges, and finds the simulator's law."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.training.likelihood.train import Plan, Training
from beliefstream.inference.training.run import Diverged
from tests.inference.likelihood.learned.simulators import COUNTER, Clipped, Counter

SMALL = Plan(COUNTER, steps=60, batch=64, width=16, layers=1, warm_up=5, seed=3)


def training(plan: Plan, checkpoint: Path, problem: Any = None) -> Training:
    return Training(plan, ProblemFunction.of(problem or Counter()), checkpoint)


def parameters(run: Training) -> torch.Tensor:
    parts = [*run.likelihood.networks.parameters(), run.likelihood.lowest, run.likelihood.highest]
    return torch.cat([part.detach().double().flatten() for part in parts])


def quiet(_: dict[str, float]) -> None:
    pass


def test_a_run_cut_off_and_resumed_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = training(SMALL, tmp_path / "whole.pt")
    whole.run(quiet)
    first = training(SMALL, tmp_path / "parts.pt")
    for _ in range(30):
        first.one_step()
    first.save()
    second = training(SMALL, tmp_path / "parts.pt")
    assert second.step == 30
    second.run(quiet)
    assert torch.equal(parameters(whole), parameters(second))
    assert (whole.loss, whole.least) == (second.loss, second.least)


def test_the_seed_decides_and_the_callers_chance_does_not(tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((3, 3, 4)):
        torch.rand(number)
        run = training(replace(SMALL, seed=seed), tmp_path / f"{number}.pt")
        run.run(quiet)
        runs.append(parameters(run))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


class Louder(Counter):
    """Another simulator of the same names and the same range."""

    def mean(self, parameters: Any, context: Any) -> Any:
        return super().mean(parameters, context) + 0.1


@pytest.mark.parametrize("change", ["plan", "range", "simulator"])
def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path, change: str) -> None:
    training(SMALL, tmp_path / "one.pt").save()
    problem = Louder() if change == "simulator" else Counter()
    if change == "range":
        problem.ranges = {**Counter.ranges, "x": (-5, 6)}
    with pytest.raises(ValueError, match="another plan"):
        training(replace(SMALL, steps=61 if change == "plan" else 60), tmp_path / "one.pt", problem)


class Breaks(Counter):
    """Its simulator fails after some calls."""

    calls, wrong = 0, math.nan

    def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
        self.calls += 1
        found = super().simulate(parameters, context, generator)["count"]
        return {"count": found if self.calls < 25 else found * self.wrong}


@pytest.mark.parametrize(
    ("problem", "shown"),
    [
        (Breaks(), "step 23: simulate: count of .*Breaks is not finite: nan"),
        (type("Halves", (Breaks,), {"wrong": 0.3})(), "step 23: simulate: .*: count: must be a whole number"),
        (
            type("Shape", (Breaks,), {"wrong": torch.ones(1, 1)})(),
            r"step 23: .* shape \(64,\), got \(1, 64\)",
        ),
    ],
)
def test_a_simulator_that_fails_is_told_with_the_step(tmp_path: Path, problem: Any, shown: str) -> None:
    run = training(SMALL, tmp_path / "run.pt", problem)
    with pytest.raises(ProblemError, match=shown):
        run.run(quiet)


def test_a_training_that_diverges_says_where_and_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    run = training(replace(SMALL, steps=400), tmp_path / "run.pt")
    while run.step < 40:
        run.one_step()
    run.save()
    kept = (tmp_path / "run.pt").read_bytes()
    with torch.no_grad():
        list(run.likelihood.networks.parameters())[-1][-2] += (
            50.0  # the last bias: the place, far from all data
        )
    with pytest.raises(Diverged, match=r"step \d+: the loss has grown from .* nats; .*run.pt is from before"):
        run.run(quiet, save_every=1)
    assert (tmp_path / "run.pt").read_bytes() == kept
    assert training(replace(SMALL, steps=400), tmp_path / "run.pt").step == 40


def test_a_loss_that_is_no_number_ends_the_training(tmp_path: Path) -> None:
    run = training(SMALL, tmp_path / "run.pt")
    with torch.no_grad():
        next(run.likelihood.networks.parameters())[0] = math.nan
    with pytest.raises(Diverged, match=r"step 0: loss nan, .* not finite; no checkpoint was written"):
        run.one_step()


def test_a_problem_without_ranges_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ProblemError, match=r"ranges: .* needs the lowest and highest value by name, got None"
    ):
        training(SMALL, tmp_path / "run.pt", type("Bare", (Counter,), {"ranges": None})())


def test_the_range_of_the_data_is_that_of_all_steps(tmp_path: Path) -> None:
    run = training(replace(SMALL, problem="m:Clipped"), tmp_path / "run.pt", Clipped())
    run.run(quiet)
    assert run.likelihood.highest.tolist() == [2.0, 1.0]
    assert float(run.likelihood.lowest[0]) < -3 and float(run.likelihood.lowest[1]) == 0.0
