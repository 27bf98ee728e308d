"""Training of a likelihood from a simulator; it can be resumed, and follows from the seed.

Each step draws parameters and context from the problem's `ranges`, simulates data, and lowers the mean of
−log q(data | parameters, context). Its least value is reached where q is the simulator's own law.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.laws import law_of
from beliefstream.inference.likelihood.learned.network import LearnedLikelihood, Shape
from beliefstream.inference.likelihood.learned.reports import Names
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.training.run import Run, Schedule

PILOT = 16_384  # simulations that decide the laws of the data


@dataclass(frozen=True)
class Plan(Schedule):
    """All settings of a run."""

    problem: str  # module:Name
    learning_rate: float = field(default=0.02, kw_only=True)
    batch: int = 1_024  # simulations a step
    width: int = 48
    layers: int = 2


class Training(Run[Plan]):
    """A run of a plan, which goes on from its checkpoint if there is one.

    Raises:
        ProblemError: the problem names no ranges, or its simulator fails.
        ValueError: the checkpoint is of another plan.
    """

    def __init__(self, plan: Plan, function: ProblemFunction, checkpoint: Path, device: str = "cpu") -> None:
        self.plan, self.function = plan, function
        self.trained_on = TrainingRange.of(function)
        self.likelihood = self._initial()
        super().__init__(plan, self.likelihood, checkpoint, device)
        self.resume()

    def _initial(self) -> LearnedLikelihood:
        """Likelihood with random weights, and with laws that fit simulated data."""
        coordinates, numbers = simulated(self.function, self.trained_on, PILOT, self.generator(-1))
        context = numbers[:, self.function.data_length :]
        # they tell a simulator from another
        self._means = [f"{mean:.6g}" for mean in numbers.mean(0).tolist()]
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

    def facts(self) -> list[Any]:
        """Return the laws of the data, the range, and the means of the first simulations."""
        ends = [self.trained_on.low.tolist(), self.trained_on.high.tolist()]
        return [self.likelihood.describe()["laws"], ends, self._means]

    def batch_loss(self, generator: torch.Generator) -> Tensor:
        """Return the mean of −log q of simulated data; raises ProblemError if the simulator fails."""
        coordinates, numbers = simulated(self.function, self.trained_on, self.plan.batch, generator)
        self._data = self._rows(numbers).to(self.device)
        loss: Tensor = -self.likelihood(coordinates.to(self.device), numbers.to(self.device)).mean()
        return loss

    def after_step(self) -> None:
        """Widen the range of the data."""
        self.likelihood.widen(self._data)


def simulated(
    function: ProblemFunction, trained_on: TrainingRange, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw coordinates ``(count, n)`` from the range, and numbers ``(count, Q)`` of observations there, on the CPU.

    Raises ProblemError if the simulator fails.
    """
    known = trained_on.draw(count, generator)
    coordinates, context = known.tensor_split([len(function.parameters)], -1)
    data = function.simulate(coordinates, context, generator)
    return coordinates, torch.cat([data, context], -1)
