"""The problems of sbibm as a user of this library writes them: a simulator and, if its law is known, a likelihood.

J.-M. Lueckmann et al., "Benchmarking Simulation-based Inference", AISTATS 2021, appendix T; constants are those of
sbi-benchmark/sbibm 1.1.0. Priors are exact in the coordinates of the library:

- a uniform box is a `unit` parameter with the prior Beta(1, 1), scaled to the box;
- a normal prior is one Gaussian over `real` parameters;
- a lognormal prior is one Gaussian over `positive` parameters, whose coordinates are logarithms.

``M`` is the number of cases, ``n`` of parameters, ``q`` of data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.problems import Numbers, Support, to_support

WITHIN = 2.5  # deviations of a normal prior to each end of the range of the training
Prior = Any  # numbers of parametric priors by name, or a mixture


class Gaussian(NamedTuple):
    """A prior of one component over the coordinates."""

    weights: list[float]
    means: list[list[float]]
    covariances: list[list[list[float]]]


class Task:
    """A problem whose parameters are `theta` ``(M, n)``, and whose data are `d0`, `d1`, ...

    Attributes:
        prior: as `OnePass.posterior` takes it.
    """

    context: tuple[str, ...] = ()
    parameters: dict[str, Support]
    data: dict[str, Any]
    ranges: dict[str, tuple[float, float]]
    prior: Prior

    def theta(self, parameters: Numbers) -> Tensor:
        """Return the task's own parameters ``(M, n)``."""
        return torch.stack([parameters[name] for name in self.parameters], -1)

    def theta_at(self, coordinates: Tensor) -> Tensor:
        """Return the task's own parameters at coordinates ``(M, n)`` of an answer."""
        columns = zip(self.parameters.items(), coordinates.unbind(-1), strict=True)
        return self.theta({name: to_support(column, support) for (name, support), column in columns})

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        """Draw data ``(M, q)``."""
        raise NotImplementedError

    def simulate(
        self, parameters: Numbers, context: Numbers, generator: torch.Generator
    ) -> dict[str, Tensor]:
        drawn = self.draw(self.theta(parameters), generator)
        return dict(zip(self.data, drawn.unbind(-1), strict=True))

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        """Return the log density ``(M,)`` of data ``(M, q)``, up to a term without theta."""
        raise NotImplementedError

    def log_likelihood(self, data: Numbers, parameters: Numbers, context: Numbers) -> Tensor:
        return self.log_density(self.theta(parameters), torch.stack([data[name] for name in self.data], -1))


class Boxed(Task):
    """A task whose prior is uniform from −`bound` to `bound` in each of `size` parameters."""

    size: int
    bound: float
    count: int  # of data

    def __init__(self) -> None:
        names = [f"p{i}" for i in range(self.size)]
        self.parameters = dict.fromkeys(names, "unit")
        self.ranges = dict.fromkeys(names, (1e-3, 1 - 1e-3))
        self.priors = dict.fromkeys(names, ("beta", (1.0, 1.0), (1.0, 1.0)))
        self.prior = dict.fromkeys(names, (1.0, 1.0))
        self.data = {f"d{i}": "real" for i in range(self.count)}

    def theta(self, parameters: Numbers) -> Tensor:
        return self.bound * (2 * super().theta(parameters) - 1)


class Normal(Task):
    """A task whose coordinates have a normal prior; `support` says what they are coordinates of."""

    def __init__(
        self, mean: Tensor, covariance: Tensor, count: int, support: Support = "real", domain: str = "real"
    ) -> None:
        names = [f"p{i}" for i in range(len(mean))]
        self.parameters = dict.fromkeys(names, support)
        self.data = {f"d{i}": domain for i in range(count)}
        reach = WITHIN * covariance.diagonal().sqrt()
        ends = [
            (mean + sign * reach).exp() if support == "positive" else mean + sign * reach for sign in (-1, 1)
        ]
        low, high = (end.tolist() for end in ends)
        self.ranges = dict(zip(names, zip(low, high, strict=True), strict=True))
        self.prior = Gaussian([1.0], [mean.tolist()], [covariance.tolist()])


