"""`beliefstream train --problem`: learns a likelihood from its simulator, or the published form for a problem."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from beliefstream.streams.cli.setup import CommandError

if TYPE_CHECKING:
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.training.likelihood.train import Training as LikelihoodTraining
    from beliefstream.inference.training.published.train import Training as PublishedTraining
    from beliefstream.inference.training.run import Run

T = TypeVar("T", bound="Run[Any]")
ALLOWED = ("steps", "batch", "learning_rate", "warm_up", "seed", "width", "layers")
ALLOWED_PUBLISHED = (*ALLOWED, "tokens", "heads", "hidden")


def given(options: dict[str, Any], allowed: Collection[str], form: str) -> dict[str, Any]:
    """Return the options that are given; raises CommandError for one that `form` does not use."""
    found = {name: value for name, value in options.items() if value is not None}
    for name in found:
        if name not in allowed:
            raise CommandError(f"--{name.replace('_', '-')}: not used with {form}")
    return found


def train_problem(
    problem: str,
    checkpoint: Path,
    stop_after: float | None,
    start: Callable[[ProblemFunction], T],
    write: Callable[[T, Path], None],
    out: Path | None,
) -> None:
    """Start a training of the problem, or go on, and write the result to the folder `out` when the plan is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    from beliefstream.inference.likelihood.problem_functions import ProblemFunction
    from beliefstream.inference.likelihood.problems import ProblemError
    from beliefstream.inference.training.run import Diverged
    from beliefstream.streams.cli.training.train import run
    from beliefstream.streams.definitions import own_code

    try:
        own_code.load(problem.partition(":")[0])
        training = start(ProblemFunction.of(own_code.find(problem)))
        if not run(training, checkpoint, stop_after):
            return
        print(f"trained {training.step} steps in {training.seconds:.0f} s")
        if out is not None:
            write(training, out)
    except (ProblemError, Diverged, ValueError) as error:
        raise CommandError(f"--problem: {error}") from error


def changed_options(plan: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The options that change a plan's defaults into its fields."""
    options = ""
    for name, value in plan.items():
        if value != defaults[name]:
            text = ",".join(map(str, value)) if isinstance(value, tuple) else value
            options += f" --{name.replace('_', '-')} {text}"
    return options


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
    start = partial(Training, plan, checkpoint=checkpoint, device=device)
    train_problem(problem, checkpoint, stop_after, start, write_likelihood, out)


def write_likelihood(training: LikelihoodTraining, folder: Path) -> None:
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


def train_published(
    problem: str, options: dict[str, Any], checkpoint: Path, out: Path | None, stop_after: float | None
) -> None:
    """Train, or go on, and write weights and card when the plan is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    from beliefstream.inference.training.published.train import Plan, Training

    plan = Plan(problem, **given(options, ALLOWED_PUBLISHED, "--form published"))
    if plan.width % plan.heads:
        raise CommandError(f"--heads: {plan.heads} do not divide --width {plan.width}")
    start = partial(Training, plan, checkpoint=checkpoint)
    train_problem(problem, checkpoint, stop_after, start, write_published, out)


def write_published(training: PublishedTraining, folder: Path) -> None:
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
