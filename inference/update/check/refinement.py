"""Refinement of poor answers: adaptive importance sampling with more components.

Points are drawn from a defensive proposal around the answer, and weighted by prior × likelihood / proposal. Components
are added where the points carry mass that the answer lacks. Then weighted expectation-maximisation steps move all
components (O. Cappé et al., "Adaptive importance sampling in general mixture classes", Statistics and Computing 18,
2008). A component supported by few points keeps most of its old shape: a maximum-likelihood fit to few points is too
narrow, and missing tails cost most.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.mixtures import native_maximisation
from beliefstream.inference.mixtures.mixture import (
    GaussianMixture,
    beside,
    component_log_densities,
    concatenate,
)
from beliefstream.inference.update.check.climb import local_covariances
from beliefstream.inference.update.check.importance import Seed, Weighted, systematic_places
from beliefstream.inference.update.check.local_problem import LocalProblem

# Without another source, a number was set on hard problems, of the seeds that docs/adversarial.md names.
OLD_POINTS = 12.0  # effective points that a component's old shape counts for
LEAST_ADDED, MOST_ADDED = 1e-3, 0.9  # total weight of components that are added where an answer lacks mass
CHUNK = 32_768  # points at once, so that they stay in the processor's cache


def refine(
    local: LocalProblem, answer: GaussianMixture, added: int, rounds: int, steps: int, points: int
) -> GaussianMixture:
    """Move an answer towards the exact posterior.

    Args:
        local: the problems, ``B`` of them.
        answer: ``(B, J)`` in their coordinates.
        added: number of components added where the answer lacks mass, before the first round.
        rounds: how often new points are drawn; steps: of expectation-maximisation per round; points: per round.
    """
    parts = []
    for rows in torch.split(torch.arange(answer.batch), max(1, CHUNK // points)):
        some, mixture = local.rows(rows), answer.rows(rows)
        for turn in range(rounds):
            weighted = some.weigh(mixture, points, Seed.REFINEMENT + 10 * turn)
            if turn == 0 and added:
                mixture = add_components(some, mixture, weighted, added)
            mixture = maximise(mixture, weighted, steps)
        parts.append(mixture)
    return concatenate(parts)


def add_components(
    local: LocalProblem, answer: GaussianMixture, weighted: Weighted, count: int
) -> GaussianMixture:
    """Add `count` components at points with mass that the answer lacks, ``p − q`` where positive."""
    log_weight = weighted.target - weighted.proposal
    share = torch.softmax(log_weight, 1)
    log_evidence = torch.logsumexp(log_weight, 1, keepdim=True) - math.log(share.shape[1])
    missing = share * (1 - (weighted.answer - weighted.target + log_evidence).clamp(max=0).exp())
    total = missing.sum(1, keepdim=True)
    index = systematic_places(missing / total.clamp_min(1e-12), count)
    row = torch.arange(len(share))[:, None]
    means = weighted.points[row, index]
    origin = component_log_densities(local.prior, local.prior.factors(), means).argmax(1)
    covariances = local_covariances(means, local.prior.covariances[row, origin], local.observations)
    taken = total.clamp(LEAST_ADDED, MOST_ADDED)
    log_weights = (taken / count).log().expand(-1, count)
    return beside([answer.scaled_by((1 - taken).log()), GaussianMixture(log_weights, means, covariances)])


def maximise(answer: GaussianMixture, weighted: Weighted, steps: int = 1) -> GaussianMixture:
    """Weighted expectation-maximisation steps."""
    log_weights = weighted.target - weighted.proposal
    return native_maximisation.maximised(answer, weighted.points, log_weights, OLD_POINTS, steps)


def finite(mixture: GaussianMixture) -> Tensor:
    """Which mixtures have a weight and only finite moments, ``(B,)`` bool."""
    # a place without a component has the weight 0, whose logarithm is not finite
    weight = torch.logsumexp(mixture.log_weights, 1, keepdim=True)
    parts = (weight, mixture.means.flatten(1), mixture.covariances.flatten(1))
    return torch.stack([part.isfinite().all(1) for part in parts]).all(0)
