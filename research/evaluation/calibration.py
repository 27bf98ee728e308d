"""Calibration of beliefs: simulation-based calibration and coverage.

Draw a state from the prior, and observations of it. Given the observations, that state is a draw of the posterior. So
if the answers are the exact posteriors, then over many problems

- the *rank* of the true state's coordinate among draws of the answer is uniform (Talts, Betancourt, Simpson, Vehtari
  and Gelman, "Validating Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788, 2018). For
  a mixture, the rank among infinitely many draws is known: the mass below the true coordinate;
- the *level* of the true state (`inference.mixtures.coverage`), which is of all coordinates together, is uniform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from scipy import stats
from torch import Tensor

from beliefstream.inference.mixtures.coverage import REGIONS, inside, levels
from beliefstream.inference.mixtures.mixture import GaussianMixture
from research.evaluation.methods import ComparedMethod
from research.evaluation.problems import held_out_problems, rows
from research.evaluation.progress import Progress, silent

BINS = 20
SEED = 1  # seed of the problems, different from that of the accuracy tables


class Uniformity(NamedTuple):
    """Distance of numbers from the uniform distribution on [0, 1]."""

    chi_square: float  # of `BINS` bins, with BINS − 1 degrees of freedom
    probability: float  # p-value of the chi-square
    distance: float  # Kolmogorov distance of the distribution functions
    critical: float  # Kolmogorov distance that uniform numbers exceed in 5 % of cases


class Coverage(NamedTuple):
    """Share of true states inside the highest-density region of mass `region`."""

    region: float
    share: float
    standard_error: float


@dataclass(frozen=True)
class Calibration:
    """Calibration of one method on ``P`` problems: ranks ``(P, d)`` and levels ``(P,)``, all between 0 and 1."""

    method: str
    dimension: int
    ranks: Tensor
    levels: Tensor

    @property
    def count(self) -> int:
        return len(self.levels)

    def uniformity(self) -> list[Uniformity]:
        """Return the uniformity of the ranks of each coordinate, and of the levels as the last row."""
        return [uniformity(values) for values in (*self.ranks.T, self.levels)]

    def coverage(self) -> list[Coverage]:
        """Return the coverage of each region."""
        found = []
        for region in REGIONS:
            share = float(inside(self.levels, region).mean())
            found.append(Coverage(region, share, math.sqrt(share * (1 - share) / self.count)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return the result as a JSON value, with histograms instead of single problems."""
        return {
            "method": self.method,
            "dimension": self.dimension,
            "problems": self.count,
            "uniformity": [row._asdict() for row in self.uniformity()],
            "coverage": [row._asdict() for row in self.coverage()],
            "histograms": [histogram(values).int().tolist() for values in (*self.ranks.T, self.levels)],
        }


def coverage_over(levels: Tensor) -> list[Coverage]:
    """Return the coverage of each region by levels ``(S, E)`` of several steps.

    The standard error is over the entities, because the steps are not independent.
    """
    found = []
    for region in REGIONS:
        by_entity = inside(levels, region).mean(0)
        error = float(by_entity.std()) / len(by_entity) ** 0.5 if len(by_entity) > 1 else 0.0
        found.append(Coverage(region, float(by_entity.mean()), error))
    return found


def histogram(values: Tensor) -> Tensor:
    """Count numbers between 0 and 1 in `BINS` bins of equal width, ``(BINS,)``."""
    return torch.histc(values.double(), BINS, 0.0, 1.0)


def uniformity(values: Tensor) -> Uniformity:
    """Return the uniformity of numbers ``(P,)`` between 0 and 1."""
    square = stats.chisquare(histogram(values).numpy())
    distance = stats.kstest(values.double().numpy(), "uniform").statistic
    critical = 1.358 / math.sqrt(len(values))
    return Uniformity(float(square.statistic), float(square.pvalue), float(distance), critical)


def ranks(answer: GaussianMixture, truth: Tensor) -> Tensor:
    """Return the mass below each coordinate of `truth` ``(B, d)``, ``(B, d)``."""
    deviation = answer.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    below: Tensor = torch.special.ndtr((truth[:, None] - answer.means) / deviation)
    return (answer.log_weights.softmax(1)[..., None] * below).sum(1)


def calibrate(
    methods: Sequence[ComparedMethod],
    dimension: int,
    count: int,
    family: str = "mixed",
    progress: Progress = silent,
) -> list[Calibration]:
    """Compute the calibration of each method on the same `count` held-out problems.

    Raises ValueError if a method does not answer with a mixture, or the family or the count is invalid.
    """
    problems = held_out_problems(family, dimension, count, SEED)
    found = []
    for method in methods:
        generator = torch.Generator().manual_seed(SEED)
        parts: list[tuple[Tensor, Tensor]] = []
        for index in torch.split(torch.arange(count), method.batch):
            some = rows(problems, index)
            answer = method.respond(some.prior, some.observations, int(index[0])).mixture
            if answer is None:
                raise ValueError(f"methods: {method.name} does not answer with a mixture")
            parts.append((ranks(answer, some.state), levels(answer, some.state, generator)))
            progress(f"calibration of {method.name}, d = {dimension}", int(index[-1]) + 1, count)
        both = [torch.cat(column) for column in zip(*parts, strict=True)]
        found.append(Calibration(method.name, dimension, *both))
    return found
