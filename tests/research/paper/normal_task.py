"""A task whose posteriors are Gaussians in closed form: a normal prior, and normal data of deviation 1."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Support
from beliefstream.inference.published.parametric import Family
from research.paper.scalar import LOG_ROOT_TAU, Problems


class Normal:
    """Normal priors of given mean and deviation."""

    support: Support = "real"

    def log_density(self, numbers: Tensor, points: Tensor) -> Tensor:
        scaled = (points - numbers[:, :1]) / numbers[:, 1:]
        return -0.5 * scaled.square() - numbers[:, 1:].log() - LOG_ROOT_TAU

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        return numbers[:, 0], numbers[:, 1]

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(numbers), generator=generator, dtype=torch.float64)
        return numbers[:, 0] + numbers[:, 1] * noise


class NormalTask:
    """Priors are means and deviations ``(B, 2)``, data ``(B, N)``."""

    name = "normal"
    family: Family = Normal()
    prior_numbers = 1
    data_numbers = 1
    likelihood: Literal["exact", "learned"] = "exact"

    def __init__(self, seen: int = 3) -> None:
        self.seen = seen

    def sample(self, count: int, generator: torch.Generator) -> Problems:
        prior = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 3 + 0.2
        noise = torch.randn(count, 1 + self.seen, generator=generator, dtype=torch.float64)
        u = prior[:, 0] + prior[:, 1] * noise[:, 0]
        return Problems(prior, u[:, None] + noise[:, 1:], u)

    def log_likelihood(self, data: Tensor, points: Tensor) -> Tensor:
        return (-0.5 * (points[..., None] - data[:, None]).square() - LOG_ROOT_TAU).sum(-1)

    def prior_features(self, prior: Tensor) -> Tensor:
        return prior[:, 1:].log()

    def data_features(self, data: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        return ((data - moments[0][:, None]) / moments[1][:, None])[..., None]


def posterior(problems: Problems) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the exact posterior, by Bayes' rule for normal variables."""
    mean, deviation = problems.prior.unbind(1)
    precision = deviation**-2 + problems.data.shape[1]
    return (mean * deviation**-2 + problems.data.sum(1)) / precision, precision.rsqrt()
