"""What is measured: samples of ours against the reference posterior of each task, by C2ST."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.published.one_pass import OnePass
from research.sbibm import problems
from research.sbibm.c2st import c2st
from research.sbibm.files import observation, reference
from research.sbibm.training import SimulatorOnly, learned_function, trained_form

BUDGETS = (10_000, 100_000)  # simulations
COMPONENTS = 16  # of each answer
FORM_SHARE = 0.1  # of the simulations train the network, where the others teach a likelihood
Kind = Literal["network", "mixture", "samples", "learned"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Row:
    """An answer to one observation.

    Attributes:
        kind: the network alone; the checked and refined mixture; its samples; samples by a learned likelihood.
        c2st: against the reference.
        likelihood, efficiency: quality as the answer says it; None if unchecked.
        effective: of the samples; None for a mixture.
        seconds: of processor time, without training.
    """

    task: str
    budget: int
    observation: int
    kind: Kind
    c2st: float
    likelihood: str
    efficiency: float | None
    effective: float | None
    seconds: float


def measured(
    name: str,
    budget: int,
    numbers: list[int],
    kinds: list[Kind],
    data: Path | None,
    checkpoints: Path,
    seed: int,
) -> Iterator[Row]:
    """Train what `kinds` need, and score answers to the observations `numbers`; raises RecordingUnavailable."""
    task = TASKS[name]()
    methods = {kind: _method(task, kind, budget, checkpoints, seed) for kind in kinds}
    for number in numbers:
        known = reference(name, number, data)
        given = (
            task.prior,
            dict(zip(task.data, observation(name, number, data).tolist(), strict=True)),
        )
        for kind, (asked, drawn_by) in methods.items():
            begin = time.process_time()
            answer = asked.posterior(*given, components=COMPONENTS)
            drawn = drawn_by.samples(answer, *given, count=len(known), seed=seed)
            spent = time.process_time() - begin
            score = c2st(known, task.theta_at(torch.from_numpy(drawn.points)).numpy())
            quality = answer.likelihood, answer.sample_efficiency, drawn.effective
            yield Row(name, budget, number, kind, score, *quality, spent)


def _method(
    task: problems.Task, kind: Kind, budget: int, checkpoints: Path, seed: int
) -> tuple[OnePass, OnePass]:
    """Return what answers, and what draws the samples of an answer."""
    label, simulator = type(task).__name__, ProblemFunction.of(SimulatorOnly(task))
    simulations = round(FORM_SHARE * budget) if kind == "learned" else budget
    form = trained_form(task, simulations, seed, checkpoints / f"{label}-{simulations}-{seed}.pt")
    if kind == "learned":
        rest = budget - simulations
        function = learned_function(task, rest, seed, checkpoints / f"{label}-likelihood-{rest}-{seed}.pt")
        return (OnePass(form, function),) * 2
    alone, checked = OnePass(form, simulator), OnePass(form, ProblemFunction.of(task))
    return (alone if kind == "network" else checked), (checked if kind == "samples" else alone)


# by the folders of their files; slcp_distractors and bernoulli_glm_raw have the posteriors of their plain tasks
TASKS: dict[str, type[problems.Task]] = {
    "two_moons": problems.TwoMoons,
    "slcp": problems.SLCP,
    "bernoulli_glm": problems.BernoulliGLM,
    "gaussian_mixture": problems.GaussianMixtureTask,
    "gaussian_linear": problems.GaussianLinear,
    "gaussian_linear_uniform": problems.GaussianLinearUniform,
    "sir": problems.SIR,
    "lotka_volterra": problems.LotkaVolterra,
}
