"""Training of the equivariant network, the same on CPU and CUDA; see `run`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import component_log_density
from beliefstream.inference.network import weights
from beliefstream.inference.network.transformer import (
    Configuration,
    DistributionTransformer,
    Tokens,
    duplicate_components,
)
from beliefstream.inference.training.families import FAMILIES, Family
from beliefstream.inference.training.run import Run, Schedule

WORST = 30.0  # nats; largest loss of one problem, to limit its influence on a batch


@dataclass(frozen=True)
class Plan(Schedule):
    """All settings of a run."""

    LAST = 0.02

    family: str = "mixed"
    dimensions: tuple[int, ...] = (2, 1, 2, 3, 2, 4)  # of successive batches, repeated
    steps: int = field(default=18_000, kw_only=True)
    batch: int = 512
    tokens: tuple[int, ...] = (8,)  # number in the answer; changes after each cycle of the dimensions
    learning_rate: float = field(default=2e-3, kw_only=True)
    warm_up: int = field(default=300, kw_only=True)  # steps
    weight_decay: float = 1e-4
    seed: int = field(default=0, kw_only=True)
    initial: str = "random"  # initial weights: a name or a file
    configuration: Configuration = field(default_factory=Configuration)

    def shape(self, step: int) -> tuple[int, int]:
        """Return dimension and number of tokens of the problems of a step."""
        cycle, index = divmod(step, len(self.dimensions))
        return self.dimensions[index], self.tokens[cycle % len(self.tokens)]


class Training(Run[Plan]):
    """A run of a plan, which goes on from its checkpoint if there is one.

    Attributes:
        skipped: number of steps whose gradient was not finite.

    Raises:
        ValueError: the checkpoint is of another plan, or the initial weights have another configuration.
    """

    KEPT = (*Run.KEPT, "skipped")

    def __init__(
        self, plan: Plan, checkpoint: Path, device: str = "cpu", compile_network: bool = True
    ) -> None:
        self.family: Family = FAMILIES[plan.family]()
        torch.manual_seed(plan.seed)
        self.network = self._initial(plan)
        self.skipped = 0
        self._losses: dict[int, list[float]] = {}  # since the last report, by dimension
        super().__init__(plan, self.network, checkpoint, device)
        self.resume()
        # one compiled function per shape, so that shapes are static and no function evicts another from the cache
        shapes = itertools.product(sorted(set(plan.dimensions)), sorted(set(plan.tokens)))
        self.losses = {shape: self._loss_function(compile_network) for shape in shapes}

    @staticmethod
    def _initial(plan: Plan) -> DistributionTransformer:
        if plan.initial == "random":
            return DistributionTransformer(plan.configuration)
        network = weights.load(plan.initial)
        if network.configuration != plan.configuration:
            raise ValueError(
                f"initial: expected {plan.configuration}, got {plan.initial} with {network.configuration}"
            )
        return network.train()

    def _loss_function(self, compile_network: bool) -> Callable[..., Tensor]:
        def loss(*arguments: Any) -> Tensor:
            return component_consistent_loss(self.network, *arguments)

        return torch.compile(loss, dynamic=False) if compile_network else loss

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Return AdamW."""
        rate, decay = self.plan.learning_rate, self.plan.weight_decay
        return torch.optim.AdamW(self.network.parameters(), rate, weight_decay=decay, betas=(0.9, 0.98))

    def batch_loss(self, generator: torch.Generator) -> Tensor:
        """Return the mean loss of a batch of problems."""
        dimension, count = self.plan.shape(self.step)
        problems = self.family.sample(self.plan.batch, dimension, generator)
        tokens = duplicate_components(problems.prior, count)
        tokens = type(tokens)(*(part.to(self.device) for part in tokens))
        observations = problems.observations.to(device=self.device)
        return self.losses[dimension, count](
            tokens, observations, problems.source.to(self.device), problems.state.to(self.device)
        )

    def accepts(self, loss: float, gradient: float) -> bool:
        """Whether the gradient is finite; other steps are skipped."""
        self._losses.setdefault(self.plan.shape(self.step)[0], []).append(loss)
        self.skipped += not math.isfinite(gradient)
        return math.isfinite(gradient)

    def state(self) -> dict[str, float]:
        """Return the skipped steps, and the mean loss of each dimension since the last report."""
        losses = {f"loss_{dimension}": sum(each) / len(each) for dimension, each in self._losses.items()}
        self._losses.clear()
        return {"skipped": self.skipped, **losses}


def component_consistent_loss(
    network: DistributionTransformer,
    tokens: Tokens,
    observations: Observations,
    source: Tensor,
    state: Tensor,
) -> Tensor:
    """Return the mean over a batch of the negative log density of the true state, within its prior component.

    That is the mean of ``−log Σ_{j: source(j)=k} w_j N(x; m_j, S_j)`` over states x drawn from prior component k. Up to
    a constant it is the expected KL divergence of the joint posterior over (component, state) from the answer. Whittle
    et al., arXiv 2502.02463, section 3, has the marginal form. With the joint form, token j stays a refinement of
    component source(j), so the conditional distribution of coordinates that no sensor observes remains exact.

    Args:
        network: whose loss it is.
        tokens: of the priors.
        observations: of the states.
        source: component that each state was drawn from, ``(B,)``.
        state: true states, ``(B, d)``.
    """
    estimate = network(tokens, observations)
    logs = (
        component_log_density(state[:, None], estimate.means, estimate.factors)[..., 0] + estimate.log_weights
    )
    own = logs.masked_fill(tokens.source != source[:, None], -1e9)
    return (-torch.logsumexp(own, 1)).clamp(max=WORST).mean()
