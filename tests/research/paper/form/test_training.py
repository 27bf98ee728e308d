from __future__ import annotations

from pathlib import Path

import pytest
import torch

from beliefstream.inference.training.run import Diverged
from research.paper.form.network import answer
from research.paper.form.refinement import divergence
from research.paper.form.training import Plan, Training
from research.paper.form.whitening import whiten
from tests.research.paper.normal_task import NormalTask

PLAN = Plan("normal", steps=12, batch=16, counts=(2, 3), warm_up=2)


def silent(_: dict[str, float]) -> None:
    """No progress."""


def weights(training: Training) -> list[torch.Tensor]:
    return [value.clone() for value in training.network.state_dict().values()]


def test_a_stopped_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    whole = Training(PLAN, NormalTask(), tmp_path / "whole.pt")
    assert whole.run(silent)
    part = Training(PLAN, NormalTask(), tmp_path / "part.pt")
    for _ in range(5):
        part.one_step()
    part.save()
    rest = Training(PLAN, NormalTask(), tmp_path / "part.pt")
    assert rest.step == 5
    assert rest.run(silent)
    for one, other in zip(weights(whole), weights(rest), strict=True):
        torch.testing.assert_close(one, other, atol=0, rtol=0)


def test_a_run_stops_after_its_time(tmp_path: Path) -> None:
    training = Training(PLAN, NormalTask(), tmp_path / "a.pt")
    assert not training.run(silent, stop_after=0.0)
    assert (tmp_path / "a.pt").exists()


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    Training(PLAN, NormalTask(), tmp_path / "a.pt").save()
    with pytest.raises(ValueError, match="another plan"):
        Training(Plan("normal", steps=13), NormalTask(), tmp_path / "a.pt")


def test_training_makes_answers_better(tmp_path: Path) -> None:
    training = Training(
        Plan("normal", steps=60, batch=32, counts=(3,), warm_up=5), NormalTask(), tmp_path / "a.pt"
    )
    task = NormalTask()
    problems = task.sample(100, torch.Generator().manual_seed(77))

    def score() -> float:
        found = answer(training.network, task, problems, 3)
        return float(divergence(task, problems, whiten(task, problems), found).mean())

    before = score()
    training.run(silent)
    assert score() < before / 3


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    class Broken(NormalTask):
        def log_likelihood(self, data: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
            return super().log_likelihood(data, points) * torch.nan

    training = Training(PLAN, Broken(), tmp_path / "a.pt")
    training.save()
    with pytest.raises(Diverged, match=r"step 0: .*a\.pt"):
        training.run(silent)
    assert Training(PLAN, Broken(), tmp_path / "a.pt").step == 0
