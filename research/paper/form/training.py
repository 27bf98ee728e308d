"""Training of the published form: every batch follows from the seed and the step, so a stopped run can go on.

The published loss is −log q at the true parameter. Where the likelihood can be called, ours is the mean of −log q over
weighted posterior points. It has the same minimum, and no noise of the draw.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.training.run import Run, Schedule
from research.paper.form.network import PublishedForm, Shape, inputs
from research.paper.form.whitening import posterior_points, spread_points
from research.paper.scalar import Problems, ScalarMixture, ScalarTask

POINTS = 61  # of a loss


@dataclass(frozen=True)
class Plan(Schedule):
    """All settings of a run."""

    task: str
    batch: int = 128  # problems of at most five components
    counts: tuple[int, ...] = (5, 5, 5, 10, 5, 5, 2, 5, 5, 20)  # components of successive batches

    def count(self, step: int) -> int:
        """Return the number of components of a step."""
        return self.counts[step % len(self.counts)]

    def problems(self, count: int) -> int:
        """Return the problems of a batch with `count` components: fewer if there are more than five."""
        return self.batch * 5 // max(count, 5)


class Training(Run[Plan]):
    """A run of a plan, which goes on from its checkpoint if there is one.

    Raises:
        ValueError: the checkpoint is of another plan.
    """

    clock = staticmethod(time.process_time)

    def __init__(self, plan: Plan, task: ScalarTask, checkpoint: Path) -> None:
        self.task = task
        torch.manual_seed(plan.seed)
        self.network = PublishedForm(Shape(task.prior_numbers, task.data_numbers))
        super().__init__(plan, self.network, checkpoint)
        self.resume()

    def batch_loss(self, generator: torch.Generator) -> Tensor:
        """Return the mean divergence of the answers to a batch of problems."""
        count = self.plan.count(self.step)
        problems = self.task.sample(self.plan.problems(count), generator)
        return posterior_loss(self.network, self.task, problems, count, generator)


def posterior_loss(
    network: PublishedForm, task: ScalarTask, problems: Problems, count: int, generator: torch.Generator
) -> Tensor:
    """Return the mean of KL(exact ‖ answer) in nats by quadrature; the points are shifted at random."""
    prior, data, profiles, frame = inputs(task, problems)
    answer = ScalarMixture(*network(prior, data, profiles, count))
    shift = torch.rand(len(problems.prior), 1, generator=generator, dtype=torch.float64) - 0.5
    whitened = spread_points(POINTS, shift)
    _, logs = posterior_points(task, problems, frame, whitened)
    gap = logs - whitened.log_spacing - answer.log_density(whitened.places.float()).double()
    return (logs.exp() * gap).sum(1).mean()
