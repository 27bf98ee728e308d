"""Training of the published form of a problem; it can be resumed, and follows from the seed.

Each step draws priors, parameters of these priors, context, and data by the simulator. The published loss is −log q at
the true parameter. Where the likelihood can be called, ours is the mean of −log q over weighted posterior points. It
has the same minimum, and less noise. A parametric prior adds −log of its reconstruction at points of the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.learned.laws import law_of
from beliefstream.inference.likelihood.learned.reports import Names
from beliefstream.inference.likelihood.learned.training_range import TrainingRange
from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.likelihood.problems import ONE, ProblemError
from beliefstream.inference.published.check import weighed
from beliefstream.inference.published.network import MOST_PARAMETERS, PublishedForm, Shape, Whitened
from beliefstream.inference.published.priors import Families, Priors, drawn_mixtures
from beliefstream.inference.training.run import Run, Schedule

PILOT = 4_096  # simulations that decide the laws of the data
POINTS = 64  # weighted posterior points of a loss
ENOUGH = 8.0  # effective points below which the true parameter takes their place
DRAWS = 16  # points of a parametric prior for its reconstruction
FAR = 30.0  # nats of a loss beyond which it grows as a logarithm
HELD_OUT = -7_000  # step whose generator draws problems of the card


@dataclass(frozen=True)
class Plan(Schedule):
    """All settings of a run."""

    problem: str  # module:Name
    steps: int = field(default=6_000, kw_only=True)
    batch: int = 128  # problems of at most eight components
    tokens: tuple[int, ...] = (8, 4, 8, 16)  # components of successive batches
    width: int = 48
    layers: int = 3
    heads: int = 4
    hidden: int = 128

    def count(self, step: int) -> int:
        """Return the number of components of a step."""
        return self.tokens[step % len(self.tokens)]

    def problems(self, count: int) -> int:
        """Return the problems of a batch with `count` components: fewer if there are more than eight."""
        return max(1, self.batch * 8 // max(count, 8))


class Problems(NamedTuple):
    """Priors, numbers of observations ``(B, Q)``, and true coordinates ``(B, n)``."""

    priors: Priors
    numbers: Tensor
    truth: Tensor


class Training(Run[Plan]):
    """A run of a plan, which goes on from its checkpoint if there is one.

    Raises:
        ProblemError: the problem names no ranges, its priors cannot be read, or its simulator fails.
        ValueError: the checkpoint is of another plan.
    """

    def __init__(self, plan: Plan, function: ProblemFunction, checkpoint: Path) -> None:
        self.plan, self.function = plan, function
        if len(function.parameters) > MOST_PARAMETERS:
            raise ProblemError(
                f"parameters: the published form of {function.name} takes {MOST_PARAMETERS} at most, "
                f"got {len(function.parameters)}"
            )
        self.trained_on, self.families = TrainingRange.of(function), Families.of(function)
        self.form = self._initial()
        super().__init__(plan, self.form, checkpoint)
        self.resume()

    def _initial(self) -> PublishedForm:
        pilot = self.problems(PILOT, 4, self.generator(-1), whole=True)
        data = pilot.numbers[:, : self.function.data_length].reshape(-1, len(self.function.data))
        # they tell a simulator from another
        self._means = [f"{mean:.6g}" for mean in pilot.numbers.mean(0).tolist()]
        laws = [law_of(data[:, i], domain) for i, (_, domain) in enumerate(self.function.data)]
        shape = Shape(self.plan.width, self.plan.layers, self.plan.heads, self.plan.hidden)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.plan.seed)
            names = Names.of(self.function, self.plan.problem)
            return PublishedForm(names, laws, self.trained_on, shape, self.families)

    def facts(self) -> list[Any]:
        """Return the form of the problem, and the means of the first simulations."""
        return [self.form.describe(), self._means]

    def problems(
        self, count: int, components: int, generator: torch.Generator, whole: bool = False
    ) -> Problems:
        """Draw problems whose priors have at most so many components; with `whole`, reports have all rows.

        Raises ProblemError if the simulator fails.
        """
        size = len(self.function.parameters)
        if self.families is not None:
            numbers = self.families.draw_numbers(count, generator)
            priors = Priors.parametric(self.families, numbers)
        else:
            ends = self.trained_on.low[:size], self.trained_on.high[:size]
            priors = Priors(drawn_mixtures(*ends, count, components, generator))
        truth = priors.sample(1, generator)[:, 0]
        context = self.trained_on.draw(count, generator)[:, size:]
        data = self.function.simulate(truth, context, generator)
        if self.function.rows != ONE and not whole:
            most, width = self.function.rows.most, len(self.function.data)
            length = torch.randint(1, most + 1, (count, 1), generator=generator)
            lacking = torch.arange(most).repeat_interleave(width) >= length
            data = data.masked_fill(lacking, math.nan)
        return Problems(priors, torch.cat([data, context], -1), truth)

    def batch_loss(self, generator: torch.Generator) -> Tensor:
        """Return the mean of −log q of the whitened parameters; raises ProblemError if the simulator fails."""
        count = self.plan.count(self.step)
        drawn = self.problems(self.plan.problems(count), count, generator)
        self._data = drawn.numbers[:, : self.function.data_length].reshape(-1, len(self.function.data))
        whitened = self.form.whiten(drawn.priors, drawn.numbers, count)
        loss = self._loss(drawn, whitened)
        if self.families is not None:
            points = _in_frame(whitened, drawn.priors.sample(DRAWS, generator)).float()
            loss = loss + _capped(-self.form.reconstruction(whitened).log_density(points)).mean()
        return loss

    def _loss(self, drawn: Problems, whitened: Whitened) -> Tensor:
        answer = self.form(whitened)
        points, shares = drawn.truth[:, None], torch.ones(len(drawn.truth), 1, dtype=torch.float64)
        if self.function.has_likelihood:
            proposed = answer.over_the_coordinates(whitened)
            weighted = weighed(drawn.priors, self.function, drawn.numbers, proposed, POINTS, self.step)
            share = torch.softmax(weighted.target - weighted.proposal, 1).nan_to_num(nan=0.0)
            few = (share.square().sum(1) * ENOUGH >= 1) | (share.sum(1) < 0.5)
            share = torch.where(few[:, None], 0.0, share)
            points = torch.cat([points, weighted.points], 1)
            shares = torch.cat([few[:, None].double(), share], 1)
        losses = -answer.log_density(_in_frame(whitened, points).float())
        return (shares.float() * _capped(losses)).sum(1).mean()

    def after_step(self) -> None:
        """Widen the range of the data."""
        self.form.widen(self._data)


def _in_frame(whitened: Whitened, points: Tensor) -> Tensor:
    """Whiten points ``(B, P, n)``."""
    offset = (points - whitened.centre[:, None]).mT
    white: Tensor = torch.linalg.solve_triangular(whitened.frame, offset, upper=False)
    return white.mT


def _capped(loss: Tensor) -> Tensor:
    """The loss, beyond `FAR` as a logarithm: a parameter far outside an answer does not decide the whole batch."""
    return torch.where(loss < FAR, loss, FAR + torch.log1p((loss - FAR).clamp_min(0)))
