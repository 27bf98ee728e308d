"""How accurate an update is, and at what cost."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Accuracy against cost.

    Attributes:
        components: of a posterior, as many as its tokens in the network.
        growth: times as many where the check asks for them.
        merge_below: nats; pairs of components that merge for less are merged.
        points: drawn to check each answer.
        images: a token, of one Gauss-Newton walk each, from which a check draws too: 1 or 2.
        image_rounds: steps of such a walk.
        refine_below: effective sample size under which an answer is refined; 0 never refines.
        refine_rounds, refine_steps, refine_points: size of the refinement: how often points are drawn, steps of
            expectation-maximisation on them, how many.
        repeat_below: effective sample size, refined, under which it is refined again, with each of
            `repeat_points` in turn.
        search_above: how far observations may be from linear over the prior, in standard deviations of their noise,
            before modes are searched for whatever the check says (`mode_search.bend`); where it is a hundredth of
            that, one pass has to be better to be believed. Infinite never searches.
        linear_below: nats; where linearising costs less, by `nearly_linear.divergence`, it is done; 0 never.
        quadrature_below: nats; where exact moments by quadrature lose less they are the answer (`quadrature`); 0 never.
        bend_below: nats; where a motion that bends loses more, components are divided before it (`moving`); 0 never.
        prior_share: weight in every answer of the network of one Gaussian as wide as the prior: what is missing where
            no point of the check fell then costs little.
        defend_below: effective sample size, refined, under which a wide component is added; 0 never.
        defence: weight of that component.
        refined_defence: its weight in any other answer that was refined: points may all have missed a thin sheet.
    """

    components: int = 8
    growth: int = 2
    merge_below: float = 0.002
    points: int = 96
    images: int = 2
    image_rounds: int = 4
    refine_below: float = 0.95
    refine_rounds: int = 3
    refine_steps: int = 2
    refine_points: int = 512
    repeat_below: float = 0.9
    repeat_points: tuple[int, ...] = (2048, 8192)
    search_above: float = 300.0
    linear_below: float = 0.002
    quadrature_below: float = 0.005
    bend_below: float = 0.004
    prior_share: float = 0.0003
    defend_below: float = 0.8
    defence: float = 0.1
    refined_defence: float = 0.003

    @property
    def most_components(self) -> int:
        """Of any posterior."""
        return self.components * self.growth


FAST = Settings(
    images=1, image_rounds=2, refine_below=0.0, search_above=math.inf, defend_below=0.0, refined_defence=0.0
)
"""Checked, with fewer places where the check looks, and left as it is."""
