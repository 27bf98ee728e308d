"""`beliefstream train --problem`: learns a likelihood from its simulator."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from beliefstream.streams.cli.errors import CommandError

if TYPE_CHECKING:
    from beliefstream.inference.training.likelihood.train import Plan, Training

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
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.likelihood.problems import ProblemError
    from beliefstream.inference.training.likelihood.train import Plan, Training
    from beliefstream.inference.training.run import Diverged
    from beliefstream.streams.cli.train import run
    from beliefstream.streams.definitions import measurement_modules, problems

    refused = [name for name, value in options.items() if value is not None and name not in ALLOWED]
    if refused:
        raise CommandError(f"--{refused[0].replace('_', '-')}: not used with --problem")
    plan = Plan(problem, **{name: value for name, value in options.items() if value is not None})
    try:
        measurement_modules.load(problem.partition(":")[0])
        function = ProblemFunction.of(problems.find(problem))
        training = Training(plan, function, checkpoint, device)
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
    """Write weights and card, with the calibration of what the file contains."""
    from beliefstream.inference.likelihood.learned import weights
    from beliefstream.inference.training.likelihood import card
    from beliefstream.inference.training.likelihood.calibration import calibrate

    plan, likelihood = training.plan, training.likelihood.cpu().eval()
    name = plan.problem.partition(":")[2]
    path, described = folder / f"{name}.safetensors", card.facts(training)
    likelihood.double()
    measured = calibrate(likelihood, training.function, plan.seed)
    likelihood.expected_error = measured.divergence[0] + measured.divergence[1]
    weights.save(likelihood, path, described)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    command = f"beliefstream train --problem {plan.problem}{_given(plan)} --out {folder}"
    path.with_suffix(".md").write_text(
        card.card(name, described, likelihood, measured, command, digest), encoding="utf-8"
    )
    print(
        f"divergence {measured.divergence[0]:.5f} ± {measured.divergence[1]:.5f} nats an observation, "
        f"calibration error {measured.calibration_error:.4f}, rank error {measured.rank_error:.4f}"
    )
    print(f"wrote {path} and {path.with_suffix('.md').name}, sha256 {digest}")


def _given(plan: Plan) -> str:
    """The options that change the default plan into this one."""
    from dataclasses import asdict

    from beliefstream.inference.training.likelihood.train import Plan

    defaults, options = asdict(Plan(plan.problem)), ""
    for name, value in asdict(plan).items():
        if value != defaults[name]:
            options += f" --{name.replace('_', '-')} {value}"
    return options
