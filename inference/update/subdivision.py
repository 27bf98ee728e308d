"""Update in the plane by subdivision: the posterior as cells, and a mixture fitted to them.

A sharp range or bearing on a wide prior leaves a ring or a beam, thinner than any distance between random points. For
two coordinates and one observation, cells can cover it:

1. The plane is divided into cells, over which prior and likelihood are smoothed as in `inference.update.prior_scan`.
   Cells without mass are dropped, and the others halved until the log density changes little across each.
2. A mixture is fitted to a sample of the cells (`inference.mixtures.native_fitting`), with wide components beside it.
3. It is measured on another sample, on two points within each cell.

The evidence is a sum over all cells. It must agree with that of the smoothed cells, with that of the points, and with a
scan of the prior that has points of its own. Otherwise the problem is left to a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import importance
from beliefstream.inference.update.checked_network import with_quality
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.missed_mass import DOUBTFUL, unseen, with_missed
from beliefstream.inference.update.prior_scan import scan
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.threads import in_threads
from beliefstream.inference.update.wide_components import share_beside, widened

TOGETHER = 64  # problems at a time
MOST_OBSERVATIONS = 1
LEAST_SURPRISE = 1e-3  # p-value of the observations; below it, cells far from the prior might be dropped
CHANGE, FINEST = 0.25, 0.03  # see `native_subdivision.Limits`
DROPPED, ROUGH, COARSE, ENOUGH = 1e-7, 3e-4, 0.01, 600
SIZES = (6144, 768, 1024)  # the most cells; points of the fit, and of the measurement
STEPS, LEAST_GAIN = 150, 3e-4  # of the fit
UNSEEN_EVERY = 4  # one of so many points measures the coordinates that no sensor touches
# nats between log evidences: those of cells and smoothed cells, of cells and points, and of a scan above cells
MOST_APART, MOST_OFF, MOST_SCANNED = 0.1, 0.1, 1.0
FARTHEST = 18.0  # deviations of the prior, within which its components must lie
ASKED = 0.95  # effective sample size, above which an answer that must be better is left to refinement


def subdivided(
    local: LocalProblem, surprise: Tensor, settings: UpdateSettings
) -> tuple[Tensor, Update | None]:
    """Places of the problems that subdivision solves, and the answers; None if there are none."""
    none = torch.zeros(0, dtype=torch.int64)
    prior, observations = local.prior64, local.observations64
    if prior.dimension != 2 or observations.native is None or observations.matrix.shape[2] != 2:
        return none, None
    if native_form("update.native_subdivision", prior.means, local.prior.means) is None:
        return none, None
    fits = (observations.mask.sum(1) <= MOST_OBSERVATIONS) & (surprise > LEAST_SURPRISE)
    index = torch.nonzero(fits)[:, 0]
    each = max(1, min(TOGETHER, math.ceil(len(index) / torch.get_num_threads())))

    def part(some: Tensor) -> tuple[Tensor, Update | None]:
        found = cells(local.rows(some))
        agreed = torch.nonzero(found.sound)[:, 0]
        if len(agreed) == 0:
            return agreed, None
        some = some[agreed]
        sound, update = _solved(local.rows(some), found.rows(agreed), surprise[some], settings)
        return some[sound], update.rows(sound)

    found = in_threads(part, torch.split(index, each)) if len(index) else []
    parts = [(some, update) for some, update in found if update is not None and len(some)]
    if not parts:
        return none, None
    return torch.cat([some for some, _ in parts]), joined(parts)


@dataclass(frozen=True)
class Cells:
    """Posteriors as cells; absent points have no share."""

    sound: Tensor  # whether the evidences agree, (B,) bool
    error: Tensor  # of a divergence: between evidences, and from coarse cells, nats (B,)
    log_evidence: Tensor  # (B,)
    centres: Tensor  # of a sample of the cells, (B, F, 2)
    shares: Tensor  # (B, F)
    spreads: Tensor  # covariance within a cell as xx, xy, yy, (B, F, 3)
    points: Tensor  # two within each cell of another sample, (B, P, 2)
    target: Tensor  # log of prior × likelihood, (B, P)
    proposal: Tensor  # log density of the points, (B, P)

    def rows(self, index: Tensor) -> Cells:
        """The cells of the problems at `index`."""
        return Cells(*(getattr(self, field.name)[index] for field in fields(self)))

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean ``(B, 2)`` and covariance ``(B, 2, 2)`` of the posterior."""
        mean = (self.shares[..., None] * self.centres).sum(1)
        offset = self.centres - mean[:, None]
        return mean, la.symmetrise((self.shares[..., None] * offset).mT @ offset)

    def weigh(self, answer: GaussianMixture) -> importance.Weighted:
        """The points as importance points of an answer."""
        nothing = self.target.new_zeros(len(self.target), 0, self.target.shape[1])
        log_answer = answer.log_density(self.points)
        return importance.Weighted(self.points, self.target, self.proposal, log_answer, nothing)


