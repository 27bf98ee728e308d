"""Calibration of beliefs: simulation-based calibration and coverage.

Draw a state from the prior, and observations of it. Given the observations, that state is a draw of the posterior. So
if the answers are the posteriors, over many problems

- the *rank* of the true state's coordinate among draws of the answer is uniform (Talts, Betancourt, Simpson, Vehtari
  and Gelman, "Validating Bayesian inference algorithms with simulation-based calibration", arXiv 1804.06788, 2018). For
  a mixture, the rank among infinitely many draws is known: the mass below the true coordinate;
- the *level* of the true state is uniform: the mass of the points where the answer is denser, over all coordinates at
  once. It is the rank among draws of the answer, by its own density. The highest-density region of mass p contains the
  truth if the level is at most p.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.evaluation.methods import ComparedMethod
from beliefstream.inference.evaluation.problems import held_out_problems, rows
from beliefstream.inference.mixtures.mixture import GaussianMixture

REGIONS = (0.5, 0.9, 0.99)
BINS = 20
DRAWS = 999  # per answer: of 1 000 ranks, each region has a whole number
SEED = 1  # of the problems; different from that of the tables

Progress = Callable[[str, int, int], None]


class Uniformity(NamedTuple):
    """Distance of numbers from the uniform distribution on [0, 1]."""

    chi_square: float  # of `BINS` bins, with BINS − 1 degrees of freedom
    probability: float  # p-value: of at least this chi-square if they are uniform
    distance: float  # Kolmogorov's, between the distribution functions
    critical: float  # distance that uniform numbers exceed in 5 % of cases


class Coverage(NamedTuple):
    """Share of true states inside the answers' highest-density region of a mass."""

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
        """Uniformity of the ranks, one row per coordinate, and of the levels as the last row."""
        return [uniformity(values) for values in (*self.ranks.T, self.levels)]

    def coverage(self) -> list[Coverage]:
        """Coverage, one row per region."""
        found = []
        for region in REGIONS:
            share = float(inside(self.levels, region).mean())
            found.append(Coverage(region, share, math.sqrt(share * (1 - share) / self.count)))
        return found

    def as_dict(self) -> dict[str, Any]:
        """As a JSON value, with histograms in place of single problems."""
        return {
            "method": self.method,
            "dimension": self.dimension,
            "problems": self.count,
            "uniformity": [row._asdict() for row in self.uniformity()],
            "coverage": [row._asdict() for row in self.coverage()],
            "histograms": [histogram(values).int().tolist() for values in (*self.ranks.T, self.levels)],
        }


def inside(levels: Tensor, region: float) -> Tensor:
    """1 where the region of this mass contains the truth, else 0; float64."""
    return (levels < region - 0.5 / (DRAWS + 1)).double()


def histogram(values: Tensor) -> Tensor:
    """Count numbers between 0 and 1 in `BINS` bins of equal width."""
    return torch.histc(values.double(), BINS, 0.0, 1.0)


def uniformity(values: Tensor) -> Uniformity:
    """Uniformity of numbers ``(P,)`` between 0 and 1."""
    count = len(values)
    expected = count / BINS
    chi_square = (histogram(values) - expected).square().sum() / expected
    tail = torch.special.gammaincc(torch.tensor((BINS - 1) / 2).double(), chi_square.double() / 2)
    ordered = values.double().sort().values
    steps = torch.arange(count + 1, dtype=torch.float64) / count
    distance = torch.maximum((ordered - steps[:-1]).max(), (steps[1:] - ordered).max())
    return Uniformity(float(chi_square), float(tail), float(distance), 1.358 / math.sqrt(count))


def ranks(answer: GaussianMixture, truth: Tensor) -> Tensor:
    """Mass below each coordinate of `truth` ``(B, d)``; returns ``(B, d)``."""
    deviation = answer.covariances.diagonal(dim1=-2, dim2=-1).sqrt()
    below: Tensor = torch.special.ndtr((truth[:, None] - answer.means) / deviation)
    return (answer.log_weights.softmax(1)[..., None] * below).sum(1)


def levels(answer: GaussianMixture, truth: Tensor, generator: torch.Generator) -> Tensor:
    """Mass of the points denser than `truth` ``(B, d)``, as their share among `DRAWS` draws and the truth; ``(B,)``."""
    draws = answer.normalised().sample(DRAWS, generator)
    denser = (answer.log_density(draws) > answer.log_density(truth[:, None])).sum(1)
    return denser.double() / (DRAWS + 1)


def calibrate(
    methods: Sequence[ComparedMethod],
    dimension: int,
    count: int,
    family: str = "mixed",
    seed: int = SEED,
    progress: Progress | None = None,
) -> list[Calibration]:
    """Calibrate every method that answers with a mixture, on the same held-out problems.

    `progress` is called with the current task, the number of problems done, and the total.

    Raises:
        ValueError: for a method that does not answer with a mixture, or an unknown family, count or seed.
    """
    problems = held_out_problems(family, dimension, count, seed)
    found = []
    for method in methods:
        generator = torch.Generator().manual_seed(seed)
        parts: list[tuple[Tensor, Tensor]] = []
        for index in torch.split(torch.arange(count), method.batch):
            some = rows(problems, index)
            answer = method.respond(some.prior, some.observations, int(index[0])).mixture
            if answer is None:
                raise ValueError(f"methods: {method.name} does not answer with a mixture")
            parts.append((ranks(answer, some.state), levels(answer, some.state, generator)))
            if progress is not None:
                progress(f"calibration of {method.name}, d = {dimension}", int(index[-1]) + 1, count)
        both = [torch.cat(column) for column in zip(*parts, strict=True)]
        found.append(Calibration(method.name, dimension, *both))
    return found
