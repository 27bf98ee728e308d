"""Scan of the prior: where the observations may agree, and what mass of the posterior an answer lacks there.

Points are spread over the prior, each standing for a cell, and the likelihood is smoothed over that cell. Slope and
curvature say how much a residual varies within a cell; that variance adds to the noise. So the scan sees a ring thinner
than the distance between points, and each crossing of two rings. Places are then drawn in proportion. An answer is
smoothed over the same cells, exactly: with F the factor of a cell's covariance, each component becomes
``N(x; m, P + F Fᵀ)``.

The posterior may lie in the tails of the prior, where few of its points are. Around a range or a bearing, searches
find such places. For measurement functions, some points are of a wider prior.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood import native_observations
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.likelihood.problem_functions import smoothed
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture, beside, log_density
from beliefstream.inference.update.check.importance import (
    WIDENING,
    Seed,
    normal_points,
    systematic_places,
)

# Without another source, a number was set on hard problems, of the seeds that docs/adversarial.md names.
POINTS, PLACES = 1024, 192  # spread over the prior; drawn from them
LEAST = 1e-5  # share of the posterior above which a cell may be drawn evenly
SLACK = 3.0  # nats by which smoothing alone may make an answer look too low
TAIL = 0.2417  # share of the points from widened components
EVENLY = 0.4417  # share of the points that is spread evenly over the components; see `importance.EVENLY`
MOST = 3.0  # largest factor by which a cell far from the mean is wider than one at the mean


class Scan(NamedTuple):
    """``M`` places per problem, drawn in proportion to the posterior smoothed over cells."""

    points: Tensor  # (B, M, d)
    factors: Tensor  # Cholesky factors of the cells' covariances, (B, M, d, d)
    log_target: Tensor  # log of prior × likelihood, smoothed over the cell, (B, M)
    share: Tensor  # of the posterior in each cell, (B, M)
    log_evidence: Tensor  # estimated from the cells, (B,)

    def starts(self) -> Tensor:
        """A point ``(B, M, d)`` of each cell."""
        batch, count, size = self.points.shape
        noise = normal_points(count, size, Seed.SCAN_STARTS)
        return self.points + la.times(self.factors, noise.expand(batch, -1, -1))

    def smoothed(self, answer: GaussianMixture) -> Tensor:
        """Log density of an answer, smoothed over each cell, ``(B, M)``."""
        return over_cells(answer, self.points, self.factors)

    def missed(self, answer: GaussianMixture, log_evidence: Tensor) -> Tensor:
        """Divergence in nats caused by what an answer leaves out, at the resolution of the scan, by cell ``(B, M)``.

        The answer is smoothed over the same cells. Differences within `SLACK` nats may come from smoothing and do not
        count. `log_evidence` ``(B,)`` is an estimate by importance sampling. It is better for sharp peaks, whose cells
        are few. The scan's own counts only where the cells that the answer lacks have more.
        """
        given, answered = log_evidence, self.smoothed(answer)
        lacking = self.log_target - given[:, None] - answered > SLACK
        own = self.log_evidence + torch.where(lacking, self.share, 0.0).sum(1).log()
        evidence = torch.maximum(given, own)
        off = self.log_target - evidence[:, None] - answered
        share = self.share * (self.log_evidence - evidence).exp()[:, None]
        missed = share * torch.where(off > SLACK, off, 0.0)
        # an answer without an evidence has no quality to lower; a scan that is NaN confirms no answer
        unknown = log_evidence.isnan()
        return torch.where(unknown[:, None], 0.0, torch.nan_to_num(missed, nan=math.inf))


def scan(
    prior: GaussianMixture, observations: Observations, count: int = PLACES, points: int = POINTS
) -> Scan:
    """Scan for `count` places per problem; `prior` ``(B, K, d)`` and `observations` share coordinates, float64.

    `points` is how many are spread over the prior, at least `count`.
    """
    # a search cannot start around functions
    size, tails = prior.dimension, observations.has_functions
    whole = _proposal(prior, tails)
    shares, factors = whole.log_weights.exp(), whole.factors()
    source = systematic_places(shares, points)
    row = torch.arange(prior.batch)[:, None]
    noise = normal_points(points, size, Seed.SCAN)
    spread = whole.means[row, source] + la.times(factors[row, source], noise.expand(prior.batch, -1, -1))
    # points are sparser far from a mean: a cell's width is the root of its volume
    wide = (la.squared_norm(noise) / (2 * size)).exp().clamp(max=MOST)
    cell = wide * (shares.gather(1, source) * points).pow(-1 / size)
    drawn = log_density(whole, factors, spread)
    if bool(tails.any()):  # a component lies in its widened one, whose own points are sparser
        volume = la.log_diagonal(factors).gather(1, source) + drawn + math.log(points) + size * LOG_TWO_PI / 2
        cell = torch.where(tails[:, None], torch.minimum(cell, (-volume / size).exp()), cell)
    frames = factors[row, source] * cell[..., None, None]
    log_prior = log_density(prior, prior.factors(), spread)
    target = log_prior + _smoothed(observations, spread, frames)
    log_weight = target - drawn - math.log(points)
    evidence = torch.logsumexp(log_weight, 1)
    return _chosen(spread, frames, target, log_weight - evidence[:, None], evidence, count)


def _proposal(prior: GaussianMixture, tails: Tensor) -> GaussianMixture:
    """What points are drawn from: the components with more even weights; with `tails` ``(B,)`` also widened."""
    even = prior.present / prior.present.sum(1, keepdim=True)
    shares = (1 - EVENLY) * torch.softmax(prior.log_weights, 1) + EVENLY * even
    if not bool(tails.any()):
        return replace(prior, log_weights=shares.log())
    part = torch.where(tails, TAIL, 0.0)[:, None].to(shares)
    plain = replace(prior, log_weights=((1 - part) * shares).log())
    return beside([plain, GaussianMixture((part * shares).log(), prior.means, WIDENING * prior.covariances)])


def _chosen(
    points: Tensor,
    frames: Tensor,
    target: Tensor,
    log_share: Tensor,
    log_evidence: Tensor,
    count: int,
) -> Scan:
    """Choose `count` of the points: half evenly, half by the square root of the smoothed posterior.

    In proportion to the posterior itself, a small part would get few places, and soon none.
    """
    share = torch.nan_to_num(log_share.exp(), nan=1 / points.shape[1])
    alive, root = (share > LEAST).to(share), share.sqrt()
    flat = (root / root.sum(1, keepdim=True) + alive / alive.sum(1, keepdim=True)) / 2
    chosen = systematic_places(flat, count)
    row = torch.arange(len(points))[:, None]
    each = share.gather(1, chosen) / flat.gather(1, chosen)
    return Scan(
        points[row, chosen],
        frames[row, chosen],
        target.gather(1, chosen),
        each / each.sum(1, keepdim=True),
        log_evidence,
    )


def _smoothed(observations: Observations, points: Tensor, frames: Tensor) -> Tensor:
    """Log likelihood ``(B, P)`` of all observations at `points`, each smoothed over cells `frames` ``(B, P, d, d)``."""
    numbers, at = observations.at(points)
    cells = frames.reshape(*at.shape[:2], *frames.shape[2:])
    total = native_observations.smoothed(numbers, at, cells)[0].view(points.shape[:2])
    if observations.likelihoods is None:
        return total
    own = (observations.likelihoods.present & observations.mask)[:, None]
    mean, _ = smoothed(_within(observations, points, frames))
    return total + torch.where(own, mean, 0.0).sum(-1)


def _within(observations: Observations, points: Tensor, frames: Tensor) -> Tensor:
    """Log likelihoods of each observation at the cubature points ``x ± √d F_i`` of each cell, ``(B, P, N, 2d)``."""
    batch, count, size = points.shape
    steps = math.sqrt(size) * frames.mT
    inside = torch.cat([points[:, :, None] + steps, points[:, :, None] - steps], 2)
    each = observations.residuals(inside.view(batch, -1, size)).log_likelihood
    return each.view(batch, count, 2 * size, -1).mT


def over_cells(mixture: GaussianMixture, points: Tensor, factors: Tensor) -> Tensor:
    """Log density ``(B, P)`` at `points` ``(B, P, d)``, each smoothed over its cell with `factors` ``(B, P, d, d)``."""
    cells = factors @ factors.mT
    total = torch.full(points.shape[:2], -math.inf, dtype=points.dtype)
    for k in range(mixture.components):  # all at once take gigabytes
        wider = la.cholesky(mixture.covariances[:, k, None] + cells, torch.finfo(points.dtype).tiny)
        offset = la.times(la.invert_lower(wider), points - mixture.means[:, k, None])
        log = mixture.log_weights[:, k, None] - la.log_diagonal(wider) - 0.5 * la.squared_norm(offset)
        total = torch.logaddexp(total, log)
    return total - 0.5 * points.shape[-1] * LOG_TWO_PI
