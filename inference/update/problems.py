"""Problems of the update: a batch of priors and observations, with the quantities that all methods share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.update.closed.scaled_problem import Posed, Scaled, pose
from beliefstream.inference.update.result import Answer
from beliefstream.inference.update.settings import UpdateSettings

Solve = Callable[[GaussianMixture, Observations], Answer]


@dataclass(frozen=True)
class Problems:
    """``B`` priors over ``D`` coordinates, with the observations of each.

    Attributes:
        posed: the priors, their components in order, with observations in coordinates of about unit spread.
        observations: ``(B, N)``, in the state's own coordinates.
        settings: accuracy against cost.
        solve: answers problems of fewer observations or hypotheses, into which a method divides these.
    """

    posed: Posed
    observations: Observations
    settings: UpdateSettings
    solve: Solve

    @classmethod
    def of(
        cls, prior: GaussianMixture, observations: Observations, settings: UpdateSettings, solve: Solve
    ) -> Problems:
        return cls(pose(prior, observations, settings.linear_below), observations, settings, solve)

    @property
    def prior(self) -> GaussianMixture:
        """The priors ``(B, K, D)`` over all coordinates, their components in falling order of weight."""
        return self.posed.prior

    @property
    def scaled(self) -> Scaled:
        """The problems in coordinates of about unit spread, linearised."""
        return self.posed.scaled

    @property
    def touched(self) -> Tensor:
        """Coordinates that each entity's sensors touch, ``(B, D)`` bool."""
        return self.posed.touched

    @cached_property
    def touched_count(self) -> Tensor:
        """How many coordinates each entity's sensors touch, ``(B,)``."""
        return self.touched.sum(1)

    @cached_property
    def pattern(self) -> Tensor:
        """A code for each entity's touched coordinates, ``(B,)``."""
        return (self.touched * (1 << torch.arange(self.prior.dimension))).sum(1)

    @cached_property
    def p_value(self) -> Tensor:
        """P-value of each entity's observations under the linearised prediction, ``(B,)``."""
        own, predicted = self.posed.pose.own, self.posed.pose.predicted
        prior = GaussianMixture(*map(torch.from_numpy, own))
        return Prediction(*map(torch.from_numpy, predicted)).p_value(prior)

    def axes_of(self, row: Tensor) -> list[int]:
        """The coordinates that the sensors of one entity touch."""
        return torch.nonzero(self.touched[row])[:, 0].tolist()


def groups(index: Tensor, code: Tensor) -> Iterator[Tensor]:
    """Split the places `index` into parts of one `code` each; `code` is that of the whole batch, ``(B,)``."""
    for each in sorted(set(code[index].tolist())):
        yield index[code[index] == each]
