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
    Weighted,
    normal_points,
    systematic_places,
)
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.result import Update, efficiency_at

# Without another source, a number was set on hard problems, of the seeds that docs/adversarial.md names.
POINTS, PLACES = 1024, 192  # spread over the prior; drawn from them, three for each start of a search
MOST_SIDES = 16  # the most parts that a cell is divided into
LEAST = 1e-5  # share of the posterior above which a cell may be drawn evenly
SLACK = 3.0  # nats by which smoothing alone may make an answer look too low
TAIL = 0.2417  # share of the points from widened components
EVENLY = 0.4417  # share of the points that is spread evenly over the components; see `importance.EVENLY`
ZOOMS = 20  # most zooms into a scan; each halves its cells, and noise may be a millionth of the prior: 2⁻²⁰
DOUBTFUL = 0.05  # nats missed, above which coarse cells are zoomed into in any case
MOST_AXES = 2  # with more, so many points do not resolve a lattice either
DENSE_POINTS = 4096  # of such a scan where functions may repeat: a lattice has many small images
MOST = 3.0  # largest factor by which a cell far from the mean is wider than one at the mean


class Scan(NamedTuple):
    """``M`` places per problem, drawn in proportion to the posterior smoothed over cells."""

    points: Tensor  # (B, M, d)
    factors: Tensor  # Cholesky factors of the cells' covariances, (B, M, d, d)
    log_target: Tensor  # log of prior × likelihood, smoothed over the cell, (B, M)
    share: Tensor  # of the posterior in each cell, (B, M)
    change: Tensor  # of a likelihood over the cell, as `native_observations.smoothed` measures it, (B, M)
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
        noise = normal_points(count, self.points.shape[2], Seed.SCAN_STARTS)
        offset = la.times(self.factors[:, some][:, :count], noise.expand(len(self.points), -1, -1))
        return self.points[:, some][:, :count] + offset

    def resolves(self, parts: Tensor) -> Tensor:
        """Whether smoothing changes little in more than half of `parts` ``(B, M)``; ``(B,)`` bool."""
        return (parts * (self.change < 1)).sum(1) > 0.5 * parts.sum(1)

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
    return beside([plain, GaussianMixture((part * shares).log(), prior.means, WIDENING * prior.covariances)])


def zoom(coarse: Scan, prior: GaussianMixture, observations: Observations) -> Scan:
    """Halve the width of the cells: split every cell in two along each axis, and draw places from the parts."""
    batch, count, size = coarse.points.shape
    sides = _sides(size)
    each = len(sides)
    # the centre of a half: a uniform density is √3 of its standard deviations wide on each side
    half = (math.sqrt(3) / 2 * sides).expand(batch, count, -1, -1)
    offset = la.times(coarse.factors[:, :, None], half)
    points = (coarse.points[:, :, None] + offset).flatten(1, 2)
    frames = (coarse.factors / 2)[:, :, None].expand(-1, -1, each, -1, -1).flatten(1, 2)
    smoothed, change = _smoothed(observations, points, frames)
    target = prior.log_density(points) + smoothed
    before = coarse.share.log() - coarse.log_target - math.log(each)
    log_weight = target + before.repeat_interleave(each, 1)
    more = torch.logsumexp(log_weight, 1)
    return _chosen(
        points, frames, target, log_weight - more[:, None], coarse.log_evidence + more, change, count
    )


