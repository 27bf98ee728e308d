"""Training of a likelihood from a simulator; it can be resumed, and follows from the seed.

Each step draws parameters and context from the problem's `ranges`, simulates data, and lowers the mean of
−log q(data | parameters, context). Its least value is reached where q is the simulator's own law.
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

from beliefstream.inference.likelihood.learned.laws import law_of
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood, Names, Shape
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ProblemError

Progress = Callable[[dict[str, float]], None]
PILOT = 16_384  # simulations that decide the laws of the data
SMOOTHING = 0.98  # of the loss
GROWN = 5.0  # nats above its least value: the training has diverged
GOOD = 0.5  # nats above its least value: a checkpoint is still written


class Diverged(RuntimeError):
    """The loss is not finite, or has grown; the checkpoint is from before."""


@dataclass(frozen=True)
class Plan:
    """All settings of a run."""

    problem: str  # module:Name
    steps: int = 4_000
    batch: int = 1_024  # simulations a step
    learning_rate: float = 0.02
    warm_up: int = 100  # steps
    seed: int = 0
    width: int = 48
    layers: int = 2

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: a linear warm-up, then a cosine to zero."""
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up) * cosine


class Training:
    """A run of a plan, which goes on from its checkpoint if there is one.

    Raises:
        ProblemError: the problem names no ranges, or its simulator fails.
        ValueError: the checkpoint is of another plan.
    """

    def __init__(self, plan: Plan, function: ProblemFunction, checkpoint: Path, device: str = "cpu") -> None:
        self.plan, self.function, self.checkpoint = plan, function, checkpoint
        self.device = torch.device(device)
        self.trained_on = TrainingRange.of(function)
        self.likelihood = self._initial().to(self.device)
        self.optimiser = torch.optim.Adam(self.likelihood.parameters(), plan.learning_rate, betas=(0.9, 0.99))
        self.step, self.seconds = 0, 0.0
        self.loss = self.least = math.inf  # smoothed, and its least value
        if checkpoint.exists():
            self._load()

    def _initial(self) -> LearnedLikelihood:
        """Likelihood with random weights, and with laws that fit simulated data."""
        coordinates, numbers = self.simulated(PILOT, self.generator(-1))
        context = numbers[:, self.function.data_length :]
        self._means = [
            f"{mean:.6g}" for mean in numbers.mean(0).tolist()
        ]  # they tell a simulator from another
        data = self._rows(numbers)
        laws = [law_of(data[:, i], domain) for i, (_, domain) in enumerate(self.function.data)]
        features = None
        if self.function.has_features:
            found = self.function.features(coordinates, context)
            features = (self.function.features, TrainingRange(found.amin(0), found.amax(0)))
        names = Names.of(self.function, self.plan.problem)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            shape = Shape(self.plan.width, self.plan.layers)
            return LearnedLikelihood(names, laws, self.trained_on, shape, features)

    def _rows(self, numbers: Tensor) -> Tensor:
        """Data ``(M L, m)`` of observations `numbers` ``(M, Q)``."""
        return numbers[:, : self.function.data_length].reshape(-1, len(self.function.data))

    def generator(self, step: int) -> torch.Generator:
        """Return the source of chance of a step."""
        return torch.Generator().manual_seed((self.plan.seed * 1_000_003 + step) % 2**63)

    def simulated(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw coordinates ``(count, n)``, and numbers ``(count, Q)`` of observations, on the CPU.

        Raises ProblemError if the simulator fails.
        """
        return simulated(self.function, self.trained_on, count, generator)

    def _load(self) -> None:
        saved = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if saved["plan"] != self._described():
            raise ValueError(
                f"checkpoint {self.checkpoint}: it is of another plan, or of another simulator; delete it to begin "
                f"anew: {saved['plan']}"
            )
        self.likelihood.load_state_dict(saved["likelihood"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.loss, self.least = saved["loss"], saved["least"]

    def _described(self) -> str:
        """The plan, the laws of the data, the range, and the means of the first simulations, as text."""
        ends = [self.trained_on.low.tolist(), self.trained_on.high.tolist()]
        return json.dumps([asdict(self.plan), self.likelihood.describe()["laws"], ends, self._means])

    def save(self) -> None:
        """Write the checkpoint; a reader sees the old one or the new one."""
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".partial")
        state = {
            "plan": self._described(),
            "likelihood": self.likelihood.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "loss": self.loss,
            "least": self.least,
        }
        torch.save(state, temporary)
        temporary.replace(self.checkpoint)

    def one_step(self) -> float:
        """Train on one batch, and return its loss in nats.

        Raises:
            Diverged: the loss or its gradient is not finite, or the loss has grown.
            ProblemError: the simulator fails.
        """
        plan = self.plan
        try:
            coordinates, numbers = self.simulated(plan.batch, self.generator(self.step))
        except ProblemError as error:
            raise ProblemError(f"step {self.step}: {error}") from error
        data = self._rows(numbers).to(self.device)
        loss: Tensor = -self.likelihood(coordinates.to(self.device), numbers.to(self.device)).mean()
        for group in self.optimiser.param_groups:
            group["lr"] = plan.rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        size = torch.nn.utils.clip_grad_norm_(self.likelihood.parameters(), 1.0)
        self._check(float(loss.detach()), float(size))
        self.optimiser.step()
        with torch.no_grad():
            self.likelihood.lowest.copy_(torch.minimum(self.likelihood.lowest, data.amin(0)))
            self.likelihood.highest.copy_(torch.maximum(self.likelihood.highest, data.amax(0)))
        self.step += 1
        return float(loss.detach())

    def _check(self, loss: float, gradient: float) -> None:
        """Follow the smoothed loss; raises Diverged."""
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

    def run(self, report: Progress, every: int = 20, save_every: int = 500) -> LearnedLikelihood:
        """Run to the end of the plan, and return the likelihood.

        Args:
            report: called with the step, the time in seconds, and the smoothed loss in nats.
            every: steps between reports.
            save_every: steps between checkpoints.
        """
        clock = time.perf_counter()
        while self.step < self.plan.steps:
            self.one_step()
            if self.step % every == 0 or self.step == self.plan.steps:
                now = time.perf_counter()
                self.seconds, clock = self.seconds + now - clock, now
                report({"step": self.step, "seconds": self.seconds, "loss": self.loss})
            if self.step % save_every == 0 and self.loss <= self.least + GOOD:
                self.save()
        self.save()
        return self.likelihood


def simulated(
    function: ProblemFunction, trained_on: TrainingRange, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw coordinates ``(count, n)`` from the range, and numbers ``(count, Q)`` of observations there."""
    known = trained_on.draw(count, generator)
    coordinates, context = known.tensor_split([len(function.parameters)], -1)
    data = function.simulate(coordinates, context, generator)
    return coordinates, torch.cat([data, context], -1)
