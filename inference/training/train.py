"""Training loop, which can be resumed and is the same on CPU and CUDA.

Every batch is a function of the seed and the step. A checkpoint has the network, the optimiser and the step, so an
interrupted run continues without a difference.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import (
    Configuration,
    DistributionTransformer,
    duplicate_components,
)
from beliefstream.inference.training.families import FAMILIES, Family
from beliefstream.inference.training.loss import component_consistent_loss

Progress = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Plan:
    """All settings of a run."""

    family: str = "mixed"
    dimensions: tuple[int, ...] = (2, 1, 2, 3, 2, 4)  # of successive batches, repeated
    steps: int = 18_000
    batch: int = 512
    tokens: tuple[int, ...] = (8,)  # number in the answer; changes after each cycle of the dimensions
    learning_rate: float = 2e-3
    warm_up: int = 300  # steps
    weight_decay: float = 1e-4
    seed: int = 0
    initial: str = "random"  # initial weights: a name or a file
    configuration: Configuration = field(default_factory=Configuration)

    def shape(self, step: int) -> tuple[int, int]:
        """Return dimension and number of tokens of the problems of a step."""
        cycle, index = divmod(step, len(self.dimensions))
        return self.dimensions[index], self.tokens[cycle % len(self.tokens)]

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then a cosine down to a fiftieth."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * (0.02 + 0.98 * cosine)


class Training:
    """A run of a plan, resumed from its checkpoint if that exists.

    Raises:
        ValueError: the checkpoint belongs to another plan, or the initial weights have another configuration.
    """

    def __init__(
        self, plan: Plan, checkpoint: Path, device: str = "cpu", compile_network: bool = True
    ) -> None:
        self.plan, self.checkpoint, self.device = plan, checkpoint, torch.device(device)
        self.family: Family = FAMILIES[plan.family]()
        torch.manual_seed(plan.seed)
        self.network = self._initial().to(self.device)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(),
            plan.learning_rate,
            weight_decay=plan.weight_decay,
            betas=(0.9, 0.98),
        )
        self.step = 0
        self.skipped = 0
        self.seconds = 0.0
        if checkpoint.exists():
            self._load()
        # one compiled function per shape, so that shapes are static and no function evicts another from the cache
        shapes = itertools.product(sorted(set(plan.dimensions)), sorted(set(plan.tokens)))
        self.losses = {shape: self._loss_function(compile_network) for shape in shapes}

    def _initial(self) -> DistributionTransformer:
        if self.plan.initial == "random":
            return DistributionTransformer(self.plan.configuration)
        network = weights.load(self.plan.initial)
        if network.configuration != self.plan.configuration:
            raise ValueError(
                f"initial: expected {self.plan.configuration}, got {self.plan.initial} with {network.configuration}"
            )
        return network.train()

    def _loss_function(self, compile_network: bool) -> Callable[..., Tensor]:
        def loss(*arguments: Any) -> Tensor:
            return component_consistent_loss(self.network, *arguments)

        return torch.compile(loss, dynamic=False) if compile_network else loss

    def _load(self) -> None:
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if saved["plan"] != json.dumps(asdict(self.plan)):
            raise ValueError(f"checkpoint {self.checkpoint}: it belongs to another plan: {saved['plan']}")
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.skipped, self.seconds = saved["step"], saved["skipped"], saved["seconds"]

    def save(self) -> None:
        """Write the checkpoint atomically."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".partial")
        torch.save(
            {
                "plan": json.dumps(asdict(self.plan)),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "step": self.step,
                "skipped": self.skipped,
                "seconds": self.seconds,
            },
            temporary,
        )
        temporary.replace(self.checkpoint)

    def one_step(self) -> float:
        """Train on one batch and return its loss in nats; a step with a gradient that is not finite is skipped."""
        plan = self.plan
        dimension, count = plan.shape(self.step)
        generator = torch.Generator().manual_seed(plan.seed * 1_000_003 + self.step)
        problems = self.family.sample(plan.batch, dimension, generator)
        tokens = duplicate_components(problems.prior, count)
        tokens = type(tokens)(*(part.to(self.device) for part in tokens))
        observations = problems.observations.to(device=self.device)
        loss = self.losses[dimension, count](
            tokens, observations, problems.source.to(self.device), problems.state.to(self.device)
        )
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        if torch.isfinite(size):
            self.optimiser.step()
        else:
            self.skipped += 1
        self.step += 1
        return float(loss.detach())

    def run(self, report: Progress, every: int = 200, save_every: int = 500) -> DistributionTransformer:
        """Run to the end of the plan, and return the trained network.

        Args:
            report: called with the step, the time in seconds, the skipped steps and the mean loss per dimension.
            every: steps between reports.
            save_every: steps between checkpoints.
        """
        sums: dict[int, list[float]] = {d: [] for d in self.plan.dimensions}
        clock = time.perf_counter()
        while self.step < self.plan.steps:
            dimension, _ = self.plan.shape(self.step)
            sums[dimension].append(self.one_step())
            if self.step % every == 0 or self.step == self.plan.steps:
                now = time.perf_counter()
                self.seconds += now - clock
                clock = now
                losses = {f"loss_{d}": sum(v) / len(v) for d, v in sums.items() if v}
                sums = {d: [] for d in self.plan.dimensions}
                report({"step": self.step, "seconds": self.seconds, "skipped": self.skipped, **losses})
            if self.step % save_every == 0:
                self.save()
        self.save()
        return self.network
