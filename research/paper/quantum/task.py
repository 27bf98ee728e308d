"""Task 2: a parameter of a quantum system from ten binary outcomes (arXiv 2502.02463, section 4.2.2).

H = Δ σx + (1 − Δ) σz with Δ ~ Beta(a, b), and a, b ~ IG(4, 6). Outcome i is Bernoulli(|⟨0|ψ(tᵢ)⟩|²). The initial
state has noise N(0, 0.01 I) before it is normalised; the time has a standard deviation of 0.05. The parameter is
u = logit Δ.

Nothing here knows the likelihood, only the simulator: `learn` fits the probability of each outcome as a function of Δ.
"""

from __future__ import annotations

import functools
import math
from typing import Literal

import torch
from torch import Tensor

from beliefstream.inference.published.parametric import Beta, Family, log_gamma_draws
from research.paper.scalar import Problems

STATES = torch.tensor([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 2 + [[1.0, 1.0]] * 3, dtype=torch.float64)
TIMES = torch.tensor([1.0, 2, 3, 4, 5, 1, 2, 1, 2, 3], dtype=torch.float64)
STATE_NOISE, TIME_NOISE = 0.1, 0.05
META_PRIOR = (4.0, 6.0)  # shape and rate of the inverse gamma of a and b
BROAD = (0.3, 40.0)  # range of a and b in training
DEGREE = 16  # of the learned log odds in Δ
NODES, DRAWS = 2048, 1024  # values of Δ, and simulations at each
NEWTON = 12  # rounds of the fit


def simulate(delta: Tensor, generator: torch.Generator) -> Tensor:
    """Draw ten outcomes for each Δ ``(B,)``, as ``(B, 10)`` zeros and ones."""
    size = (len(delta), len(TIMES))
    state = STATES + STATE_NOISE * torch.randn(*size, 2, generator=generator, dtype=torch.float64)
    state = state / state.norm(dim=-1, keepdim=True)
    time = TIMES + TIME_NOISE * torch.randn(size, generator=generator, dtype=torch.float64)
    x, z = delta[:, None], 1 - delta[:, None]
    rate = (x.square() + z.square()).sqrt()
    # exp(-iHt) = cos(ωt) - i sin(ωt) H / ω, since H² = ω²
    turned = (z * state[..., 0] + x * state[..., 1]) / rate
    probability = (torch.cos(rate * time) * state[..., 0]).square() + (
        torch.sin(rate * time) * turned
    ).square()
    level = torch.rand(size, generator=generator, dtype=torch.float64)
    return torch.lt(level, probability).double()


def basis(delta: Tensor) -> Tensor:
    """Return the Chebyshev polynomials of 2Δ − 1 up to `DEGREE`, in a new last axis."""
    angle = torch.acos((2 * delta - 1).clamp(-1, 1))
    return torch.cos(angle[..., None] * torch.arange(DEGREE + 1, dtype=torch.float64))


@functools.cache
def learn() -> Tensor:
    """Learn the log odds of each outcome from the simulator, as coefficients ``(10, DEGREE + 1)`` of `basis`.

    Maximum likelihood by Newton's method. About p/2 nats of log loss are lost in n simulations for p coefficients;
    that is 4e-5 nats for ten outcomes here.
    """
    generator = torch.Generator().manual_seed(0)
    delta = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    ones = torch.zeros(NODES, len(TIMES), dtype=torch.float64)
    for _ in range(DRAWS // 64):
        ones += simulate(delta.repeat(64), generator).view(64, NODES, -1).sum(0)
    return fit(basis(delta), ones, DRAWS)


def fit(features: Tensor, ones: Tensor, draws: int) -> Tensor:
    """Fit log odds ``(outcomes, features)`` to the number of ones ``(nodes, outcomes)`` in `draws` at each node."""
    coefficients = torch.zeros(ones.shape[1], features.shape[1], dtype=torch.float64)
    ridge = 1e-6 * torch.eye(features.shape[1], dtype=torch.float64)
    for _ in range(NEWTON):
        probability = torch.sigmoid(features @ coefficients.T)  # (nodes, outcomes)
        gradient = (ones - draws * probability).T @ features
        weight = draws * probability * (1 - probability)
        curvature = torch.einsum("no,ni,nj->oij", weight, features, features) + ridge
        coefficients = coefficients + torch.linalg.solve(curvature, gradient[..., None])[..., 0]
    return coefficients


class Quantum:
    """Problems of the published meta-prior, or of a broad one; priors are a and b ``(B, 2)``, data ``(B, 10)``.

    Args:
        coefficients: the learned likelihood, from `learn`.
        broad: whether log a and log b are uniform, for training.
    """

    name = "quantum"
    family: Family = Beta()
    prior_numbers = 2
    data_numbers = 1 + len(TIMES)
    likelihood: Literal["exact", "learned"] = "learned"

    def __init__(self, coefficients: Tensor, broad: bool = False) -> None:
        self.coefficients, self.broad = coefficients, broad

    def sample(self, count: int, generator: torch.Generator) -> Problems:
        if self.broad:
            low, high = map(math.log, BROAD)
            uniform = torch.rand(count, 2, generator=generator, dtype=torch.float64)
            prior = (low + (high - low) * uniform).exp()
        else:
            shape, rate = META_PRIOR
            draws = log_gamma_draws(torch.full((count, 2), shape, dtype=torch.float64), generator)
            prior = (math.log(rate) - draws).exp()
        u = self.family.draw(prior, generator)
        return Problems(prior, simulate(torch.sigmoid(u), generator), u)

    def log_likelihood(self, data: Tensor, points: Tensor) -> Tensor:
        odds = basis(torch.sigmoid(points)) @ self.coefficients.T  # (B, P, 10)
        # log p = logsigmoid(odds) of a one, and odds less of a zero
        return (torch.nn.functional.logsigmoid(odds) - (1 - data[:, None]) * odds).sum(-1)

    def prior_features(self, prior: Tensor) -> Tensor:
        return prior.log()

    def data_features(self, data: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
        which = torch.eye(len(TIMES), dtype=torch.float64).expand(len(data), -1, -1)
        return torch.cat([(2 * data - 1)[..., None], which], -1)