class TwoMoons(Boxed):
    """A crescent for each sign of θ₁ + θ₂."""

    size, bound, count = 2, 1.0, 2

    @staticmethod
    def place(theta: Tensor) -> Tensor:
        first, second = theta.unbind(-1)
        return torch.stack([-(first + second).abs(), second - first], -1) / math.sqrt(2)

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        angle = math.pi * (torch.rand(len(theta), generator=generator, dtype=theta.dtype) - 0.5)
        radius = 0.1 + 0.01 * torch.randn(len(theta), generator=generator, dtype=theta.dtype)
        return torch.stack([radius * angle.cos() + 0.25, radius * angle.sin()], -1) + self.place(theta)

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        along, across = (data - self.place(theta)).unbind(-1)
        radius = ((along - 0.25).square() + across.square() + 1e-12).sqrt()
        inside = -0.5 * ((radius - 0.1) / 0.01).square() - radius.log()
        return torch.where(along > 0.25, inside, -math.inf)


class SLCP(Boxed):
    """Four points of a normal law in the plane: a simple likelihood with a complex posterior.

    The distractors of `slcp_distractors` depend on no parameter, so this is its likelihood too.
    """

    size, bound, count = 5, 3.0, 8

    @staticmethod
    def factor(theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the lower Cholesky factor of the points' covariance: its diagonal, and what is below."""
        first, second = theta[:, 2].square(), theta[:, 3].square()
        correlation = torch.tanh(theta[:, 4])
        upper = (first.square() + 1e-6).sqrt()
        below = correlation * first * second / upper
        return upper, below, (second.square() + 1e-6 - below.square()).clamp_min(1e-12).sqrt()

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(theta), 4, 2, generator=generator, dtype=theta.dtype)
        upper, below, lower = (part[:, None] for part in self.factor(theta))
        x = theta[:, None, 0] + upper * noise[..., 0]
        y = theta[:, None, 1] + below * noise[..., 0] + lower * noise[..., 1]
        return torch.stack([x, y], -1).flatten(1)

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        upper, below, lower = (part[:, None] for part in self.factor(theta))
        x = (data[:, ::2] - theta[:, :1]) / upper
        y = (data[:, 1::2] - theta[:, 1:2] - below * x) / lower
        return (-0.5 * (x.square() + y.square()) - upper.log() - lower.log()).sum(-1)


class GaussianMixtureTask(Boxed):
    """A wide and a narrow normal law around the parameters."""

    size, bound, count = 2, 10.0, 2

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        narrow = torch.rand(len(theta), 1, generator=generator) < 0.5
        noise = torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
        return theta + torch.where(narrow, 0.1, 1.0) * noise

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        square = -0.5 * (data - theta).square().sum(-1)
        return torch.logaddexp(square, 100 * square + math.log(100))


class GaussianLinearUniform(Boxed):
    """Ten parameters with normal noise of variance 0.1, in a box."""

    size, bound, count = 10, 1.0, 10

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        return theta + math.sqrt(0.1) * torch.randn(theta.shape, generator=generator, dtype=theta.dtype)

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        return -5 * (data - theta).square().sum(-1)


class GaussianLinear(Normal):
    """The same with a normal prior of variance 0.1."""

    draw, log_density = GaussianLinearUniform.draw, GaussianLinearUniform.log_density

    def __init__(self) -> None:
        super().__init__(torch.zeros(10).double(), 0.1 * torch.eye(10).double(), 10)


