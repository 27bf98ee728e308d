"""`beliefstream train-likelihood` and `beliefstream train-posterior`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from beliefstream.streams.cli.options import whole_numbers
from beliefstream.streams.cli.options.groups import grouped
from beliefstream.streams.cli.output import loading
from beliefstream.streams.cli.setup import CommandError, settings_for
from beliefstream.streams.cli.training.plans import Device, LikelihoodPlan, PosteriorPlan, Running

Problem = Annotated[str, typer.Argument(metavar="MODULE:NAME", help="of a problem")]


@grouped
def train_likelihood(
    problem: Problem,
    stated: LikelihoodPlan,
    running: Running,
    device: Annotated[Device, typer.Option(help="where to train")] = Device.cpu,
) -> None:
    """Learn the likelihood of a problem from its simulator, or continue; Ctrl-C saves it.

    Writes weights and model card when the plan is complete. docs/own-likelihood.md shows how to use them.

    Example: beliefstream train-likelihood crowd:CrowdCamera --out .
    """
    with loading():
        import torch

        from beliefstream.inference.training.likelihood.train import Plan
        from beliefstream.inference.update.devices import choose_device
        from beliefstream.streams.cli.training.train_problem import learn_likelihood

    settings_for()
    if running.threads is not None:
        torch.set_num_threads(running.threads)
    learn_likelihood(Plan(problem, **asdict(stated)), running, choose_device(device.value).type)


@grouped
def train_posterior(problem: Problem, stated: PosteriorPlan, running: Running) -> None:
    """Learn the posteriors of a problem, one pass each, or continue; on the CPU, and Ctrl-C saves it.

    Writes weights and model card when the plan is complete. docs/one-pass.md shows how to use them.

    Example: beliefstream train-posterior arrivals:Arrivals --out .
    """
    if stated.width % stated.heads:
        raise CommandError(f"--heads: {stated.heads} do not divide --width {stated.width}")
    tokens = whole_numbers(stated.tokens, "--tokens", 1)
    with loading():
        import torch

        from beliefstream.inference.published.train import Plan
        from beliefstream.streams.cli.training.train_problem import learn_posterior

    settings_for()
    if running.threads is not None:
        torch.set_num_threads(running.threads)
    learn_posterior(Plan(problem, **asdict(stated) | {"tokens": tokens}), running)
