"""`beliefstream train --problem ... --form published`: trains the published form for a problem."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.errors import CommandError
from beliefstream.streams.cli.problem_training import changed_options, given, train_problem

if TYPE_CHECKING:
    from beliefstream.inference.training.published.train import Training

ALLOWED = (
    *("steps", "batch", "tokens", "learning_rate", "warm_up", "seed"),
    *("width", "layers", "heads", "hidden"),
)


def train_published(
    problem: str, options: dict[str, Any], checkpoint: Path, out: Path | None, stop_after: float | None
) -> None:
    """Train, or go on, and write weights and card when the plan is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    from beliefstream.inference.training.published.train import Plan, Training

    plan = Plan(problem, **given(options, ALLOWED, "--form published"))
    if plan.width % plan.heads:
        raise CommandError(f"--heads: {plan.heads} do not divide --width {plan.width}")

    def finish(training: Training) -> None:
        if out is not None:
            write(training, out)

    train_problem(problem, checkpoint, stop_after, lambda found: Training(plan, found, checkpoint), finish)


def write(training: Training, folder: Path) -> None:
    """Write weights and card, with the scores of the trained network on new problems."""
    from beliefstream.inference.network.published import weights
    from beliefstream.inference.training.published import card
    from beliefstream.inference.training.published.train import Plan

    training.form.eval()
    name = training.plan.problem.partition(":")[2]
    path = folder / f"{name}.published.safetensors"
    found = card.scores(training)
    weights.save(training.form, path, card.facts(training))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plan = training.plan
    options = changed_options(asdict(plan), asdict(Plan(plan.problem)))
    command = f"beliefstream train --problem {plan.problem} --form published{options} --out {folder}"
    described = path.with_suffix(".md")
    described.write_text(card.card(training, found, command, digest), encoding="utf-8")
    for score in found:
        away = "" if score.divergence is None else f", KL {score.divergence[0]:.4f}"
        print(f"{score.answer}, K = {score.components}: −log density {score.log_score[0]:.3f}{away}")
    print(f"wrote {path} and {described.name}, sha256 {digest}")
