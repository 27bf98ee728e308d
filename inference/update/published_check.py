"""Check and refinement of answers of the published form, by importance sampling against a likelihood.

The points come from the answer, the answer with wider covariances, and the prior. Their weights are prior × likelihood
/ proposal. The measure of quality and the steps of refinement are those of `importance` and `refinement`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.network.published.priors import Priors
from beliefstream.inference.update.fallback import finite
from beliefstream.inference.update.importance import WIDENING, Quality, Weighted, quality, systematic
from beliefstream.inference.update.refinement import maximise

SHARES = (0.5, 0.2)  # of the points: answer, widened answer; the rest are of the prior
POINTS = 2_048
GOOD = 0.95  # effective sample size from which an answer is not refined
ROUNDS, STEPS = 8, 3  # of refinement: draws of points, and steps of expectation-maximisation for each
CHECK = 7_919  # seed of the points that choose
REPORT = 104_729  # of those that measure what was chosen: the points of a choice flatter it


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
    unused = parts.new_zeros(len(points), 1, count)
    return Weighted(
        points, log_prior + likelihood, torch.logsumexp(parts + shares.log(), -1), log_answer, unused
    )


def checked(
    priors: Priors, function: ProblemFunction, numbers: Tensor, answer: GaussianMixture, points: int = POINTS
) -> Checked:
    """Measure the answers, and refine poor ones; a refined one is kept only where other points say it is better.

    What was refined is measured again, on fresh points.

    Raises:
        ProblemError: the likelihood fails.
        ValueError: the likelihood is zero at all points of a problem.
    """
    found = weighed(priors, function, numbers, answer, points, CHECK)
    if bool((found.target.amax(1) == -math.inf).any()):
        raise ValueError("data: their likelihood is zero in every state of the prior that was tried")
    best, reached = answer, quality(found)
    refined = torch.zeros_like(reached.effective_sample_size, dtype=torch.bool)
    current = answer
    for turn in range(ROUNDS):
        if bool((reached.effective_sample_size >= GOOD).all()):
            break
        drawn = weighed(priors, function, numbers, current, points, 101 + 10 * turn)
        for _ in range(STEPS):
            current = maximise(current, drawn)
        current = current.where(finite(current)[:, None], best)  # no point may have been possible
        after = quality(weighed(priors, function, numbers, current, points, CHECK))
        better = after.effective_sample_size > reached.effective_sample_size
        best = current.where(better[:, None], best)
        reached = Quality(*(torch.where(better, new, old) for new, old in zip(after, reached, strict=True)))
        refined = refined | better
    if bool(refined.any()):
        reached = quality(weighed(priors, function, numbers, best, points, REPORT))
    return Checked(best, reached, refined)
