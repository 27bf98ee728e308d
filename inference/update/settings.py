"""Settings that trade accuracy against cost."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

WEAK = 1.0  # nats gained, below which observations leave a belief wide: they shrink its volume to a third at most
ENOUGH = 0.995  # sample efficiency that is asked of an answer to them
PLANE, MOST_TOUCHED = 2, 3  # coordinates of the plane; the most that quadrature is for
MOST_TOGETHER = 128  # largest number of observations in one update
# Below this p-value, observations may be outliers: modes are looked for, and light hypotheses are kept.
# Set on hard problems, of the seeds that docs/adversarial.md names.
UNLIKELY = 0.05


@dataclass(frozen=True)
class UpdateSettings:
    """Settings that trade accuracy against cost.

    Attributes:
        components: number of components of a posterior, and of tokens in the network.
        growth: factor on `components` where the check asks for more.
        merge_below: nats; two components are merged if that loses less.
        points: number of points drawn to check each answer.
        refine_below: an answer of the network is refined, and again while its sample efficiency is smaller; 0 never
            refines.
        refine_rounds, refine_steps, refine_points: size of the first refinement: number of draws, steps of
            expectation-maximisation on each, points per draw.
        repeat_points: points per draw of further ones.
        repeat_below: modes are searched for where the sample efficiency is still smaller.
        search: whether to search for modes, where possible outliers contradict the prior or an answer stays poor.
        linear_below: nats; linearise where that loses less (`nearly_linear.divergence`); 0 never.
        quadrature_below: nats; use exact moments by quadrature where they lose less (`quadrature`); 0 never.
        bend_below: nats; split components before a nonlinear motion where moving them whole loses more
            (`tracking.prediction`); 0 never.
        prior_share: weight, in every answer of the network, of one Gaussian as wide as the prior. It limits the cost of
            a part of the posterior where no point of the check fell.
        light: whether a belief in doubt keeps light components (`tracking.recovery.light_components`).
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
    search: bool = True
    linear_below: float = 0.002
    quadrature_below: float = 0.005
    bend_below: float = 0.004
    prior_share: float = 0.0003
    light: bool = True

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


FAST = UpdateSettings(refine_below=0.0, search=False)
"""Checked, but never searched or refined."""

WORKER = UpdateSettings(repeat_below=0.5)
"""Of a worker, unless it is told otherwise: modes are searched for less often."""

ROUGH = UpdateSettings(
    components=4,
    growth=1,
    merge_below=0.05,
    points=64,
    refine_below=0.0,
    search=False,
    linear_below=1.0,
    quadrature_below=1.0,
    light=False,
)
"""For comparing definitions by their evidence: several times faster than `FAST`, and close where definitions fit."""
