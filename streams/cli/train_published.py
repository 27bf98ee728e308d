"""`beliefstream train --problem ... --form published`: trains the published form for a problem."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.inference.training.published.train import Plan, Training

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
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.likelihood.problems import ProblemError
    from beliefstream.inference.training.published.train import Plan, Training
    from beliefstream.inference.training.run import Diverged
    from beliefstream.streams.cli.train import run
    from beliefstream.streams.definitions import measurement_modules, problems

    refused = [name for name, value in options.items() if value is not None and name not in ALLOWED]
    if refused:
        raise CommandError(f"--{refused[0].replace('_', '-')}: not used with --form published")
    plan = Plan(problem, **{name: value for name, value in options.items() if value is not None})
    if plan.width % plan.heads:
        raise CommandError(f"--heads: {plan.heads} do not divide --width {plan.width}")
    try:
        measurement_modules.load(problem.partition(":")[0])
        function = ProblemFunction.of(problems.find(problem))
        training = Training(plan, function, checkpoint)
        log = checkpoint.with_suffix(".jsonl")
        print(f"checkpoint {checkpoint}, log {log}", file=sys.stderr)
        if not run(training, log, stop_after):
            print(f"stopped at step {training.step} of {plan.steps}; the same command continues")
            return
        print(f"trained {training.step} steps in {training.seconds:.0f} s")
        if out is not None:
            write(training, out)
    except (ProblemError, Diverged, ValueError) as error:
        raise CommandError(f"--problem: {error}") from error


def write(training: Training, folder: Path) -> None:
    """Write weights and card, with the scores of the trained network on new problems."""
    from beliefstream.inference.network.published import weights
    from beliefstream.inference.training.published import card

    training.form.eval()
    name = training.plan.problem.partition(":")[2]
    path = folder / f"{name}.published.safetensors"
    found = card.scores(training)
    weights.save(training.form, path, card.facts(training))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    command = (
        f"beliefstream train --problem {training.plan.problem} --form published{_given(training.plan)} "
        f"--out {folder}"
    )
    described = path.with_suffix(".md")
    described.write_text(card.card(training, found, command, digest), encoding="utf-8")
    for score in found:
        away = "" if score.divergence is None else f", KL {score.divergence[0]:.4f}"
        print(f"{score.answer}, K = {score.components}: −log density {score.log_score[0]:.3f}{away}")
    print(f"wrote {path} and {described.name}, sha256 {digest}")


def _given(plan: Plan) -> str:
    """The options that change the default plan into this one."""
    from dataclasses import asdict

    from beliefstream.inference.training.published.train import Plan

    defaults, options = asdict(Plan(plan.problem)), ""
    for name, value in asdict(plan).items():
        if value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            options += f" --{name.replace('_', '-')} {text}"
    return options
