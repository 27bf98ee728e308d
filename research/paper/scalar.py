"""Problems with one parameter on the real line: prior, data, and a likelihood that can be called.

The parameter u is the logarithm or the logit of what the task asks for. B is the number of problems, P of points.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from beliefstream.inference.published.parametric import Family

LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


class Problems(NamedTuple):
    """Numbers of the priors ``(B, ...)``, data ``(B, ...)`` and true parameters ``(B,)``, all float64."""

    prior: Tensor
    data: Tensor
    parameter: Tensor

    def rows(self, start: int, stop: int) -> Problems:
        """Return the problems from `start` up to `stop`."""
        return Problems(*(part[start:stop] for part in self))


class ScalarTask(Protocol):
    """A family of problems.

    Attributes:
        name: of the task, which is also that of its weights.
        family: of its priors.
        prior_numbers: features of a prior.
        data_numbers: features of a datum.
        likelihood: whether `log_likelihood` is exact, or learned from the simulator.
    """

    name: str
    family: Family
    prior_numbers: int
    data_numbers: int
    likelihood: Literal["exact", "learned"]

    def sample(self, count: int, generator: torch.Generator) -> Problems:
        """Draw priors, parameters and data."""
        ...

    def log_likelihood(self, data: Tensor, points: Tensor) -> Tensor:
        """Return the log likelihood at points ``(B, P)``, up to a constant a problem."""
        ...

    def prior_features(self, prior: Tensor) -> Tensor:
        """Return ``(B, prior_numbers)``, what the moments do not say."""
        ...

    def data_features(self, data: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        """Return a token a datum ``(B, N, data_numbers)``; `moments` are those of the prior."""
        ...


class ScalarMixture(NamedTuple):
    """Gaussian mixtures over the parameter; log weights, means and log standard deviations, each ``(B, K)``."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor

    def log_components(self, points: Tensor) -> Tensor:
        """Return the log of each component's share of the density at points ``(B, P)``, as ``(B, P, K)``."""
        scaled = (points[..., None] - self.means[:, None]) * (-self.log_scales[:, None]).exp()
        return (self.log_weights - self.log_scales - LOG_ROOT_TAU)[:, None] - 0.5 * scaled.square()

    def log_density(self, points: Tensor) -> Tensor:
        """Return the log density at points ``(B, P)``."""
        return torch.logsumexp(self.log_components(points), -1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``(B, count)`` values of each mixture."""
        chosen = torch.multinomial(self.log_weights.exp(), count, replacement=True, generator=generator)
        noise = torch.randn(chosen.shape, generator=generator, dtype=self.means.dtype)
        return self.means.gather(1, chosen) + self.log_scales.gather(1, chosen).exp() * noise

    def in_frame(self, centre: Tensor, scale: Tensor) -> ScalarMixture:
        """Return the mixtures of ``centre + scale * u``; both ``(B,)``."""
        return ScalarMixture(
            self.log_weights,
            centre[:, None] + scale[:, None] * self.means,
            self.log_scales + scale.log()[:, None],
        )


def log_joint(task: ScalarTask, problems: Problems, points: Tensor) -> Tensor:
    """Return log prior plus log likelihood at points ``(B, P)``."""
    prior = task.family.log_density(problems.prior, points)
    return prior + task.log_likelihood(problems.data, points)
