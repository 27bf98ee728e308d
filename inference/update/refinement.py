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

from beliefstream.inference.mixtures import linear_algebra as la, native_maximisation
from beliefstream.inference.mixtures.mixture import (
    GaussianMixture,
    beside,
    component_log_density,
    concatenate,
)
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.update.importance import Weighted, local_covariances
from beliefstream.inference.update.local_problem import LocalProblem

OLD_POINTS = 12.0  # effective points that a component's old shape counts for
LEAST_WEIGHT, MOST_ADDED = 1e-3, 0.9  # total weight of the added components in the answer
LEAST_MASS, LEAST = 1e-6, 1e-20  # a component of less mass stays as it is; least divisor
FLOOR = 1e-18  # of a covariance, relative to its previous trace
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
    for rows in torch.split(torch.arange(answer.batch, device=answer.means.device), max(1, CHUNK // points)):
        some, mixture = local.rows(rows.cpu()), answer.rows(rows)
        for turn in range(rounds):
            weighted = some.weigh(mixture, points, seed=101 + 10 * turn)
            if turn == 0 and added:
                mixture = add_components(some, mixture, weighted, added)
            for _ in range(steps):
                mixture = maximise(mixture, weighted)
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
    cumulative = (missing.cumsum(1) / total.clamp_min(1e-12)).contiguous()
    ticks = (torch.arange(count, device=share.device, dtype=share.dtype) + 0.5) / count
    index = torch.searchsorted(cumulative, ticks.expand(len(share), count).contiguous())
    index = index.clamp(max=share.shape[1] - 1)
    row = torch.arange(len(share), device=share.device)[:, None]
    means = weighted.points[row, index]
    origin = weighted.prior_components.mT[row, index].argmax(-1)
    covariances = local_covariances(means, local.prior.covariances[row, origin], local.observations)
    taken = total.clamp(LEAST_WEIGHT, MOST_ADDED)
    log_weights = (taken / count).log().expand(-1, count)
    return beside([answer.scaled_by((1 - taken).log()), GaussianMixture(log_weights, means, covariances)])


def maximise(answer: GaussianMixture, weighted: Weighted) -> GaussianMixture:
    """One weighted expectation-maximisation step."""
    share = torch.softmax(weighted.target - weighted.proposal, 1)
    factors = answer.factors()
    given = answer, factors, weighted.points, share, OLD_POINTS
    find = native_maximisation.moments if is_native(factors, weighted.points, share) else moments
    mass, old, means, scatter = find(*given)
    kept = answer.covariances + la.outer(answer.means - means, answer.means - means)
    part = old[..., None, None]
    covariances = (1 - part) * scatter / mass.clamp_min(LEAST)[..., None, None] + part * kept
    # relative to the component before: noise can be a millionth of the prior
    least = FLOOR * la.trace(answer.covariances)[..., None, None]
    floor = least * torch.eye(answer.dimension, dtype=means.dtype, device=means.device)
    weights = mass + (0.5 / share.shape[1]) * answer.log_weights.exp() + 1e-9
    log_weights = (weights / weights.sum(1, keepdim=True)).log()
    return GaussianMixture(log_weights, means, la.symmetrise(covariances) + floor)


def moments(
    answer: GaussianMixture, factors: Tensor, points: Tensor, share: Tensor, old_points: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Moments of the points ``(B, P, d)`` that each component of an answer stands for.

    Args:
        answer: of ``K`` components; factors: of its covariances.
        points: weighted by `share` ``(B, P)``.
        old_points: how many effective points a component's old shape counts for.

    Returns:
        The mass ``(B, K)``, the share of its old shape that a component keeps ``(B, K)``, the new mean ``(B, K, d)``,
        and the scatter about it ``(B, K, d, d)``, not divided by the mass.
    """
    logs = answer.log_weights[..., None] + component_log_density(points, answer.means, factors)
    responsibility = torch.softmax(logs, 1) * share[:, None]
    mass = responsibility.sum(2)
    effective = mass.square() / responsibility.square().sum(2).clamp_min(LEAST)
    old = torch.where(mass < LEAST_MASS, 1.0, old_points / (effective + old_points))
    found = (responsibility @ points) / mass.clamp_min(LEAST)[..., None]
    means = found + old[..., None] * (answer.means - found)
    offset = points.mT[:, None] - means[..., None]  # (B, J, d, P)
    return mass, old, means, (offset * responsibility[:, :, None]) @ offset.mT
