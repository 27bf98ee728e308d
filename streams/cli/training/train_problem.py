"""Learns a likelihood from its simulator, or the published form for a problem; it loads torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from beliefstream.inference.likelihood.learned import weights as likelihood_weights
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError
from beliefstream.inference.published import (
    card as published_card,
    train as published,
    weights as published_weights,
)
from beliefstream.inference.training.likelihood import card as likelihood_card, train as likelihood
from beliefstream.inference.training.likelihood.calibration import calibrate
from beliefstream.inference.training.run import Diverged, Run
from beliefstream.streams.cli.output import counted
from beliefstream.streams.cli.setup import CommandError
from beliefstream.streams.cli.training.plans import Running, changed_options
from beliefstream.streams.cli.training.running import run
from beliefstream.streams.definitions import own_code


def learn_likelihood(plan: likelihood.Plan, running: Running, device: str) -> None:
    """Learn the likelihood of a problem; raises as `_learn`."""
    checkpoint = running.checkpoint_of(plan.problem.replace(":", "-"))
    start = partial(likelihood.Training, plan, checkpoint=checkpoint, device=device)
    _learn(plan.problem, start, checkpoint, write_likelihood, running)


def learn_posterior(plan: published.Plan, running: Running) -> None:
    """Learn the published form for a problem, on the CPU; raises as `_learn`."""
    checkpoint = running.checkpoint_of(plan.problem.replace(":", "-") + "-published")
    start = partial(published.Training, plan, checkpoint=checkpoint)
    _learn(plan.problem, start, checkpoint, write_published, running)


def _learn(
    problem: str,
    start: Callable[[ProblemFunction], Run[Any]],
    checkpoint: Path,
    write: Callable[[Any, Path], None],
    running: Running,
) -> None:
    """Train, or go on, and write weights and card when the plan is complete.

    Raises:
        CommandError: the problem is unknown, its simulator fails, or the training diverges.
    """
    try:
        own_code.load(problem.partition(":")[0])
        training: Any = start(ProblemFunction.of(own_code.find(problem)))
        if not run(training, checkpoint, running.stop_after):
            return
        print(f"trained {counted(training.step, 'step')} in {training.seconds:.0f} s")
        if running.out is not None:
            write(training, running.out)
    except (ProblemError, Diverged, ValueError) as error:
        raise CommandError(f"MODULE:NAME: {error}") from error


def write_likelihood(training: likelihood.Training, folder: Path) -> None:
    """Write weights and card, with the calibration of what the file contains."""
    plan, learned = training.plan, training.likelihood.cpu().eval()
    name = plan.problem.partition(":")[2]
    path, described = folder / f"{name}.safetensors", likelihood_card.facts(training)
    learned.double()
    measured = calibrate(learned, training.function, plan.seed)
    learned.expected_error = measured.divergence[0] + measured.divergence[1]
    likelihood_weights.save(learned, path, described)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    options = changed_options(asdict(plan), asdict(likelihood.Plan(plan.problem)))
    command = f"beliefstream train-likelihood {plan.problem}{options} --out {folder}"
    path.with_suffix(".md").write_text(
        likelihood_card.card(name, described, learned, measured, command, digest), encoding="utf-8"
    )
    print(
        f"divergence {measured.divergence[0]:.5f} ± {measured.divergence[1]:.5f} nats an observation, "
        f"calibration error {measured.calibration_error:.4f}, rank error {measured.rank_error:.4f}"
    )
    print(f"wrote {path} and {path.with_suffix('.md').name}, sha256 {digest}")


def write_published(training: published.Training, folder: Path) -> None:
    """Write weights and card, with the scores of the trained network on new problems."""
    training.form.eval()
    name = training.plan.problem.partition(":")[2]
    path = folder / f"{name}.published.safetensors"
    found = published_card.scores(training)
    published_weights.save(training.form, path, published_card.facts(training))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    plan = training.plan
    options = changed_options(asdict(plan), asdict(published.Plan(plan.problem)))
    command = f"beliefstream train-posterior {plan.problem}{options} --out {folder}"
    described = path.with_suffix(".md")
    described.write_text(published_card.card(training, found, command, digest), encoding="utf-8")
    for score in found:
        away = "" if score.divergence is None else f", KL {score.divergence[0]:.4f}"
        print(f"{score.answer}, K = {score.components}: −log density {score.log_score[0]:.3f}{away}")
    print(f"wrote {path} and {described.name}, sha256 {digest}")
