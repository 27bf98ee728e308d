"""A training that can be stopped: every batch follows from the seed and the step, and the checkpoint has the rest."""

from __future__ import annotations

import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sized
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from beliefstream.inference.likelihood.problems import ProblemError

Report = Callable[[dict[str, float]], None]
SMOOTHING = 0.98  # of the loss
GROWN = 5.0  # nats above its least value: the training has diverged
GOOD = 0.5  # nats above its least value: a checkpoint is still written


class Diverged(RuntimeError):
    """The loss is not finite, or has grown; the checkpoint is from before."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps of a run and their learning rates; the last rate is `LAST` of the highest."""

    LAST: ClassVar[float] = 0.0

    steps: int = 4_000
    learning_rate: float = 2e-3
    warm_up: int = 100  # steps
    seed: int = 0

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then a cosine."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        share = self.LAST + (1 - self.LAST) * cosine
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * share


Plan = TypeVar("Plan", bound=Schedule)


class Run(ABC, Generic[Plan]):
    """A run of a plan, which goes on from its checkpoint if there is one.

    A subclass says the loss of a batch. It calls `resume` when it is made.

    Attributes:
        step: number of batches so far.
        seconds: time spent so far, by `clock`.
        loss, least: smoothed loss, and its least value.
    """

    clock = staticmethod(time.perf_counter)
    KEPT: ClassVar[tuple[str, ...]] = ("step", "seconds", "loss", "least")  # attributes in the checkpoint

    def __init__(self, plan: Plan, network: nn.Module, checkpoint: Path, device: str = "cpu") -> None:
        self.plan, self.checkpoint, self.device = plan, checkpoint, torch.device(device)
        self.module = network.to(self.device)
        self.optimiser = self.make_optimiser()
        self.step, self.seconds = 0, 0.0
        self.loss = self.least = math.inf

    @abstractmethod
    def batch_loss(self, generator: torch.Generator) -> Tensor:
        """Return the loss of the next batch in nats, which follows from `generator`."""

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Return the optimiser of the module's parameters."""
        return torch.optim.Adam(self.module.parameters(), self.plan.learning_rate, betas=(0.9, 0.99))

    def facts(self) -> list[Any]:
        """Return what a checkpoint must agree with beside the plan, of JSON's types."""
        return []

    def after_step(self) -> None:
        """Do what follows a step of the optimiser."""

    def generator(self, step: int) -> torch.Generator:
        """Return the source of chance of a step."""
        return torch.Generator().manual_seed((self.plan.seed * 1_000_003 + step) % 2**63)

    def _described(self) -> str:
        return json.dumps([asdict(self.plan), *self.facts()])

    def resume(self) -> None:
        """Go on from the checkpoint; raises ValueError if it is of another plan."""
        if not self.checkpoint.exists():
            return
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if saved["plan"] != self._described() or "network" not in saved:
            raise ValueError(
                f"checkpoint {self.checkpoint}: it is of another plan, or of another simulator; delete it to begin "
                f"anew: {saved['plan']}"
            )
        self.module.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        for name in self.KEPT:
            setattr(self, name, saved[name])

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".partial")
        state = {
            "plan": self._described(),
            "network": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            **{name: getattr(self, name) for name in self.KEPT},
        }
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def one_step(self) -> float:
        """Train on one batch, and return its loss in nats.

        Raises:
            Diverged: the loss or its gradient is not finite, or the loss has grown.
            ProblemError: the simulator fails; the message says in which step.
        """
        try:
            loss = self.batch_loss(self.generator(self.step))
        except ProblemError as error:
            raise ProblemError(f"step {self.step}: {error}") from error
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        if self.accepts(float(loss.detach()), float(size)):
            self.optimiser.step()
        self.after_step()
        self.step += 1
        return float(loss.detach())

    def accepts(self, loss: float, gradient: float) -> bool:
        """Whether to take a step of that loss and that length of the gradient; follows the smoothed loss.

        Raises Diverged.
        """
        kept = (
            f"{self.checkpoint} is from before" if self.checkpoint.exists() else "no checkpoint was written"
        )
        if not (math.isfinite(loss) and math.isfinite(gradient)):
            raise Diverged(f"step {self.step}: loss {loss:g}, gradient {gradient:g}: not finite; {kept}")
        self.loss = loss if self.loss == math.inf else SMOOTHING * self.loss + (1 - SMOOTHING) * loss
        self.least = min(self.least, self.loss)
        if self.loss > self.least + GROWN:
            raise Diverged(
                f"step {self.step}: the loss has grown from {self.least:.3f} to {self.loss:.3f} nats; {kept}"
            )
        return True

    def state(self) -> dict[str, float]:
        """Return what a report says beside the step and the time in seconds: losses in nats."""
        return {"loss": self.loss}

    def run(
        self,
        report: Report,
        every: int = 20,
        save_every: int = 500,
        stop_after: float = math.inf,
        stopped: Sized = (),
    ) -> bool:
        """Run to the end of the plan, or for `stop_after` seconds; return whether the plan is complete.

        Args:
            report: called with the step, the time in seconds, and the `state`.
            every: steps between reports.
            save_every: steps between checkpoints.
            stop_after: in seconds of the wall; the next run goes on from there.
            stopped: ends the run before the next step, once something is in it.
        """
        deadline, clock = time.perf_counter() + stop_after, self.clock()
        while self.step < self.plan.steps and time.perf_counter() < deadline and not len(stopped):
            self.one_step()
            now = self.clock()
            self.seconds, clock = self.seconds + now - clock, now
            if self.step % every == 0 or self.step == self.plan.steps:
                report({"step": self.step, "seconds": self.seconds, **self.state()})
            if self.step % save_every == 0 and self.loss <= self.least + GOOD:
                self.save()
        self.save()
        return self.step == self.plan.steps
