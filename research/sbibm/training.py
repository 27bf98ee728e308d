"""What is trained for a task, by its simulator alone: a budget of simulations is what it says, each used once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from beliefstream.inference.likelihood.learned.network import LearnedLikelihood
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import Numbers, name_of
from beliefstream.inference.published import train as published
from beliefstream.inference.published.network import PublishedForm
from beliefstream.inference.training.likelihood import train as likelihood
from research.sbibm.problems import Boxed, Task

BATCH = 128  # simulations a step for a likelihood; 1 024 by default leave too few steps
INSIDE = (0.02, 0.98)  # of each side of a box, where its likelihood is learned


class SimulatorOnly:
    """A task without its likelihood; what a likelihood is learned of are the task's own parameters."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.parameters, self.data, self.context = task.parameters, task.data, task.context
        self.ranges, self.simulate = task.ranges, task.simulate
        if isinstance(task, Boxed):
            self.priors: Any = task.priors

    def features(self, parameters: Numbers, context: Numbers) -> dict[str, Tensor]:
        theta = self.task.theta(parameters)
        positive = "positive" in self.parameters.values()
        each = (theta.log() if positive else theta).unbind(-1)
        return {f"theta_{i}": column for i, column in enumerate(each)}


def trained_form(task: Task, budget: int, seed: int, checkpoint: Path) -> PublishedForm:
    """Train the published form on `budget` simulations; go on from the checkpoint if there is one."""
    plan = published.Plan(name_of(task))
    each = sum(map(plan.problems, plan.tokens)) / len(plan.tokens)
    steps = int(budget / each)
    plan = published.Plan(name_of(task), steps=steps, warm_up=min(plan.warm_up, steps // 5), seed=seed)
    training = published.Training(plan, ProblemFunction.of(SimulatorOnly(task)), checkpoint)
    training.run(lambda _: None)
    return training.form.requires_grad_(False).eval()


def learned_function(task: Task, budget: int, seed: int, checkpoint: Path) -> ProblemFunction:
    """Learn the likelihood from `budget` simulations, and return the task with it."""
    problem = SimulatorOnly(task)
    if isinstance(task, Boxed):
        problem.ranges = dict.fromkeys(task.parameters, INSIDE)
    function = ProblemFunction.of(problem)
    plan = likelihood.Plan(name_of(task), steps=budget // BATCH, batch=BATCH, seed=seed)
    training = likelihood.Training(plan, function, checkpoint)
    training.run(lambda _: None)
    learned: LearnedLikelihood = training.likelihood.double().requires_grad_(False).eval()
    return ProblemFunction.of(problem, learned)