class BernoulliGLM(Normal):
    """Spikes of a neuron: a logistic regression on the last nine values of a stimulus, and an offset.

    The data are the sufficient statistics ``Xᵀy``. So this is the likelihood of `bernoulli_glm_raw` too.
    """

    def __init__(self) -> None:
        stimulus = torch.from_numpy(np.random.RandomState(42).randn(100).astype(np.float32)).double()
        shifted = [torch.cat([torch.zeros(j).double(), stimulus[: 100 - j]]) for j in range(9)]
        self.design = torch.stack([torch.ones(100).double(), *shifted], -1)
        step = torch.eye(9).double() - torch.diag(torch.ones(8).double(), -1)
        smooth = step @ step + torch.diag((torch.arange(9).double() / 9).sqrt())
        precision = torch.zeros(10, 10).double()
        precision[0, 0], precision[1:, 1:] = 0.5, smooth.T @ smooth
        super().__init__(torch.zeros(10).double(), torch.linalg.inv(precision), 10)

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        level = torch.rand(len(theta), 100, generator=generator, dtype=theta.dtype)
        return (level < torch.sigmoid(theta @ self.design.T)).to(theta.dtype) @ self.design

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        return (theta * data).sum(-1) - torch.nn.functional.softplus(theta @ self.design.T).sum(-1)


def runge_kutta(
    slope: Callable[[Tensor], Tensor], start: Tensor, step: float, every: int, count: int
) -> Tensor:
    """Return the states ``(count, ...)`` at the start and after each `every` steps of the classical fourth order."""
    state, kept = start, [start]
    for _ in range(count - 1):
        for _ in range(every):
            first = slope(state)
            second = slope(state + step / 2 * first)
            third = slope(state + step / 2 * second)
            state = state + step / 6 * (first + 2 * second + 2 * third + slope(state + step * third))
        kept.append(state)
    return torch.stack(kept)


class SIR(Normal):
    """Infected of an epidemic, in ten samples of 1 000, one each 17 days; contact and recovery rates a day."""

    days, people, tested = 17, 1e6, 1000

    def __init__(self) -> None:
        mean = torch.tensor([0.4, 0.125]).double().log()
        super().__init__(mean, torch.diag(torch.tensor([0.25, 0.04]).double()), 10, "positive", "count")

    def infected(self, theta: Tensor) -> Tensor:
        """Return the share of infected people ``(M, 10)``; the equations are those of its logarithm."""
        contact, recovery = theta.unbind(-1)

        def slope(state: Tensor) -> Tensor:
            susceptible, log_infected = state
            return torch.stack(
                [-contact * susceptible * log_infected.exp(), contact * susceptible - recovery]
            )

        begin = torch.stack(
            [torch.full_like(contact, 1 - 1 / self.people), torch.full_like(contact, -math.log(self.people))]
        )
        states = runge_kutta(slope, begin, 0.5, 2 * self.days, 10)
        return states[:, 1].T.exp().clamp(0.0, 1.0)

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        trials = torch.full_like(theta[:, :1], self.tested).expand(-1, 10).contiguous()
        return torch.binomial(trials, self.infected(theta), generator=generator)

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        share = self.infected(theta)
        found: Tensor = torch.xlogy(data, share) + torch.special.xlog1py(self.tested - data, -share)
        return found.sum(-1)


class LotkaVolterra(Normal):
    """Prey and predators at ten times, 2.1 apart, each with a lognormal error of 0.1."""

    def __init__(self) -> None:
        mean = torch.tensor([-0.125, -3.0, -0.125, -3.0]).double()
        super().__init__(mean, 0.25 * torch.eye(4).double(), 20, "positive", "positive")

    @staticmethod
    def log_sizes(theta: Tensor) -> Tensor:
        """Return the logarithms of both populations ``(M, 20)``; the equations are theirs."""
        growth, eaten, death, fed = theta.unbind(-1)

        def slope(state: Tensor) -> Tensor:
            prey, predators = state.exp()
            return torch.stack([growth - eaten * predators, fed * prey - death])

        begin = torch.stack([torch.full_like(growth, math.log(30.0)), torch.zeros_like(growth)])
        found: Tensor = runge_kutta(slope, begin, 0.05, 42, 10)
        return found.permute(2, 1, 0).flatten(1).clamp(math.log(1e-10), math.log(1e4))

    def draw(self, theta: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(len(theta), 20, generator=generator, dtype=theta.dtype)
        return (self.log_sizes(theta) + 0.1 * noise).exp()

    def log_density(self, theta: Tensor, data: Tensor) -> Tensor:
        return -50 * (data.log() - self.log_sizes(theta)).square().sum(-1)
