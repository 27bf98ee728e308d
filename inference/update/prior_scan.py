"""Scan of the prior for places where the observations may agree; the mode search starts there.

Points are spread over the prior, each standing for a cell, and the likelihood is smoothed over that cell. Slope and
curvature say how much a residual varies within a cell; that variance adds to the noise. So the scan sees a ring thinner
than the distance between points, and each crossing of two rings. Places are then drawn in proportion.

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
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.update import native_cells
from beliefstream.inference.update.importance import normal_points, systematic_places

POINTS, PLACES, SEED = 1024, 192, 601
MOST_SIDES = 16  # the most parts that a cell is divided into
HALF_WIDTH = math.sqrt(3)  # of a uniform density, in standard deviations
LEAST = 1e-5  # share of the posterior above which a cell is zoomed into
RESOLVED = 1.0  # variance of an observation over a cell, in units of the noise variance, that smooths little
EVENLY = 0.4417  # share of the points that is spread evenly over the components; see `mode_search.EVENLY`
SLACK = 3.0  # nats by which smoothing alone may make an answer look too low
TAIL, TAIL_WIDTH = 0.2417, 2.0  # share of the points from widened components, and how many times as wide
MOST = 3.0  # largest factor by which a cell far from the mean is wider than one at the mean


class Scan(NamedTuple):
    """``M`` places per problem, drawn in proportion to the posterior smoothed over cells."""

    points: Tensor  # (B, M, d)
    factors: Tensor  # Cholesky factors of the cells' covariances, (B, M, d, d)
    log_target: Tensor  # log of prior × likelihood, smoothed over the cell, (B, M)
    share: Tensor  # of the posterior in each cell, (B, M)
    change: Tensor  # largest variance of an observation over the cell, in units of its noise variance, (B, M)
    log_evidence: Tensor  # estimated from the cells, (B,)

    def rows(self, index: Tensor) -> Scan:
        """The scans of the problems at `index`."""
        return Scan(*(part[index] for part in self))

    def with_rows(self, index: Tensor, other: Scan) -> Scan:
        """Replace the scans at `index` by `other`."""
        return Scan(*(part.index_copy(0, index, new) for part, new in zip(self, other, strict=True)))

    def starts(self, count: int) -> Tensor:
        """`count` points ``(B, count, d)`` spread over the cells; `count` is at most ``M``."""
        some = slice(None, None, self.points.shape[1] // count)
        noise = normal_points(count, self.points.shape[2], SEED + 1).to(self.points)
        offset = la.times(self.factors[:, some][:, :count], noise.expand(len(self.points), -1, -1))
        return self.points[:, some][:, :count] + offset

    def resolves(self, parts: Tensor) -> Tensor:
        """Whether cells are small beside the noise for more than half of `parts` ``(B, M)``; ``(B,)`` bool."""
        return (parts * (self.change < RESOLVED)).sum(1) > 0.5 * parts.sum(1)

    def smoothed(self, answer: GaussianMixture) -> Tensor:
        """Log density of an answer, smoothed over each cell, ``(B, M)``."""
        answer = answer.to(dtype=torch.float64, device=self.points.device)
        return over_cells(answer, self.points, self.factors)

    def missed(self, answer: GaussianMixture, log_evidence: Tensor) -> Tensor:
        """Divergence in nats caused by what an answer leaves out, at the resolution of the scan, by cell ``(B, M)``.

        The answer is smoothed over the same cells. Differences within `SLACK` nats may come from smoothing and do not
        count. `log_evidence` ``(B,)`` is an estimate by importance sampling. It is better for sharp peaks, whose cells
        are few. The scan's own counts only where the cells that the answer lacks have more.
        """
        given, answered = log_evidence.to(self.points), self.smoothed(answer)
        lacking = self.log_target - given[:, None] - answered > SLACK
        own = self.log_evidence + torch.where(lacking, self.share, 0.0).sum(1).log()
        evidence = torch.maximum(given, own)
        off = self.log_target - evidence[:, None] - answered
        share = self.share * (self.log_evidence - evidence).exp()[:, None]
        missed = share * torch.where(off > SLACK, off, 0.0)
        # an answer without an evidence has no quality to lower; a scan that is NaN confirms no answer
        unknown = log_evidence.isnan().to(missed.device)
        return torch.where(unknown[:, None], 0.0, torch.nan_to_num(missed, nan=math.inf))


def over_cells(answer: GaussianMixture, points: Tensor, factors: Tensor) -> Tensor:
    """Log density ``(B, M)`` of an answer, smoothed over the cells at `points`."""
    if is_native(answer.means, points, factors):
        found: Tensor = native_cells.log_density(answer, points, factors)
        return found
    covariances = answer.covariances[:, None] + (factors @ factors.mT)[:, :, None]
    lower = la.cholesky(covariances, 0.0)  # (B, M, J, d, d)
    offset = la.times(la.invert_lower(lower), points[:, :, None] - answer.means[:, None])
    logs = -0.5 * la.squared_norm(offset) - la.log_diagonal(lower)
    logs = logs - 0.5 * answer.dimension * math.log(2 * math.pi) + answer.log_weights[:, None]
    return torch.logsumexp(logs, -1)


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
    row = torch.arange(prior.batch, device=source.device)[:, None]
    noise = normal_points(points, size, SEED).to(prior.means)
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
    smoothed, change = _smoothed(observations, spread, frames)
    target = log_prior + smoothed
    log_weight = target - drawn - math.log(points)
    evidence = torch.logsumexp(log_weight, 1)
    return _chosen(spread, frames, target, log_weight - evidence[:, None], evidence, change, count)


def _proposal(prior: GaussianMixture, tails: Tensor) -> GaussianMixture:
    """What points are drawn from: the components with more even weights; with `tails` ``(B,)`` also widened."""
    even = prior.present / prior.present.sum(1, keepdim=True)
    shares = (1 - EVENLY) * torch.softmax(prior.log_weights, 1) + EVENLY * even
    if not bool(tails.any()):
        return replace(prior, log_weights=shares.log())
    part = torch.where(tails, TAIL, 0.0)[:, None].to(shares)
    plain = replace(prior, log_weights=((1 - part) * shares).log())
    return beside(
        [plain, GaussianMixture((part * shares).log(), prior.means, TAIL_WIDTH**2 * prior.covariances)]
    )


def zoom(found: Scan, prior: GaussianMixture, observations: Observations) -> Scan:
    """Halve the width of the cells: split every cell in two along each axis, and draw places from the parts."""
    batch, count, size = found.points.shape
    sides = _sides(size).to(found.points)
    each = len(sides)
    offset = la.times(found.factors[:, :, None], (HALF_WIDTH / 2 * sides).expand(batch, count, -1, -1))
    points = (found.points[:, :, None] + offset).flatten(1, 2)
    frames = (found.factors / 2)[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2)
    smoothed, change = _smoothed(observations, points, frames)
    target = prior.log_density(points) + smoothed
    before = found.share.log() - found.log_target - math.log(each)
    log_weight = target + before.repeat_interleave(each, 1)
    more = torch.logsumexp(log_weight, 1)
    return _chosen(
        points, frames, target, log_weight - more[:, None], found.log_evidence + more, change, count
    )


def _sides(size: int) -> Tensor:
    """Directions of a cell's parts from its centre: all of them, or a sample if there would be too many."""
    if 2**size <= MOST_SIDES:
        return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * size).view(-1, size)
    signs = torch.sign(normal_points(MOST_SIDES // 2, size, SEED + 2))
    return torch.cat([signs, -signs])


def _chosen(
    points: Tensor,
    frames: Tensor,
    target: Tensor,
    log_share: Tensor,
    log_evidence: Tensor,
    change: Tensor,
    count: int,
) -> Scan:
    """Choose `count` of the points: half evenly, half by the square root of the smoothed posterior.

    In proportion to the posterior itself, a small part would get few places, and soon none.
    """
    share = torch.nan_to_num(log_share.exp(), nan=1 / points.shape[1])
    alive, root = (share > LEAST).to(share), share.sqrt()
    flat = (root / root.sum(1, keepdim=True) + alive / alive.sum(1, keepdim=True)) / 2
    chosen = systematic_places(flat, count)
    row = torch.arange(len(points), device=points.device)[:, None]
    each = share.gather(1, chosen) / flat.gather(1, chosen)
    return Scan(
        points[row, chosen],
        frames[row, chosen],
        target.gather(1, chosen),
        each / each.sum(1, keepdim=True),
        change.gather(1, chosen),
        log_evidence,
    )


def _smoothed(observations: Observations, points: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Log likelihood of all observations at `points`, each smoothed over the cells `frames` ``(B, P, d, d)``.

    Also returns the largest variance over a cell, in units of the noise variance. Both are ``(B, P)``.
    """
    numbers, at = observations.at(points)
    cells = frames.reshape(*at.shape[:2], *frames.shape[2:])
    found, change = (part.view(points.shape[:2]) for part in native_observations.smoothed(numbers, at, cells))
    if observations.likelihoods is None:
        return found, change
    own = (observations.likelihoods.present & observations.mask)[:, None]
    mean, variance = smoothed(_within(observations, points, frames))
    found = found + torch.where(own, mean, 0.0).sum(-1)
    return found, torch.maximum(change, torch.where(own, variance, 0.0).amax(-1))


def _within(observations: Observations, points: Tensor, frames: Tensor) -> Tensor:
    """Log likelihoods of each observation at the cubature points ``x ± √d F_i`` of each cell, ``(B, P, N, 2d)``."""
    batch, count, size = points.shape
    steps = math.sqrt(size) * frames.mT
    inside = torch.cat([points[:, :, None] + steps, points[:, :, None] - steps], 2)
    found = observations.residuals(inside.view(batch, -1, size)).log_likelihood
    return found.view(batch, count, 2 * size, -1).mT
