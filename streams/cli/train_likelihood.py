"""`beliefstream train --problem`: learns a likelihood from its simulator."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.problem_training import changed_options, given, train_problem

if TYPE_CHECKING:
    from beliefstream.inference.training.likelihood.train import Training

ALLOWED = ("steps", "batch", "learning_rate", "warm_up", "seed", "width", "layers")


def train_likelihood(
    problem: str,
    options: dict[str, Any],
    checkpoint: Path,
    device: str,
    out: Path | None,
    stop_after: float | None,
) -> None:
    """Train, or go on, and write weights and card when the plan is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    from beliefstream.inference.training.likelihood.train import Plan, Training

    plan = Plan(problem, **given(options, ALLOWED, "--problem"))

    def finish(training: Training) -> None:
        if out is not None:
            write(training, out)

    train_problem(
        problem, checkpoint, stop_after, lambda found: Training(plan, found, checkpoint, device), finish
    )


def write(training: Training, folder: Path) -> None:
    """Write weights and card, with the calibration of what the file contains."""
    from beliefstream.inference.likelihood.learned import weights
    from beliefstream.inference.training.likelihood import card
    from beliefstream.inference.training.likelihood.calibration import calibrate
    from beliefstream.inference.training.likelihood.train import Plan

    plan, likelihood = training.plan, training.likelihood.cpu().eval()
    name = plan.problem.partition(":")[2]
    path, described = folder / f"{name}.safetensors", card.facts(training)
    likelihood.double()
    measured = calibrate(likelihood, training.function, plan.seed)
    likelihood.expected_error = measured.divergence[0] + measured.divergence[1]
    weights.save(likelihood, path, described)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    options = changed_options(asdict(plan), asdict(Plan(plan.problem)))
    command = f"beliefstream train --problem {plan.problem}{options} --out {folder}"
    path.with_suffix(".md").write_text(
        card.card(name, described, likelihood, measured, command, digest), encoding="utf-8"
    )
    print(
        f"divergence {measured.divergence[0]:.5f} ± {measured.divergence[1]:.5f} nats an observation, "
        f"calibration error {measured.calibration_error:.4f}, rank error {measured.rank_error:.4f}"
    )
    print(f"wrote {path} and {path.with_suffix('.md').name}, sha256 {digest}")
