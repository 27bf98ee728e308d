"""Importance sampling: how far an answer is from the exact posterior.

Points x come from a defensive mixture r of the answer q, the answer with wider covariances, the prior, and Gaussians
where the observations agree, so that a mode which q misses is seen (T. Hesterberg, "Weighted Average Importance
Sampling and Defensive Mixture Distributions", Technometrics 37(2), 1995). With weights w = prior × likelihood / r,

    evidence Z = mean w,    E_p[f] = Σ w f / Σ w,    divergence KL(p ‖ q) = E_p[log(prior × likelihood / (Z q))].

The points are quasi-random and fixed, so the same problem gives the same result. All numbers are double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.native_arrays import Array
from beliefstream.inference.update.check.native_importance import (
    WIDENING as WIDENING,
    Counts,
    drawn_and_weighed,
)

# Shares of the points: answer, widened answer, prior, and Gaussians where the observations agree: those of the prior
# before a search, and many afterwards. A tenth each is a usual choice of Hesterberg's; others were not tuned.
SHARES, SEARCHED_SHARES = (0.55, 0.15, 0.10, 0.20), (0.35, 0.10, 0.10, 0.45)
# of an importance weight; about the square root of the points of a measure, as Ionides says
TRUNCATION = 30.0
WIDER = 0.1  # share of an answer's variance that a Gaussian as wide as the prior may add: it must not show
# a share of weight or points that is spread evenly; no simple fraction, or points would fall on the borders between
# components, and rounding would decide
EVENLY = 0.4183


class Seed(IntEnum):
    """Seeds of independent quasi-random sequences, one for each use; no other choice was tried."""

    CHECK = 11
    REFINEMENT = 101
    ALONG = 401
    VERIFICATION = 501
    UNOBSERVED = 502
    SCAN = 601
    SCAN_STARTS = 602
    SETS = 611
    REDUCTION = 701
    EVIDENCE = 703
    SIMULATED = 801
    EVALUATED = 802
    PUBLISHED_CHECK = 7_919
    PUBLISHED_REPORT = 104_729  # measures what was chosen: the points of a choice flatter it


@dataclass(frozen=True)
class Weighted:
    """Points with their log densities; `points` is ``(B, P, d)``, all others ``(B, P)``."""

    points: Tensor
    target: Tensor  # log of prior × likelihood, not normalised
    proposal: Tensor  # log density of the proposal
    answer: Tensor  # log density of the answer q


class Mixtures(NamedTuple):
    """What points are drawn from, all in the same coordinates."""

    answer: GaussianMixture
    prior: GaussianMixture
    images: GaussianMixture  # where the observations agree; the prior itself before a search


class Proposal(Protocol):
    """A further proposal, which need not be a mixture of Gaussians."""

    def draw(self, count: int, seed: int) -> Tensor:
        """`count` points of each problem, ``(B, count, d)``."""
        ...

    def log_density(self, points: Tensor) -> Tensor:
        """Log density at `points` ``(B, P, d)``; returns ``(B, P)``."""
        ...


class Quality(NamedTuple):
    """Quality of an answer, estimated on importance points; each field is ``(B,)``."""

    sample_efficiency: Tensor  # as a fraction of the points
    log_evidence: Tensor
    divergence: Tensor  # KL(exact ‖ answer) in nats
    deviation: Tensor  # standard error of `divergence`


@lru_cache(maxsize=64)
def normal_points(count: int, dimension: int, seed: int) -> Tensor:
    """`count` quasi-random points of a standard normal, ``(count, dimension)``."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    sobol: Tensor = engine.draw(count)
    return (torch.erfinv(2 * sobol.clamp(1e-4, 1 - 1e-4) - 1) * math.sqrt(2)).double()


def systematic_places(shares: Tensor, count: int) -> Tensor:
    """`count` places ``(B, count)`` in proportion to `shares` ``(B, K)``, which sum to one, in rising order."""
    cumulative = shares.cumsum(1)
    ticks = (torch.arange(count, dtype=cumulative.dtype) + 0.5) / count
    index = torch.searchsorted(cumulative, ticks.expand(shares.shape[0], count).contiguous())
    return index.clamp(max=shares.shape[1] - 1)


