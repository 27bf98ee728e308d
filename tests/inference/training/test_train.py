from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import Configuration
from beliefstream.inference.training.train import Plan, Training

SMALL = Plan(
    dimensions=(1, 2),
    steps=6,
    batch=32,
    warm_up=2,
    seed=3,
    configuration=Configuration(width=16, layers=1, heads=2, hidden=8),
)


def parameters(training: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in training.network.parameters()])


def quiet(_: dict[str, float]) -> None:
    pass


def test_a_run_cut_off_and_resumed_is_the_run_in_one_piece(tmp_path: Path) -> None:
    whole = Training(SMALL, tmp_path / "whole.pt", compile_network=False)
    whole.run(quiet)
    first = Training(SMALL, tmp_path / "parts.pt", compile_network=False)
    for _ in range(3):
        first.one_step()
    first.save()
    second = Training(SMALL, tmp_path / "parts.pt", compile_network=False)
    assert second.step == 3
    second.run(quiet)
    assert torch.equal(parameters(whole), parameters(second))


def test_the_seed_decides(tmp_path: Path) -> None:
    runs = []
    for number, seed in enumerate((3, 3, 4)):
        training = Training(replace(SMALL, seed=seed), tmp_path / f"{number}.pt", compile_network=False)
        training.run(quiet)
        runs.append(parameters(training))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    training = Training(SMALL, tmp_path / "one.pt", compile_network=False)
    training.save()
    with pytest.raises(ValueError, match="another plan"):
        Training(replace(SMALL, steps=7), tmp_path / "one.pt", compile_network=False)


def test_the_loss_falls(tmp_path: Path) -> None:
    plan = replace(SMALL, dimensions=(2,), steps=60, batch=128, warm_up=10)
    losses = []
    training = Training(plan, tmp_path / "long.pt", compile_network=False)
    while training.step < plan.steps:
        losses.append(training.one_step())
    assert sum(losses[-15:]) < sum(losses[:15])
    assert training.skipped == 0


def test_a_plan_takes_dimensions_in_turn_and_tokens_after_each_round() -> None:
    plan = Plan(dimensions=(2, 1), tokens=(8, 16))
    assert [plan.shape(step) for step in range(6)] == [(2, 8), (1, 8), (2, 16), (1, 16), (2, 8), (1, 8)]


def test_a_run_may_begin_with_shipped_weights(tmp_path: Path) -> None:
    run = Training(Plan(initial=weights.DEFAULT), tmp_path / "c.pt", compile_network=False)
    shipped = weights.load().state_dict()
    assert all(torch.equal(value, shipped[name]) for name, value in run.network.state_dict().items())


def test_initial_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    plan = Plan(initial=weights.DEFAULT, configuration=Configuration(layers=2))
    with pytest.raises(ValueError, match=r"initial: expected .* got equivariant-32x4"):
        Training(plan, tmp_path / "c.pt", compile_network=False)
