"""Training of the published form: every batch follows from the seed and the step, so a stopped run can go on.

The published loss is −log q at the true parameter. Where the likelihood can be called, ours is the mean of −log q over
weighted posterior points. It has the same minimum, and no noise of the draw.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from beliefstream.inference.paper.network import PublishedForm, Shape, inputs
from beliefstream.inference.paper.scalar import Problems, ScalarMixture, ScalarTask
from beliefstream.inference.paper.whitening import posterior_points, spread_points

Progress = Callable[[int, int, float], None]
SAVE_EVERY = 200  # steps
POINTS = 61  # of a loss
SMOOTHING = 0.98  # of the loss that is shown


class Diverged(RuntimeError):
    """The loss was not finite; the last checkpoint is from before."""


@dataclass(frozen=True)
class Plan:
    """All settings of a run."""

    task: str
    steps: int = 4000
    batch: int = 128  # problems of at most five components
    counts: tuple[int, ...] = (5, 5, 5, 10, 5, 5, 2, 5, 5, 20)  # components of successive batches
    learning_rate: float = 2e-3
    warm_up: int = 100  # steps
    seed: int = 0

    def count(self, step: int) -> int:
        """Return the number of components of a step."""
        return self.counts[step % len(self.counts)]

    def problems(self, count: int) -> int:
        """Return the problems of a batch with `count` components: fewer if there are more than five."""
        return self.batch * 5 // max(count, 5)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then a cosine to zero."""
        return (
            self.learning_rate
            * min(1.0, (step + 1) / self.warm_up)
            * 0.5
            * (1 + math.cos(math.pi * step / self.steps))
        )


class Training:
    """A run of a plan, which goes on from its checkpoint if there is one.

    Raises:
        ValueError: the checkpoint is of another plan.
    """

    def __init__(self, plan: Plan, task: ScalarTask, checkpoint: Path) -> None:
        self.plan, self.task, self.checkpoint = plan, task, checkpoint
        torch.manual_seed(plan.seed)
        self.network = PublishedForm(Shape(task.prior_numbers, task.data_numbers))
        self.optimiser = torch.optim.Adam(self.network.parameters(), plan.learning_rate, betas=(0.9, 0.99))
        self.step = 0
        self.seconds = 0.0  # of the processor
        if checkpoint.exists():
            self._load()

    def _load(self) -> None:
        saved = torch.load(self.checkpoint, weights_only=True)
        if saved["plan"] != json.dumps(asdict(self.plan)):
            raise ValueError(f"checkpoint {self.checkpoint}: it is of another plan: {saved['plan']}")
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".partial")
        state = {
            "plan": json.dumps(asdict(self.plan)),
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def one_step(self) -> float:
        """Train on one batch, and return its loss in nats.

        Raises:
            Diverged: the loss or its gradient is not finite.
        """
        plan = self.plan
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        count = plan.count(self.step)
        problems = self.task.sample(plan.problems(count), generator)
        loss = posterior_loss(self.network, self.task, problems, count, generator)
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if not bool(torch.isfinite(size)):
            raise Diverged(f"step {self.step}: the gradient is not finite; {self.checkpoint} is from before")
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def run(self, progress: Progress, stop_after: float = math.inf) -> bool:
        """Run to the end of the plan, or for `stop_after` seconds; return whether the plan is complete.

        Args:
            progress: called with the step, the number of steps, and the smoothed loss in nats.
            stop_after: in seconds; the next run goes on from there.
        """
        begin, spent, shown = time.perf_counter(), time.process_time() - self.seconds, math.nan
        while self.step < self.plan.steps and time.perf_counter() - begin < stop_after:
            loss = self.one_step()
            shown = loss if math.isnan(shown) else SMOOTHING * shown + (1 - SMOOTHING) * loss
            self.seconds = time.process_time() - spent
            progress(self.step, self.plan.steps, shown)
            if self.step % SAVE_EVERY == 0:
                self.save()
        self.save()
        return self.step == self.plan.steps


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
