"""The published form of a task, trained by its simulator alone, so that a budget of simulations is what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import name_of
from beliefstream.inference.network.published.network import PublishedForm
from beliefstream.inference.training.published.train import Plan, Training
from research.sbibm.problems import Task


class SimulatorOnly:
    """A task without its likelihood."""

    def __init__(self, task: Task) -> None:
        self.parameters, self.data, self.context, self.ranges = (
            task.parameters,
            task.data,
            task.context,
            task.ranges,
        )
        self.simulate = task.simulate
        if hasattr(task, "priors"):
            self.priors: Any = task.priors


def trained_form(task: Task, budget: int, seed: int, checkpoint: Path) -> PublishedForm:
    """Train on `budget` simulations, each used once; go on from the checkpoint if there is one."""
    plan = Plan(name_of(task))
    each = sum(map(plan.problems, plan.tokens)) / len(plan.tokens)
    steps = int(budget / each)
    plan = Plan(name_of(task), steps=steps, warm_up=min(plan.warm_up, steps // 5), seed=seed)
    training = Training(plan, ProblemFunction.of(SimulatorOnly(task)), checkpoint)
    training.run(lambda _: None)
    return training.form.requires_grad_(False).eval()