def systematic(mixture: GaussianMixture, factors: Tensor, count: int, seed: int) -> Tensor:
    """`count` points per entity, in proportion to the components' weights, ``(B, count, d)``."""
    index = systematic_places(torch.softmax(mixture.log_weights, -1), count)
    row, noise = torch.arange(mixture.batch)[:, None], normal_points(count, mixture.dimension, seed)
    return mixture.means[row, index] + la.times(factors[row, index], noise.expand(mixture.batch, -1, -1))


def weigh(
    mixtures: Mixtures,
    observations: Observations,
    count: int,
    seed: int,
    shares: tuple[float, ...] = SHARES,
    further: Proposal | None = None,
) -> Weighted:
    """Draw `count` points for every problem of the batch, by `shares`, and evaluate them.

    Where there is a `further` proposal, as many come from it as from the images after a search.
    """
    last = round(SEARCHED_SHARES[3] * count) if further else 0
    rest = count - last
    near, spread, before = (round(share * rest) for share in shares[:3])
    counts = near, spread, before, rest - near - spread - before
    noise, none = _noise(counts, mixtures.prior.dimension, seed), mixtures.prior.means[:, :0]
    given = further.draw(last, seed + len(counts)) if further else none
    points, log_prior, proposal, log_answer = drawn_and_weighed(mixtures, noise, counts, given)
    if further:
        parts = proposal + math.log(rest / count), further.log_density(points) + math.log(last / count)
        proposal = torch.logaddexp(*parts)
    return Weighted(points, log_prior + observations.log_likelihood(points), proposal, log_answer)


@lru_cache(maxsize=64)
def _noise(counts: Counts, dimension: int, seed: int) -> Array:
    """Points of a standard normal, a sequence for each of `counts`, one after another."""
    parts = [normal_points(count, dimension, seed + turn) for turn, count in enumerate(counts)]
    return torch.cat(parts).numpy()


def quality(weighted: Weighted) -> Quality:
    """Quality of the answer as a proposal.

    With p the exact posterior and q the answer, the sample efficiency is ``1 / E_p[min(p/q, 30)]``. It is 1 only if
    q = p. It is small if q misses mass of p, because the expectation is over the defensive points. Weights are
    truncated (E. L. Ionides, "Truncated Importance Sampling", J. Computational and Graphical Statistics 17(2), 2008).
    Without truncation, far tails without mass would dominate, and the result would say nothing about the distance. The
    divergence sees what truncation hides, so the bound here is ``exp(−2 KL)``: what it is for two near densities.

    The standard error is by the delta method for independent points; these points are spread more evenly.
    """
    log_weight, count = weighted.target - weighted.proposal, weighted.target.shape[1]
    share = torch.softmax(log_weight, 1)
    evidence = torch.logsumexp(log_weight, 1) - math.log(count)
    # undefined at a point without weight
    ratio = torch.where(share == 0, 0.0, weighted.target - weighted.answer - evidence[:, None])
    divergence = (share * ratio).sum(1)
    truncated = 1 / (share * ratio.clamp(max=math.log(TRUNCATION)).exp()).sum(1)
    size = torch.minimum(truncated, (-2 * divergence).exp()).clamp(0, 1)
    influence = share * (ratio - divergence[:, None] - 1) + 1 / count
    return Quality(size, evidence, divergence.clamp_min(0), influence.square().sum(1).sqrt())


def nearer(weighted: Weighted, before: GaussianMixture, after: GaussianMixture) -> Tensor:
    """By how many nats the answer `after` is nearer to the exact posterior than that `before`, ``(B,)``."""
    share = torch.softmax(weighted.target - weighted.proposal, 1)
    ratio = after.log_density(weighted.points) - before.log_density(weighted.points)
    return torch.where(share > 0, share * ratio, 0.0).sum(1)


def with_wide(answer: GaussianMixture, wide: GaussianMixture, most: float) -> GaussianMixture:
    """An answer beside one Gaussian as wide as the prior, in the order of their weights.

    It limits the cost of what an answer lacks. Its weight is `most`, or less where that would add more than `WIDER` of
    the answer's variance in all directions. Add it after a reduction, which would drop it.
    """
    mean, covariance = answer.moments()
    offset = wide.means[:, 0] - mean
    added = wide.covariances[:, 0] + la.outer(offset, offset)
    share = (WIDER / la.trace(la.invert(covariance) @ added)[:, None]).clamp_max(most)
    return beside([answer.scaled_by((-share).log1p()), wide.scaled_by(share.log())]).ordered()
