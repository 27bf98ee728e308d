"""Update in the plane by subdivision: the posterior as cells, and a mixture fitted to them.

A sharp range or bearing on a wide prior leaves a ring or a beam, thinner than any distance between random points. For
two coordinates and one observation, cells can cover it:

1. The plane is divided into cells, over which prior and likelihood are smoothed as in `inference.update.prior_scan`.
   Cells without mass are dropped, and the others halved until the log density changes little across each.
2. A mixture is fitted to a sample of the cells (`inference.mixtures.native_fitting`), with wide components beside it.
3. It is measured on another sample, on two points within each cell.

The evidence is a sum over all cells. It must agree with that of the smoothed cells, with that of the points, and with a
scan of the prior that has points of its own. Otherwise the problem is left to a search.

A range or a bearing needs no cells: lines around its sensor stand for the posterior (`polar_quadrature`). Under several
components, the fit begins with their parts of the posterior, reduced to as many as an answer may have. The answer is
measured on the nodes of the lines. These are wherever a component may have mass, so no scan is needed.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, beside, concatenate
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import importance
from beliefstream.inference.update.checked_network import with_quality
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.missed_mass import DOUBTFUL, unseen, with_missed
from beliefstream.inference.update.plane_cells import Cells, cells, lines
from beliefstream.inference.update.polar_quadrature import is_one_in_the_plane
from beliefstream.inference.update.prior_scan import scan
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.threads import in_threads
from beliefstream.inference.update.wide_components import share_beside, widened

TOGETHER = 64  # problems at a time
MOST_OBSERVATIONS = 1
LEAST_SURPRISE = 1e-3  # p-value of the observations; below it, cells far from the prior might be dropped
LEAST_OF_LINES = 1e-9  # the same; a beam farther off may lie beyond the reach of lines
STEPS, FEW_STEPS, LEAST_GAIN = 150, 40, 3e-4  # of a fit; of one that begins with parts of the posterior
UNSEEN_POINTS = 256  # that measure the coordinates that no sensor touches
MOST_SCANNED = 1.0  # nats between the log evidences of a scan and of cells
# effective sample sizes: above them, parts of the posterior need no fit, and a fit to lines needs no search
CLOSE, SEARCHED = 0.97, 0.5
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
    rings = is_one_in_the_plane(observations, torch.ones(len(surprise), 2, dtype=torch.bool))
    least = torch.where(rings, LEAST_OF_LINES, LEAST_SURPRISE)
    fits = (observations.mask.sum(1) <= MOST_OBSERVATIONS) & (surprise > least)
    rings &= fits
    single = prior.present.sum(1) == 1
    index = torch.nonzero(fits)[:, 0]
    each = max(1, min(TOGETHER, math.ceil(len(index) / torch.get_num_threads())))
    kinds = (rings & single, rings & ~single, fits & ~rings)
    chosen = [some for kind in kinds for some in torch.split(torch.nonzero(kind)[:, 0], each)]

    def part(some: Tensor) -> tuple[Tensor, Update | None]:
        there = local.rows(some)
        found = lines(there, settings.most_components) if bool(rings[some[0]]) else cells(there)
        agreed = torch.nonzero(found.sound)[:, 0]
        if len(agreed) == 0:
            return agreed, None
        some = some[agreed]
        sound, update = _solved(local.rows(some), found.rows(agreed), surprise[some], settings)
        return some[sound], update.rows(sound)

    found = in_threads(part, [some for some in chosen if len(some)]) if len(index) else []
    parts = [(some, update) for some, update in found if update is not None and len(some)]
    if not parts:
        return none, None
    return torch.cat([some for some, _ in parts]).sort().values, joined(parts)


def _solved(
    local: LocalProblem, found: Cells, surprise: Tensor, settings: UpdateSettings
) -> tuple[Tensor, Update]:
    """Places of the answers that can be trusted, and all answers."""
    fitted, size = _fitted(local, found, settings)
    poor = (size < settings.defend_below)[:, None]
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
    several = local.prior64.present.sum(1) > 1
    at = torch.nonzero(several)[:, 0]
    if local.partial and len(at):
        update = _with_unseen(local, update, weighted, at)
    # a search may fit a poor answer better, beside what the prior's components say
    below = settings.defend_below if found.inliers is None else SEARCHED
    sound = ~((size < below) & several)
    if found.inliers is None:  # lines are wherever there may be mass
        agrees, update = _scanned(local, found, update)
        sound &= agrees
    if settings.repeat_below > ASKED:
        sound &= update.effective_sample_size >= settings.repeat_below
    return torch.nonzero(sound)[:, 0], update


def _fitted(local: LocalProblem, found: Cells, settings: UpdateSettings) -> tuple[GaussianMixture, Tensor]:
    """Mixtures that fit the cells, and their effective sample sizes ``(B,)``; the best of several where one is poor."""
    outlier = (local.observations64.outlier_probability.gt(0) & local.observations64.mask).any(1)
    most = settings.most_components  # the reduction makes space for wide components
    if found.inliers is None:
        return _fit(found, outlier, most, STEPS)
    if found.start is None:
        fitted = _beside_outlier(local, found, most)
        return fitted, importance.quality(found.weigh(fitted)).effective_sample_size
    fitted = found.start
    size = importance.quality(found.weigh(fitted)).effective_sample_size
    for enough in (CLOSE, SEARCHED):
        index = torch.nonzero(size < enough)[:, 0]
        if len(index):
            some = found.rows(index)
            given = (some.start, FEW_STEPS) if enough == CLOSE else (most, STEPS)
            fitted, size = _better(fitted, size, index, *_fit(some, outlier[index], *given))
    return fitted, size


def _better(
    fitted: GaussianMixture, size: Tensor, index: Tensor, again: GaussianMixture, other: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """The better of two mixtures for each problem, by their effective sample sizes; the second are those at `index`."""
    better = torch.nonzero(other > size[index])[:, 0]
    chosen = torch.arange(fitted.batch)
    chosen[index[better]] = fitted.batch + better
    return concatenate([fitted, again]).rows(chosen), torch.cat([size, other])[chosen]


def _fit(
    found: Cells, wide: Tensor, start: GaussianMixture | int, steps: int
) -> tuple[GaussianMixture, Tensor]:
    native = native_form("mixtures.native_fitting", found.centres)
    assert native is not None
    points = found.centres, found.shares, found.spreads
    mixture = native.fit(*points, wide, start, steps, LEAST_GAIN, found.inliers is not None)
    return mixture, importance.quality(found.weigh(mixture)).effective_sample_size


def _beside_outlier(local: LocalProblem, found: Cells, most: int) -> GaussianMixture:
    """A fit to the lines of an inlier, beside the only component of the prior, which an outlier leaves as it is."""
    assert found.inliers is not None
    of_inlier = torch.arange(found.shares.shape[1]) < found.inliers[:, None]
    shares = torch.where(of_inlier, found.shares, 0.0)
    inlier = shares.sum(1, keepdim=True).clamp_max(1.0)
    none = torch.zeros(len(inlier), dtype=torch.bool)
    part = replace(found, shares=shares / inlier)
    fitted, _ = _fit(part, none, most - 1, STEPS)
    prior = local.prior64
    return beside([fitted.scaled_by(inlier.log()), prior.scaled_by(torch.log1p(-inlier))])


def _scanned(local: LocalProblem, found: Cells, update: Update) -> tuple[Tensor, Update]:
    """Which answers to cells a scan of the prior agrees with, ``(B,)`` bool, and all answers with what it sees."""
    seen = scan(local.prior64, local.observations64)
    missed = seen.missed(local.localise(update.posterior), found.log_evidence).sum(1)
    nothing_new = missed < update.divergence.clamp_min(DOUBTFUL)
    agrees = nothing_new & (seen.log_evidence < found.log_evidence + MOST_SCANNED)
    return agrees, with_missed(update, missed)


def _with_unseen(local: LocalProblem, update: Update, weighted: importance.Weighted, index: Tensor) -> Update:
    """Add the divergence of the coordinates that no sensor touches, where the prior has several components.

    Under one component they follow exactly.
    """
    some, share = update.rows(index), torch.softmax(weighted.target - weighted.proposal, 1)[index]
    # as many points whatever the batch, each of an equal share
    places = (torch.arange(UNSEEN_POINTS).double() + 0.5) / UNSEEN_POINTS
    chosen = torch.searchsorted(share.cumsum(1), places.repeat(len(index), 1)).clamp_max(share.shape[1] - 1)
    points = weighted.points[index].gather(1, chosen[..., None].expand(-1, -1, 2))
    equal = torch.zeros(chosen.shape, dtype=points.dtype)
    few = importance.Weighted(points, equal, equal, equal, weighted.prior_components[index])
    more = some.divergence + unseen(local.rows(index), some, few)
    return update.with_rows(index, with_missed(some, more))
