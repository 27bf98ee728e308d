"""Task 1: the variance of a Gaussian under an inverse-gamma prior (arXiv 2502.02463, section 4.1).

σ² ~ IG(α, β), one z ~ N(0, σ²), and the parameter is u = log σ². A meta-prior draws α and β: IG(10000, 20000) is
"narrow", IG(4, 6) is "wide", and IG(24, 6) was in no training. Ours trains on "broad" ones: log α and log β uniform.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from beliefstream.inference.published.parametric import Family, InverseGamma, log_gamma_draws
from research.paper.scalar import Problems

META_PRIORS = {"narrow": (1e4, 2e4), "wide": (4.0, 6.0), "unseen": (24.0, 6.0)}
"""Shape and rate of the inverse gamma that draws α and β."""
BROAD = ((0.12, 40.0), (0.05, 60.0))  # ranges of α and β in training


class Variance:
    """Problems of one meta-prior: a name of `META_PRIORS`, or "broad".

    The numbers of a prior are α and β, ``(B, 2)``; data are ``(B, 1)``.

    Raises:
        ValueError: there is no such meta-prior.
    """

    name = "variance"
    family: Family = InverseGamma()
    prior_numbers = 1
    data_numbers = 2
    likelihood: Literal["exact", "learned"] = "exact"

    def __init__(self, meta: str = "broad") -> None:
        if meta != "broad" and meta not in META_PRIORS:
            raise ValueError(f"meta: expected broad, {', '.join(META_PRIORS)}, got {meta!r}")
        self.meta = meta

    def sample(self, count: int, generator: torch.Generator) -> Problems:
        if self.meta == "broad":
            bounds = torch.tensor(BROAD, dtype=torch.float64).log()
            uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
            prior = (bounds[:, 0] + uniform * (bounds[:, 1] - bounds[:, 0])).exp()
        else:
            shape, rate = META_PRIORS[self.meta]
            prior = (math.log(rate) - log_gamma_draws(torch.full((count, 2), shape), generator)).exp()
        u = self.family.draw(prior, generator)
        z = (u / 2).exp() * torch.randn(count, generator=generator, dtype=torch.float64)
        return Problems(prior, z[:, None], u)

    def log_likelihood(self, data: Tensor, points: Tensor) -> Tensor:
        return -0.5 * points - 0.5 * (log_square(data) - points).exp()

    def prior_features(self, prior: Tensor) -> Tensor:
        return prior[:, :1].log()

    def data_features(self, data: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        offset = log_square(data) - moments[0][:, None]
        return torch.stack([offset / moments[1][:, None] / 3, offset / 4], -1).clamp(-8, 8)


def log_square(data: Tensor) -> Tensor:
    """Return log z², finite at z = 0."""
    return 2 * data.abs().clamp_min(1e-150).log()
