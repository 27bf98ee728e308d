"""How the stated error of a learned likelihood compares with the true one, for usual and for rare data.

    python -m research.evaluation.learned.errors --cases 400 --seed 1

A case is a prior, one observation, and the exact posterior as weighted points of the prior. Of half the cases, the
true state comes from a prior three times as wide, so that rare data are there. The true error is
KL(prior × exact likelihood ‖ prior × learned likelihood). What it is compared with is what an update would add to
`accumulated_error`: `tracking.learned_likelihoods`, by the p-value of the data.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood import example_problems
from beliefstream.inference.likelihood.learned import weights
from beliefstream.inference.likelihood.problem_functions import Learned, ProblemFunction
from beliefstream.inference.likelihood.problems import name_of
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.published.priors import drawn_mixtures
from beliefstream.inference.tracking.learned_likelihoods import TAIL, Trust

SHIPPED = ("RadiationSource", "ProximityDetector")
POINTS = 20_000  # of the prior
LEAST = 200.0  # effective points of an exact posterior; a case with fewer is left out
SIMULATED, EVALUATED = 1_000, 200  # data that give the p-value; points of the prior that give their density
WIDER = 3.0  # of the prior that true states of rare data come from
COMPONENTS = 3  # most components of a prior
HEAD = "| p-value | cases | true | counted | share above | worst |\n|---|---:|---:|---:|---:|---:|"
BINS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.0)  # ends of the p-value


class Case(NamedTuple):
    """P-value of the data, the true error in nats, and the one that an update would count."""

    p_value: float
    true: float
    counted: float


def measured(exact: ProblemFunction, learned: Learned, count: int, seed: int) -> Iterator[Case]:
    """Measure `count` cases of a problem that has a likelihood beside the learned one; too thin ones are left out."""
    generator = torch.Generator().manual_seed(seed)
    size = len(exact.parameters)
    low, high = learned.low[:size], learned.high[:size]
    trust = Trust(learned.expected_error, 0.0, learned.expected_error)
    priors = drawn_mixtures(low, high, count, COMPONENTS, generator)
    for case in range(count):
        prior = priors.rows(torch.tensor([case]))
        wide = GaussianMixture(prior.log_weights, prior.means, WIDER**2 * prior.covariances)
        share = torch.rand(len(learned.low) - size, generator=generator, dtype=torch.float64)
        context = learned.low[size:] + (learned.high - learned.low)[size:] * share
        truth = (wide if case % 2 else prior).sample(1, generator)[0]
        truth = torch.minimum(torch.maximum(truth, low), high)
        data = exact.simulate(truth, context[None], generator)[0]
        points = prior.sample(POINTS, generator)[0]
        found = divergence(exact, learned, points, torch.cat([data, context]))
        if found is not None:
            p_value = p_value_of(exact, points, data, context, generator)
            yield Case(p_value, found, trust.for_data(p_value).counted)


def divergence(exact: ProblemFunction, learned: Learned, points: Tensor, numbers: Tensor) -> float | None:
    """KL(prior × exact ‖ prior × learned) in nats on points of the prior; None if too few of them count.

    None too where a posterior would say `outside_training`: more than `TAIL` of it lies beyond an end of the range.
    """
    repeated = numbers.expand(len(points), -1)
    true = exact.log_likelihood(points, repeated)
    share = torch.softmax(true, 0)
    if not bool(share.isfinite().all()) or float(1 / share.square().sum()) < LEAST:
        return None
    size = points.shape[1]
    beyond = [points < learned.low[:size], points > learned.high[:size]]
    if max(float((share[:, None] * each).sum(0).max()) for each in beyond) > TAIL:
        return None
    with torch.no_grad():
        gap = torch.where(share > 0, true - learned(points, repeated), 0.0)
    return float((share * gap).sum() + torch.logsumexp(share.log() - gap, 0))


def p_value_of(
    exact: ProblemFunction, points: Tensor, data: Tensor, context: Tensor, generator: torch.Generator
) -> float:
    """P-value of the data: the share of simulated data with no more predictive density."""
    known = context.expand(SIMULATED, -1)
    drawn = torch.cat([exact.simulate(points[:SIMULATED], known, generator), data[None]])
    at = points[-EVALUATED:]
    numbers = torch.cat([drawn, context.expand(len(drawn), -1)], -1).repeat_interleave(len(at), 0)
    density = exact.log_likelihood(at.repeat(len(drawn), 1), numbers).view(len(drawn), -1).logsumexp(1)
    return float((1 + (density[:-1] <= density[-1] + 1e-9).sum()) / (1 + SIMULATED))


def table(cases: list[Case]) -> list[str]:
    """Rows of a table by p-value: cases, mean true and mean counted error in nats, and how often the first is more."""
    rows = []
    for high, low in itertools.pairwise(BINS):
        some = np.array([each for each in cases if low < each.p_value <= high])
        if len(some):
            true, counted = some[:, 1], some[:, 2]
            error = true.std(ddof=1) / math.sqrt(len(some)) if len(some) > 1 else math.nan
            rows.append(
                f"| {low:g} to {high:g} | {len(some)} | {true.mean():.5f} ± {error:.5f} | {counted.mean():.5f} "
                f"| {(true > counted).mean():.2f} | {true.max():.4f} |"
            )
    return rows


def main() -> None:
    """Print a table for each problem that ships."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    folder = Path(str(resources.files(example_problems)))
    for name in SHIPPED:
        problem = getattr(example_problems, name)()
        function = ProblemFunction.of(problem)
        learned = weights.load(folder / f"{name}.safetensors", name_of(problem), function)
        print(f"\n{name}\n\n{HEAD}")
        print("\n".join(table(list(measured(function, learned, given.cases, given.seed)))))


if __name__ == "__main__":
    main()
