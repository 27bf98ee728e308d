"""Update in the plane by hypotheses: which observations are outliers, and which part of its noise each other has.

Two thin rings cross at few places, but if one of both observations may be an outlier, all of the other's ring counts.
Such a ring has too many cells for `several_observations`. Under one hypothesis, every noise is one Gaussian: a single
ring is followed along its length (`polar_nodes`), and several of them leave mass only where they cross. So the
posterior is the sum of those under all hypotheses, weighted by their evidence. Its divergence is at most the weighted
sum of theirs, as that of Kullback and Leibler is convex, and what the reduction of the sum costs.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update.check.importance import with_wide
from beliefstream.inference.update.check.mode_search import widened_at, with_noise_of
from beliefstream.inference.update.closed.reduction_cost import divergence
from beliefstream.inference.update.problems import Problems, Solve
from beliefstream.inference.update.result import Answer, joined
from beliefstream.inference.update.settings import PLANE, UpdateSettings

MOST = 16  # hypotheses of an entity


class Hypotheses(NamedTuple):
    """The ``H`` hypotheses of an entity."""

    component: Tensor  # (H, N) of the noise of each observation
    outlier: Tensor  # (H, N) bool
    log_weight: Tensor  # (H,) log probability, with the densities of outliers that have a constant one


def can(problems: Problems) -> Tensor:
    """Entities whose observations touch one or two coordinates, without functions and problems, ``(B,)`` bool."""
    if not problems.settings.quadrature_below:
        return torch.zeros(problems.prior.batch, dtype=torch.bool)
    observations = problems.observations
    return (problems.touched_count <= PLANE) & ~observations.has_functions & ~observations.has_problem


def answer(problems: Problems, index: Tensor) -> Answer:
    """Answers to the entities at `index`, whose loss is infinite where they have not 2 to `MOST` hypotheses.

    `Problems.solve` answers those without outliers, whose noise has one part each.
    """
    prior, observations, parts = problems.prior, problems.observations, []
    for place, row in enumerate(index):
        given = prior.rows(row[None]), observations.rows_of(row[None])
        parts.append((torch.tensor([place]), _summed(*given, problems.solve, problems.settings)))
    return joined(parts)


def _summed(
    prior: GaussianMixture, observations: Observations, solve: Solve, settings: UpdateSettings
) -> Answer:
    """The answer to one problem; its loss is infinite if it has too few or too many hypotheses, or no evidence."""
    hypotheses = _hypotheses(observations)
    if hypotheses is None:
        return Answer.none(prior)
    seen = _under(observations, hypotheses)
    some = seen.mask.any(1)
    index = torch.nonzero(some)[:, 0]
    solved = solve(prior.rows(torch.zeros_like(index)), seen.rows_of(index))
    evidence = hypotheses.log_weight.clone()
    evidence[some] += solved.log_evidence
    total = torch.logsumexp(evidence, 0)
    if not bool(total.isfinite()):
        return Answer.none(prior)
    weight = evidence - total
    parts = [solved.posterior.scaled_by(weight[some, None])]
    if not bool(some.all()):  # all observations are outliers, and the prior is the answer
        parts.append(prior.scaled_by(weight[~some, None]))
    whole = _flattened(parts).ordered()  # the same in any order of the observations
    few = reduce(whole, settings.most_components - 1, settings.merge_below)
    few = with_wide(few, GaussianMixture.gaussian(*prior.moments()), settings.prior_share)
    lost = divergence(whole, few)
    share = weight[some].exp()
    off = lost + torch.where(share > 0, share * solved.lost, 0.0).sum()
    likeliest = solved.method[share.argmax()][None]
    return Answer.of(few, total[None], off, likeliest)


def _flattened(parts: list[GaussianMixture]) -> GaussianMixture:
    """One mixture of the components of all."""
    return GaussianMixture(
        torch.cat([part.log_weights.flatten() for part in parts])[None],
        torch.cat([part.means.flatten(0, 1) for part in parts])[None],
        torch.cat([part.covariances.flatten(0, 1) for part in parts])[None],
    )


def _hypotheses(observations: Observations) -> Hypotheses | None:
    """All hypotheses of one entity, in the order of its observations; None if there are too few or too many."""
    mask, doubt = observations.mask[0].tolist(), observations.outlier_probability[0]
    counts, linear = observations.noise_components[0].tolist(), observations.kind[0] == LINEAR
    parts = observations.mixture.log_weights[0].tolist() if observations.mixture is not None else []
    density = torch.where(linear, 0.0, observations.outlier_log_density[0])
    choices = []
    for n, used in enumerate(mask):
        weights = parts[n][: counts[n]] if counts[n] else [0.0]
        inliers = [(c, math.log1p(-float(doubt[n])) + each) for c, each in enumerate(weights)]
        outlier = [(-1, math.log(float(doubt[n])) + float(density[n]))] if doubt[n] > 0 else []
        choices.append([each for each in inliers + outlier if each[1] > -math.inf] if used else [(0, 0.0)])
    if not 1 < math.prod(map(len, choices)) <= MOST:
        return None
    each = list(itertools.product(*choices))
    chosen = torch.tensor([[c for c, _ in row] for row in each])
    log_weight = torch.tensor([sum(w for _, w in row) for row in each], dtype=torch.float64)
    return Hypotheses(chosen.clamp_min(0), chosen < 0, log_weight)


def _under(observations: Observations, hypotheses: Hypotheses) -> Observations:
    """The observations under each hypothesis, ``(H, N)``, without those that are outliers of a constant density."""
    out = hypotheses.outlier
    many = observations.rows_of(torch.zeros(len(out), dtype=torch.int64))
    linear = many.kind == LINEAR
    many = replace(
        widened_at(many, linear & out),
        mask=many.mask & (linear | ~out),
        outlier_probability=torch.zeros_like(many.outlier_probability),
    )
    return many if many.mixture is None else with_noise_of(many, hypotheses.component)
