"""Settings that trade accuracy against cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WEAK = 1.0  # nats gained, below which observations leave a belief wide: they shrink its volume to a third at most
ENOUGH = 0.995  # sample efficiency that is asked of an answer to them
MOST_TOGETHER = 128  # largest number of observations in one update
# Below this p-value, observations may be outliers: an answer is compared with a scan of the prior, and light hypotheses
# are kept. Set on hard problems, of the seeds that docs/adversarial.md names.
UNLIKELY = 0.05


@dataclass(frozen=True)
class UpdateSettings:
    """Settings that trade accuracy against cost.

    Attributes:
        components: number of components of a posterior, and of tokens in the network.
        growth: factor on `components` where the check asks for more.
        merge_below: nats; two components are merged if that loses less.
        points: number of points drawn to check each answer.
        refine_below: an answer with a smaller sample efficiency is refined; 0 never refines.
        refine_rounds, refine_steps, refine_points: size of the refinement: number of draws, steps of
            expectation-maximisation on each, points per draw.
        repeat_below: a refined answer with a smaller sample efficiency is refined again, with each of
            `repeat_points` in turn.
        search_above: nonlinearity of the observations over the prior, in standard deviations of their noise
            (`updater.bend`), above which modes are always searched for. Above a hundredth of it, one pass must
            score better to be trusted. Infinite never searches.
        linear_below: nats; linearise where that loses less (`nearly_linear.divergence`); 0 never.
        quadrature_below: nats; use exact moments by quadrature where they lose less (`quadrature`); 0 never.
        bend_below: nats; split components before a nonlinear motion where moving them whole loses more
            (`tracking.prediction`); 0 never.
        prior_share: weight, in every answer of the network, of one Gaussian as wide as the prior. It limits the cost of
            a part of the posterior where no point of the check fell.
    """

    components: int = 8
    growth: int = 2
    merge_below: float = 0.002
    points: int = 96
    refine_below: float = 0.95
    refine_rounds: int = 2
    refine_steps: int = 2
    refine_points: int = 1024
    repeat_below: float = 0.9
    repeat_points: tuple[int, ...] = (2048, 4096, 8192)
    search_above: float = 300.0
    linear_below: float = 0.002
    quadrature_below: float = 0.005
    bend_below: float = 0.004
    prior_share: float = 0.0003

    def least_efficiency(self, gained: Tensor) -> Tensor:
        """Sample efficiency ``(B,)`` below which an answer is refined; more is asked where little is gained.

        A belief that weak observations leave wide has many updates to come. What its tails lack then stays lacking, and
        costs more as the rest gets narrower. `gained` ``(B,)`` is in nats.
        """
        below = self.refine_below
        return torch.where(gained < WEAK, max(below, ENOUGH) if below else 0.0, below).double()

    @property
    def most_components(self) -> int:
        """The largest number of components of any posterior."""
        return self.components * self.growth


FAST = UpdateSettings(refine_below=0.0, search_above=math.inf)
"""Checked, but never searched or refined."""
