"""Which method answers: the methods of the update in order of their cost, and the place that decides.

A method has two functions. `can` says which of a batch of problems it may take, and `answer` answers those that no
cheaper method has answered. Where an answer turns out to lose too much, its loss is infinite, and the next method takes
the problem. The last one answers everything, and its answers are checked.

Compiled steps of plain sensors (`tracking.closed_steps`) take the first, second and fourth of these methods in the same
order, by the same compiled functions; what they leave comes here.

| method | what it takes | what it may lose |
|---|---|---|
| Kalman | linear sensors without outliers | nothing but by reduction, which is measured |
| linearised | observations that are nearly linear over every component | a bound, by their curvature |
| errors that last | nonlinear sensors with hidden errors | that of the method for the state, and what is regressed |
| around a sensor | one range or bearing in the plane | KL at the nodes, measured |
| Gauss-Hermite | one to three coordinates, observations weak beside the prior | KL at the nodes, measured |
| cells | several observations in the plane | KL over the cells, measured |
| linearised last | as above in the plane, where possible outliers disagree | the bound |
| hypotheses | outliers and noise of several parts in the plane | the weighted sum of what each lost |
| network | everything else, and answers in two steps | KL by importance sampling, checked and refined |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update import quadrature
from beliefstream.inference.update.amortised import Amortised
from beliefstream.inference.update.closed import kalman, linearised
from beliefstream.inference.update.persistent import several_observations as errors
from beliefstream.inference.update.plane import hypotheses, several_observations, single_observation
from beliefstream.inference.update.problems import Problems
from beliefstream.inference.update.result import Answer, joined
from beliefstream.inference.update.settings import UpdateSettings


class UpdateMethod(NamedTuple):
    """A method of the update."""

    name: str
    can: Callable[[Problems], Tensor]  # which problems it may take, (B,) bool
    answer: Callable[[Problems, Tensor], Answer]  # to the problems at an index (b,); lost is infinite: none


class Router:
    """Sends every problem of a batch to the cheapest method that answers it well enough."""

    def __init__(self, network: Amortised, settings: UpdateSettings) -> None:
        self.settings = settings
        self.methods: tuple[UpdateMethod, ...] = (
            UpdateMethod("Kalman", kalman.can, kalman.answer),
            UpdateMethod("linearised", linearised.can_plainly, linearised.answer),
            UpdateMethod("errors that last", errors.can, errors.answer),
            UpdateMethod("around a sensor", single_observation.can, single_observation.answer),
            UpdateMethod("Gauss-Hermite", quadrature.can, quadrature.answer),
            UpdateMethod("cells", several_observations.can, several_observations.answer),
            UpdateMethod("linearised last", linearised.can, linearised.answer),
            UpdateMethod("hypotheses", hypotheses.can, hypotheses.answer),
            UpdateMethod("network", network.can, network.answer),
        )

    def answer(self, prior: GaussianMixture, observations: Observations) -> Answer:
        """Posterior of every entity, from `prior` ``(B, K, D)`` and `observations` over the same coordinates."""
        problems = Problems.of(prior, observations, self.settings, self.answer)
        left, parts = torch.ones(prior.batch, dtype=torch.bool), list[tuple[Tensor, Answer]]()
        for method in self.methods:
            index = torch.nonzero(left & method.can(problems))[:, 0]
            if len(index) == 0:
                continue
            found = method.answer(problems, index)
            answered = (found.lost < torch.inf) | found.lost.isnan()
            if method is self.methods[-1] or bool(answered.all()):
                parts.append((index, found))
                left[index] = False
            elif len(some := torch.nonzero(answered)[:, 0]):
                parts.append((index[some], found.rows(some)))
                left[index[some]] = False
            if not bool(left.any()):
                break
        return joined(parts).with_p_value(problems.p_value)
