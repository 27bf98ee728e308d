"""Coverage of highest-density regions.

The *level* of a point under a mixture is the mass of the points where the mixture is denser. If the point is drawn from
the mixture, its level is uniform on [0, 1], so the highest-density region of mass p, which is level ≤ p, contains it
with probability p (R. Hyndman, "Computing and graphing highest density regions", The American Statistician 50(2),
1996).
"""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture

REGIONS = (0.5, 0.9, 0.99)
DRAWS = 999  # so that each region has a whole number of the 1 000 ranks


def levels(answer: GaussianMixture, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Return the level of `truth` ``(B, d)``, ``(B,)``: the share of denser points in `DRAWS` draws and the truth."""
    drawn = answer.normalised().sample(DRAWS, generator)
    denser = (answer.log_density(drawn) > answer.log_density(truth[:, None])).sum(1)
    return denser.double() / (DRAWS + 1)


def inside(levels: Tensor, region: float) -> Tensor:
    """Return 1 where the region of mass `region` contains the truth, otherwise 0; float64."""
    return (levels < region - 0.5 / (DRAWS + 1)).double()
