"""Check and refinement of published answers: importance sampling against the likelihood.

Points come from the answer, the answer with wider covariances, and the prior, and their weights are
prior × likelihood / proposal. The measure of quality and the steps of refinement are those of `importance` and
`refinement`.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.published.priors import Priors
from beliefstream.inference.update.check.importance import (
    WIDENING,
    Quality,
    Seed,
    Weighted,
    quality,
    systematic,
)
from beliefstream.inference.update.check.refinement import finite, maximise
from beliefstream.inference.update.settings import UpdateSettings

REFINE_BELOW = UpdateSettings().refine_below  # of the sample efficiency
SHARES = (0.5, 0.2)  # of the points: answer, widened answer; the rest are of the prior
POINTS = 2_048
NOWHERE = "data: their likelihood is zero in every state of the prior that was tried"
LEAST, HALVINGS = 100, 30  # effective points of a refinement, and halvings of the power that leaves them
ROUNDS, IDLE = 24, 6  # of refinement: draws of points, and those without a gain after which it ends
STEPS = 3  # of expectation-maximisation with each draw


class Checked(NamedTuple):
    """Answers after the check, with their quality and whether they were refined ``(B,)``."""

    answer: GaussianMixture
    quality: Quality
    refined: Tensor


def weighed(
    priors: Priors,
    function: ProblemFunction,
    numbers: Tensor,
    answer: GaussianMixture,
    count: int,
    seed: int,
) -> Weighted:
    """Draw `count` points for each problem, and evaluate them; `numbers` ``(B, Q)`` are data, then context.

    Raises ProblemError if the likelihood fails.
    """
    near, spread = (round(share * count) for share in SHARES)
    factors = answer.factors()
    wide = GaussianMixture(answer.log_weights, answer.means, WIDENING * answer.covariances)
    generator = torch.Generator().manual_seed(seed)
    points = torch.cat(
        [
            systematic(answer, factors, near, seed),
            systematic(wide, wide.factors(), spread, seed + 1),
            priors.sample(count - near - spread, generator),
        ],
        1,
    )
    log_prior, log_answer = priors.log_density(points), answer.log_density(points)
    parts = torch.stack([log_answer, wide.log_density(points), log_prior], -1)
    shares = parts.new_tensor([near, spread, count - near - spread]) / count
    flat = points.flatten(0, 1)
    likelihood = function.log_likelihood(flat, numbers.repeat_interleave(count, 0)).view(log_prior.shape)
    return Weighted(points, log_prior + likelihood, torch.logsumexp(parts + shares.log(), -1), log_answer)


def tempered(drawn: Weighted) -> Weighted:
    """Raise the weights to the largest power up to 1 that leaves `LEAST` effective points, of those that are possible.

    Otherwise an answer far from the posterior would be fitted to the single point nearest to it (E. Koblents and J.
    Míguez, "A population Monte Carlo scheme with transformed weights and its application to stochastic kinetic
    models", Statistics and Computing 25, 2015).
    """
    logs = drawn.target - drawn.proposal
    possible = logs > -math.inf
    wanted = possible.sum(1, keepdim=True).clamp(max=LEAST)
    low, high = torch.zeros_like(logs[:, :1]), torch.ones_like(logs[:, :1])
    power = high
    for _ in range(HALVINGS):
        share = torch.softmax(torch.where(possible, power * logs, -math.inf), 1)
        enough = share.square().sum(1, keepdim=True) * wanted <= 1
        low, high = torch.where(enough, power, low), torch.where(enough, high, power)
        power = torch.where(low == 1, 1.0, (low + high) / 2)
    return replace(drawn, target=torch.where(possible, drawn.proposal + low * logs, -math.inf))


def checked(priors: Priors, function: ProblemFunction, numbers: Tensor, answer: GaussianMixture) -> Checked:
    """Measure the answers, and refine poor ones; a refined one is kept only where other points say it is better.

    What was refined is measured again, on fresh points.

    Raises:
        ProblemError: the likelihood fails.
        ValueError: the likelihood is zero at all points of a problem.
    """
    found = weighed(priors, function, numbers, answer, POINTS, Seed.PUBLISHED_CHECK)
    if bool((found.target.amax(1) == -math.inf).any()):
        raise ValueError(NOWHERE)
    best, reached = answer, quality(found)
    refined = torch.zeros_like(reached.sample_efficiency, dtype=torch.bool)
    current, idle = answer, torch.zeros_like(refined, dtype=torch.long)
    for turn in range(ROUNDS):
        active = (reached.sample_efficiency < REFINE_BELOW) & (idle < IDLE)
        if not bool(active.any()):
            break
        drawn = weighed(priors, function, numbers, current, POINTS, Seed.REFINEMENT + 10 * turn)
        current = maximise(current, tempered(drawn), STEPS)
        current = current.where(finite(current)[:, None], best)  # no point may have been possible
        after = quality(weighed(priors, function, numbers, current, POINTS, Seed.PUBLISHED_CHECK))
        better = active & (after.sample_efficiency > reached.sample_efficiency)
        best = current.where(better[:, None], best)
        reached = Quality(*(torch.where(better, new, old) for new, old in zip(after, reached, strict=True)))
        refined, idle = refined | better, torch.where(better, 0, idle + 1)
    if bool(refined.any()):
        reached = quality(weighed(priors, function, numbers, best, POINTS, Seed.PUBLISHED_REPORT))
    return Checked(best, reached, refined)
