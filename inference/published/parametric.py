"""Parametric priors of one parameter, in the coordinate that stands for it: a logarithm, or log odds.

``B`` is the number of priors, ``P`` of points. Each family has two numbers, both positive.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Support


class Family(Protocol):
    """A family of priors with two numbers.

    Attributes:
        support: of the parameter.
    """

    @property
    def support(self) -> Support: ...

    def log_density(self, numbers: Tensor, points: Tensor) -> Tensor:
        """Return the log density ``(B, P)`` of priors `numbers` ``(B, 2)`` at coordinates `points` ``(B, P)``."""
        ...

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation ``(B,)`` of the coordinate."""
        ...

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one coordinate of each prior, ``(B,)``."""
        ...


class Gamma:
    """Gamma with a shape and a rate, of a positive parameter; the coordinate is its logarithm."""

    support: Support = "positive"

    def log_density(self, numbers: Tensor, points: Tensor) -> Tensor:
        shape, rate = numbers[:, :1], numbers[:, 1:]
        scaled = rate.log() + points
        return shape * scaled - scaled.exp() - torch.lgamma(shape)

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        shape, rate = numbers.unbind(1)
        return torch.digamma(shape) - rate.log(), torch.polygamma(1, shape).sqrt()

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        return log_gamma_draws(numbers[:, 0], generator) - numbers[:, 1].log()


class InverseGamma:
    """Inverse gamma with a shape and a scale, of a positive parameter; the coordinate is its logarithm."""

    support: Support = "positive"

    def log_density(self, numbers: Tensor, points: Tensor) -> Tensor:
        return Gamma().log_density(numbers, -points)

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = Gamma().moments(numbers)
        return -mean, deviation

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        return -Gamma().draw(numbers, generator)


class Beta:
    """Beta of a parameter between 0 and 1; the coordinate is its log odds."""

    support: Support = "unit"

    def log_density(self, numbers: Tensor, points: Tensor) -> Tensor:
        a, b = numbers[:, :1], numbers[:, 1:]
        inside = a * torch.nn.functional.logsigmoid(points) + b * torch.nn.functional.logsigmoid(-points)
        return inside + torch.lgamma(a + b) - torch.lgamma(a) - torch.lgamma(b)

    def moments(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        a, b = numbers.unbind(1)
        return torch.digamma(a) - torch.digamma(b), (torch.polygamma(1, a) + torch.polygamma(1, b)).sqrt()

    def draw(self, numbers: Tensor, generator: torch.Generator) -> Tensor:
        first, second = log_gamma_draws(numbers, generator).unbind(1)
        return first - second


FAMILIES: dict[str, Family] = {"gamma": Gamma(), "inverse_gamma": InverseGamma(), "beta": Beta()}


def log_gamma_draws(shape: Tensor, generator: torch.Generator) -> Tensor:
    """Draw the logarithm of gamma variables of rate 1.

    G(a) has the distribution of G(a + 1) U^(1/a), whose logarithm does not underflow for small a (Marsaglia and Tsang
    2000, section 6).
    """
    shape = shape.double()
    # torch.distributions.Gamma takes no generator
    draws = torch._standard_gamma(shape + 1, generator=generator)
    uniform = torch.rand(shape.shape, generator=generator, dtype=torch.float64)
    return draws.log() + (1 - uniform).log() / shape
