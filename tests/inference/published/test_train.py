"""Training of the published form: it resumes, follows the seed, stops where it diverges, and makes answers better."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.published import card
from beliefstream.inference.published.train import Training
from beliefstream.inference.training.run import Diverged
from tests.inference.published.problems import Level, Simulated, Variance, trained, training

SMALL: Any = {"steps": 12, "batch": 8, "width": 8, "layers": 1, "hidden": 8, "tokens": (3, 5), "warm_up": 2}


def parameters(run: Training) -> torch.Tensor:
    return torch.cat([part.detach().double().flatten() for part in run.form.state_dict().values()])


def quiet(_: dict[str, float]) -> None:
    pass


@pytest.mark.parametrize("problem", [Level(), Simulated(), Variance()], ids=lambda each: type(each).__name__)
def test_a_run_cut_off_and_resumed_is_the_run_in_one_piece(problem: Any, tmp_path: Path) -> None:
    whole = training(problem, tmp_path / "whole.pt", **SMALL)
    assert whole.run(quiet)
    first = training(problem, tmp_path / "parts.pt", **SMALL)
    for _ in range(5):
        first.one_step()
    first.save()
    torch.rand(3)
    second = training(problem, tmp_path / "parts.pt", **SMALL)
    assert second.step == 5
    assert second.run(quiet)
    assert torch.equal(parameters(whole), parameters(second))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, other = (training(Level(), tmp_path / f"{seed}.pt", seed=seed, **SMALL) for seed in (0, 1))
    for run in (one, other):
        run.one_step()
    assert not torch.equal(parameters(one), parameters(other))


@pytest.mark.parametrize("change", ["plan", "range", "simulator"])
def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path, change: str) -> None:
    class Louder(Level):
        def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
            return {"reading": super().simulate(parameters, context, generator)["reading"] + 0.1}

    training(Level(), tmp_path / "one.pt", **SMALL).save()
    problem = Louder() if change == "simulator" else Level()
    if change == "range":
        problem.ranges = {**Level.ranges, "level": (-10, 11)}
    with pytest.raises(ValueError, match="another plan"):
        training(problem, tmp_path / "one.pt", **SMALL | ({"steps": 13} if change == "plan" else {}))


def test_a_simulator_that_fails_is_told_with_the_step(tmp_path: Path) -> None:
    class Breaks(Level):
        calls = 0

        def simulate(self, parameters: Any, context: Any, generator: torch.Generator) -> Any:
            self.calls += 1
            found = super().simulate(parameters, context, generator)["reading"]
            return {"reading": found if self.calls < 5 else found * math.nan}

    run = training(Breaks(), tmp_path / "run.pt", **SMALL)
    with pytest.raises(ProblemError, match=r"step 3: simulate: reading of .*Breaks is not finite: nan"):
        run.run(quiet)


def test_a_training_that_diverges_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    run = training(Level(), tmp_path / "run.pt", **SMALL)
    run.one_step()
    run.save()
    with torch.no_grad():
        run.form.head.bias[1] = math.nan
    with pytest.raises(Diverged, match=r"step 1: loss nan, .*not finite; .*run\.pt is from before"):
        run.run(quiet)
    assert training(Level(), tmp_path / "run.pt", **SMALL).step == 1


def test_too_many_parameters_are_refused(tmp_path: Path) -> None:
    names = [f"x{i}" for i in range(17)]
    many = {
        "parameters": dict.fromkeys(names, "real"),
        "ranges": {**dict.fromkeys(names, (0, 1)), "noise": 1},
    }
    with pytest.raises(ProblemError, match="takes 16 at most, got 17"):
        training(type("Many", (Level,), many)(), tmp_path / "run.pt", **SMALL)


@pytest.mark.parametrize("kind", [Level, Simulated, Variance])
def test_answers_say_more_of_new_problems_than_their_priors(kind: type) -> None:
    """Also from the simulator alone, where the loss is that of the publication."""
    scores = {score.answer: score for score in card.scores(trained(kind))}
    prior, alone = scores["prior"], scores["network alone"]
    assert alone.log_score[0] < prior.log_score[0] - 0.05
    assert alone.inside[1] == pytest.approx(0.9, abs=0.08)
    if kind is Simulated:
        assert set(scores) == {"prior", "network alone"} and alone.divergence is None
    else:
        refined = scores["checked and refined"].divergence
        assert refined is not None and alone.divergence is not None
        assert refined[0] < min(0.01, alone.divergence[0])


def test_embedded_parametric_priors_are_decoded_to_themselves() -> None:
    """Draws of the priors are about as likely under the reconstruction as under the priors."""
    run = trained(Variance)
    drawn = run.problems(200, 4, run.generator(-9))
    with torch.no_grad():
        whitened = run.form.whiten(drawn.priors, drawn.numbers, 4)
        points = drawn.priors.sample(50, run.generator(-10))
        inside = torch.linalg.solve_triangular(
            whitened.frame, (points - whitened.centre[:, None]).mT, upper=False
        ).mT
        found = run.form.reconstruction(whitened).log_density(inside.float())
        moments = drawn.priors.mixture.log_density(points)
    logs = found.double() - whitened.frame.diagonal(dim1=-2, dim2=-1).log().sum(-1, keepdim=True)
    gap = (drawn.priors.log_density(points) - logs).mean()
    assert -0.01 < float(gap) < float((drawn.priors.log_density(points) - moments).mean())
