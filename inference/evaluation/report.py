"""How far each method's answer is from the exact posterior, on held-out problems in the plane.

The figure is KL(exact ‖ answer) in nats, one a problem, on the exact posterior's grid.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from inference.evaluation.baselines import ParticleFilter, gaussian_sum_update
from inference.evaluation.exact import GridPosterior, grid_posterior
from inference.mixture import GaussianMixture
from inference.observations import Observations
from inference.training.families import Problems, planar
from inference.transformer import DistributionTransformer, duplicate_components

# Of a CPU generator's seed PyTorch uses the low 32 bits only; training steps of seed 0 use small numbers.
HELD_OUT_SEED = 4_000_000_007
PARTICLES = 10_000
_REPRESENTATIVES = 2048  # points of the exact posterior at which a kernel density is evaluated

Answer = Callable[[GaussianMixture, Observations], GaussianMixture]
Progress = Callable[[int, int], None]


class Row(NamedTuple):
    """One method on one subset of the problems; divergences in nats."""

    method: str
    subset: str
    problems: int
    mean: float
    standard_error: float
    median: float
    ninetieth: float
    worst: float


@dataclass(frozen=True)
class Report:
    """Divergences of each method, problem by problem."""

    divergences: dict[str, Tensor]  # (P,) nats
    outliers: Tensor  # (P,) bool: some observation of the problem may be an outlier
    observations: Tensor  # (P,) number of observations
    unresolved: int  # problems whose exact posterior is finer than the grid could be

    def subsets(self) -> dict[str, Tensor]:
        """Which problems each subset holds, ``(P,)`` bool."""
        numbers = sorted({int(number) for number in self.observations})
        chosen = {
            "all": torch.ones_like(self.outliers),
            "without outliers": ~self.outliers,
            "with outliers": self.outliers,
        }
        plural = {1: "observation"}
        by_number = {f"{n} {plural.get(n, 'observations')}": self.observations == n for n in numbers}
        return {name: subset for name, subset in (chosen | by_number).items() if bool(subset.any())}

    def rows(self) -> list[Row]:
        """A table: every method on every subset."""
        return [
            _row(method, name, divergence[subset])
            for name, subset in self.subsets().items()
            for method, divergence in self.divergences.items()
        ]

    def to_json(self) -> str:
        """The table and every single divergence; a standard error that does not exist is null."""
        table = [
            {
                key: None if isinstance(value, float) and math.isnan(value) else value
                for key, value in row.items()
            }
            for row in (row._asdict() for row in self.rows())
        ]
        content = {
            "table": table,
            "unresolved": self.unresolved,
            "divergences": {method: values.tolist() for method, values in self.divergences.items()},
            "outliers": self.outliers.tolist(),
            "observations": self.observations.tolist(),
        }
        return json.dumps(content, indent=1)


def _row(method: str, subset: str, divergence: Tensor) -> Row:
    count = len(divergence)
    error = float(divergence.std()) / math.sqrt(count) if count > 1 else math.nan
    median, ninetieth = divergence.quantile(torch.tensor([0.5, 0.9], dtype=divergence.dtype)).tolist()
    return Row(
        method, subset, count, float(divergence.mean()), error, median, ninetieth, float(divergence.max())
    )


def planar_problems(count: int = 512, seed: int = HELD_OUT_SEED) -> Problems:
    """Problems in the plane that no training step saw, in float64."""
    problems = planar().sample(count, 2, torch.Generator().manual_seed(seed))
    return Problems(
        problems.prior.to(dtype=torch.float64).normalised(),
        problems.source,
        problems.state.to(torch.float64),
        problems.observations.to(dtype=torch.float64),
    )


def network_alone(network: DistributionTransformer, components: int = 8) -> Answer:
    """The network's answer as it comes, without refinement, with `components` components."""

    def answer(prior: GaussianMixture, observations: Observations) -> GaussianMixture:
        parameter = next(network.parameters())
        kind, device = parameter.dtype, parameter.device
        tokens = duplicate_components(prior.to(dtype=kind, device=device), components)
        with torch.no_grad():
            estimate = network(tokens, observations.to(dtype=kind, device=device))
        log_weights, means, factors = (part.to("cpu", torch.float64) for part in estimate)
        return GaussianMixture(log_weights, means, factors @ factors.mT).normalised()

    return answer


def evaluate(
    network: DistributionTransformer | Answer,
    components: int = 8,
    count: int = 512,
    progress: Progress | None = None,
    others: Mapping[str, Answer] | None = None,
    seed: int = HELD_OUT_SEED,
) -> Report:
    """Compare the network alone, the classical baselines and any `others` with the exact posterior.

    A network that is not a `DistributionTransformer` is called as it is, and `components` is not used. Takes
    about a second a problem on one core. `progress` is told how many problems are done, of how many.
    """
    problems = planar_problems(count, seed)
    alone = network_alone(network, components) if isinstance(network, DistributionTransformer) else network
    methods: dict[str, Answer] = {"network": alone, "Gaussian sum": gaussian_sum_update, **(others or {})}
    answers = {name: method(problems.prior, problems.observations) for name, method in methods.items()}
    particles = f"particle filter {PARTICLES}"
    divergences: dict[str, list[float]] = {name: [] for name in (*answers, particles)}
    unresolved = 0
    for index in range(count):
        one = slice(index, index + 1)
        prior, observations = problems.prior.rows(one), problems.observations.rows_of(one)
        exact = grid_posterior(prior, observations)
        unresolved += not exact.resolved
        for name, answer in answers.items():
            divergences[name].append(exact.divergence(answer.rows(one)))
        generator = torch.Generator().manual_seed(index)
        divergences[particles].append(_particle_divergence(exact, prior, observations, generator))
        if progress is not None:
            progress(index + 1, count)
    used = problems.observations.mask
    return Report(
        {name: torch.tensor(values, dtype=torch.float64) for name, values in divergences.items()},
        ((problems.observations.outlier_probability > 0) & used).any(1),
        used.sum(1),
        unresolved,
    )


def _particle_divergence(
    exact: GridPosterior, prior: GaussianMixture, observations: Observations, generator: torch.Generator
) -> float:
    """KL(exact ‖ kernel density), at points of equal mass: all pairs with the grid are too many."""
    belief = ParticleFilter(prior, PARTICLES, generator)
    belief.update(observations)
    chosen = exact.representatives(_REPRESENTATIVES)
    answered = belief.log_density(exact.points[chosen][None])[0]
    return float((exact.log_density[chosen] - answered).mean())