def cells(local: LocalProblem) -> Cells:
    """Subdivide the plane for each problem."""
    native = native_form("update.native_subdivision", local.prior64.means)
    assert native is not None
    prior = local.prior64
    mean, covariance = prior.moments()
    factor = la.cholesky(covariance, torch.finfo(covariance.dtype).tiny)
    offsets = la.times(la.invert_lower(factor)[:, None], prior.means - mean[:, None]).abs().amax(2)
    inside = (~prior.present | (offsets < FARTHEST)).all(1)
    limits = native.Limits(CHANGE, DROPPED, ROUGH, COARSE, ENOUGH, FINEST)
    found = native.subdivide(local.observations64.native, prior, mean, factor, limits, SIZES)
    counts, evidence, added, centres, shares, spreads, points, target, proposal = map(torch.from_numpy, found)
    drawn = torch.logsumexp(target - proposal, 1) - math.log(target.shape[1])
    apart, off = (evidence[0] - evidence[1]).abs(), (evidence[0] - drawn).abs()
    sound = inside & (counts > 0) & (apart < MOST_APART) & (off < MOST_OFF)
    error = added + torch.maximum(apart, off)
    return Cells(sound, error, evidence[0], centres, shares, spreads, points, target, proposal)


def _solved(
    local: LocalProblem, found: Cells, surprise: Tensor, settings: UpdateSettings
) -> tuple[Tensor, Update]:
    """Places of the answers that can be trusted, and all answers."""
    native = native_form("mixtures.native_fitting", found.centres)
    assert native is not None
    count = settings.most_components  # the reduction makes space for the wide ones
    outlier = (local.observations64.outlier_probability.gt(0) & local.observations64.mask).any(1)
    fitted = native.fit(found.centres, found.shares, found.spreads, outlier, count, STEPS, LEAST_GAIN)
    first = importance.quality(found.weigh(fitted))
    poor = (first.effective_sample_size < settings.defend_below)[:, None]
    share = torch.where(poor, settings.defence, settings.refined_defence).double()
    wide = local.with_one_component().extend(widened(*found.moments()))
    whole = beside([local.extend(fitted).scaled_by((-share).log1p()), wide.scaled_by(share.log())])
    prior = local.extend(GaussianMixture.gaussian(*local.prior64.moments()))
    share = share_beside(whole, prior).clamp_max(settings.prior_share)
    whole = beside([whole.scaled_by((-share).log1p()), prior.scaled_by(share.log())])
    whole = reduce(whole, settings.most_components, settings.merge_below)
    method = torch.full((whole.batch,), int(Method.REFINED), dtype=torch.int64)
    unmeasured = torch.zeros(whole.batch, dtype=torch.float64)
    update = Update(whole, unmeasured, unmeasured, surprise, method, unmeasured)
    weighted = found.weigh(local.localise(whole))
    # points within cells have less error than the independent ones that a standard error is about
    quality = importance.quality(weighted)._replace(log_evidence=found.log_evidence, deviation=found.error)
    update = with_quality(update, quality)
    several = torch.nonzero(local.prior64.present.sum(1) > 1)[:, 0]
    if local.partial and len(several):
        update = _with_unseen(local, update, weighted, several)
    seen = scan(local.prior64, local.observations64)
    missed = seen.missed(local.localise(whole), found.log_evidence).sum(1)
    nothing_new = missed < update.divergence.clamp_min(DOUBTFUL)
    sound = nothing_new & (seen.log_evidence < found.log_evidence + MOST_SCANNED)
    # a search may fit a poor answer better, beside what the prior's components say
    sound &= ~(poor[:, 0] & (local.prior64.present.sum(1) > 1))
    if settings.repeat_below > ASKED:
        sound &= update.effective_sample_size >= settings.repeat_below
    return torch.nonzero(sound)[:, 0], with_missed(update, missed)


def _with_unseen(local: LocalProblem, update: Update, weighted: importance.Weighted, index: Tensor) -> Update:
    """Add the divergence of the coordinates that no sensor touches, where the prior has several components.

    Under one component they follow exactly.
    """
    some, part = update.rows(index), slice(None, None, UNSEEN_EVERY)
    points, target, proposal, answer = (
        each[index, part] for each in (weighted.points, weighted.target, weighted.proposal, weighted.answer)
    )
    few = importance.Weighted(points, target, proposal, answer, weighted.prior_components)
    more = some.divergence + unseen(local.rows(index), some, few)
    return update.with_rows(index, with_missed(some, more))