def _sides(size: int) -> Tensor:
    """Directions of a cell's parts from its centre: all of them, or a sample if there would be too many."""
    if 2**size <= MOST_SIDES:
        return torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * size).view(-1, size)
    signs = torch.sign(normal_points(MOST_SIDES // 2, size, Seed.SIDES))
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
    row = torch.arange(len(points))[:, None]
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

    Also returns the largest change over a cell, see `native_observations.smoothed`; of a likelihood of a problem, the
    variance of its log. Both are ``(B, P)``.
    """
    numbers, at = observations.at(points)
    cells = frames.reshape(*at.shape[:2], *frames.shape[2:])
    total, change = (part.view(points.shape[:2]) for part in native_observations.smoothed(numbers, at, cells))
    if observations.likelihoods is None:
        return total, change
    own = (observations.likelihoods.present & observations.mask)[:, None]
    mean, variance = smoothed(_within(observations, points, frames))
    total = total + torch.where(own, mean, 0.0).sum(-1)
    return total, torch.maximum(change, torch.where(own, variance, 0.0).amax(-1))


def _within(observations: Observations, points: Tensor, frames: Tensor) -> Tensor:
    """Log likelihoods of each observation at the cubature points ``x ± √d F_i`` of each cell, ``(B, P, N, 2d)``."""
    batch, count, size = points.shape
    steps = math.sqrt(size) * frames.mT
    inside = torch.cat([points[:, :, None] + steps, points[:, :, None] - steps], 2)
    each = observations.residuals(inside.view(batch, -1, size)).log_likelihood
    return each.view(batch, count, 2 * size, -1).mT


def lacking(local: LocalProblem, update: Update) -> tuple[GaussianMixture, Tensor]:
    """What an answer lacks, as a mixture with a component for each cell of the scan, and its mass ``(B,)``.

    Only cells count in which the answer is too low by `SLACK` nats.
    """
    cells = local.scan
    assert cells is not None
    answered = cells.smoothed(local.localise(update.posterior))
    log_evidence = torch.maximum(update.log_evidence, cells.log_evidence)[:, None]
    off = cells.log_target - log_evidence - answered
    share = cells.share * (cells.log_evidence[:, None] - log_evidence).exp() * -torch.expm1(-off)
    logs = torch.where((off > SLACK) & share.isfinite(), share.log(), -math.inf)
    parts = GaussianMixture(logs, cells.points, la.symmetrise(cells.factors @ cells.factors.mT))
    return parts, torch.logsumexp(logs, 1).exp()


def compared(local: LocalProblem, update: Update) -> Update:
    """Lower the quality by what the scan saw and the answer lacks."""
    assert local.scan is not None
    missed = local.scan.missed(local.localise(update.posterior), update.log_evidence)
    return with_missed(update, missed.sum(1))


def missed_closely(local: LocalProblem, update: Update) -> Tensor:
    """Nats that answers miss, ``(B,)``, after zooming in until cells are fine enough to tell.

    It zooms from the beginning with more places, because each zoom draws some of the parts. What is missed may be a
    thin ring beside sharp peaks: its own cells must be small, not only those of the peaks. An answer may also have as
    much mass as such a ring in each coarse cell, and be far wider: it must be compared with fine ones.
    """
    repeats = local.observations.has_functions & (local.prior.dimension <= MOST_AXES)
    total = torch.zeros(local.prior.batch, dtype=torch.float64)
    for chosen, points in ((~repeats, POINTS), (repeats, DENSE_POINTS)):
        index = torch.nonzero(chosen)[:, 0]
        if len(index):
            total[index] = _missed_by(local.rows(index), update.rows(index), points)
    return total


def _missed_by(local: LocalProblem, update: Update, points: int) -> Tensor:
    """Nats that answers miss, ``(B,)``, by a new scan that is zoomed into."""
    answer, evidence = local.localise(update.posterior), update.log_evidence
    cells = scan(local.prior, local.observations, POINTS, points)
    missed = cells.missed(answer, evidence)
    for _ in range(ZOOMS):
        # cells that are too coarse say nothing, whether they see that something is missed or not
        coarse = (missed.sum(1) > DOUBTFUL) & ~cells.resolves(missed)
        index = torch.nonzero(coarse | ~cells.resolves(cells.share))[:, 0]
        if len(index) == 0:
            break
        cells = _finer(local, cells, index)
        missed[index] = cells.rows(index).missed(answer.rows(index), evidence[index])
    return missed.sum(1)


def beyond_slack(weighted: Weighted) -> Tensor:
    """Part of the divergence, nats ``(B,)``, from points where the answer is lower than `SLACK` allows."""
    log_weight = weighted.target - weighted.proposal
    log_evidence = torch.logsumexp(log_weight, 1, keepdim=True) - math.log(log_weight.shape[1])
    off = weighted.target - weighted.answer - log_evidence
    return torch.where(off > SLACK, torch.softmax(log_weight, 1) * off, 0.0).sum(1)


def _finer(local: LocalProblem, cells: Scan, index: Tensor) -> Scan:
    """Zoom into the scans of the problems at `index`."""
    some = local.rows(index)
    return cells.with_rows(index, zoom(cells.rows(index), some.prior, some.observations))


def with_missed(update: Update, missed: Tensor) -> Update:
    """Lower the quality by what was missed, in nats ``(B,)``."""
    size = torch.minimum(update.sample_efficiency, efficiency_at(missed))
    return replace(update, sample_efficiency=size, divergence=torch.maximum(update.divergence, missed))


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
