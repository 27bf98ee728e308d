"""Update in the plane by subdivision: the posterior as cells, and a mixture fitted to them.

A sharp range or bearing on a wide prior leaves a ring or a beam, thinner than any distance between random points. For
two coordinates and one observation, cells can cover it:

1. The plane is divided into cells, over which prior and likelihood are smoothed as in `inference.update.prior_scan`.
   Cells without mass are dropped, and the others halved until the log density changes little across each.
2. A mixture is fitted to a sample of the cells (`inference.mixtures.native_fitting`), with wide components beside it.
3. It is measured on another sample, on two points within each cell.

The evidence is a sum over all cells. It must agree with that of the smoothed cells, with that of the points, and with a
scan of the prior that has points of its own. Otherwise the problem is left to a search.

A range or a bearing that `polar_quadrature` leaves open needs no cells: lines around its sensor stand for the
posterior. Under several components, the fit begins with their parts of the posterior, reduced to as many as an answer
may have. The answer is measured on the nodes of the lines. These are wherever a component may have mass, so no scan is
needed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, beside, concatenate
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import importance
from beliefstream.inference.update.checked_network import with_quality
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.missed_mass import DOUBTFUL, unseen, with_missed
from beliefstream.inference.update.plane_cells import Cells, Lines, cells, lines
from beliefstream.inference.update.polar_quadrature import is_one_in_the_plane
from beliefstream.inference.update.polar_rules import (
    ASKED,
    CLOSE,
    FEW_STEPS,
    LEAST_OF_LINES,
    SEARCHED,
    STEPS,
    UNSEEN_POINTS,
    searched_below,
)
from beliefstream.inference.update.prior_scan import scan
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.threads import in_threads
from beliefstream.inference.update.wide_components import share_beside, widened

TOGETHER = 64  # problems at a time
MOST_OBSERVATIONS = 1
LEAST_SURPRISE = 1e-3  # p-value of the observations; below it, cells far from the prior might be dropped
MOST_SCANNED = 1.0  # nats between the log evidences of a scan and of cells


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
    fits &= observations.is_plain & ~observations.has_functions
    rings &= fits
    single = prior.present.sum(1) == 1
    index = torch.nonzero(fits)[:, 0]
    each = max(1, min(TOGETHER, math.ceil(len(index) / torch.get_num_threads())))
    kinds = (rings & single, rings & ~single, fits & ~rings)
    chosen = [some for kind in kinds for some in torch.split(torch.nonzero(kind)[:, 0], each)]

    def part(some: Tensor) -> tuple[Tensor, Update | None]:
        there = local.rows(some)
        ring = bool(rings[some[0]])
        found: Cells | Lines = lines(there, settings.most_components) if ring else cells(there)
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
    local: LocalProblem, found: Cells | Lines, surprise: Tensor, settings: UpdateSettings
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
    update = with_quality(update, found.quality(local.localise(whole)))
    several = local.prior64.present.sum(1) > 1
    at = torch.nonzero(several)[:, 0]
    if local.partial and len(at):
        update = _with_unseen(local, update, found.draw(UNSEEN_POINTS), at)
    # a search may fit a poor answer better, beside what the prior's components say
    below = settings.defend_below if isinstance(found, Cells) else searched_below(settings)
    sound = ~((size < below) & several)
    if isinstance(found, Cells):  # lines are wherever there may be mass
        agrees, update = _scanned(local, found, update)
        sound &= agrees
    if settings.repeat_below > ASKED:
        sound &= update.effective_sample_size >= settings.repeat_below
    return torch.nonzero(sound)[:, 0], update


def _fitted(
    local: LocalProblem, found: Cells | Lines, settings: UpdateSettings
) -> tuple[GaussianMixture, Tensor]:
    """Mixtures that fit the cells, and their effective sample sizes ``(B,)``; the best of several where one is poor."""
    outlier = (local.observations64.outlier_probability.gt(0) & local.observations64.mask).any(1)
    most = settings.most_components  # the reduction makes space for wide components
    if isinstance(found, Cells):
        fitted = found.fit(most, outlier, STEPS)
        return fitted, found.quality(fitted).effective_sample_size
    if found.start is None:
        fitted = _beside_outlier(local, found, most)
        return fitted, found.quality(fitted).effective_sample_size
    fitted = found.start
    size = found.quality(fitted).effective_sample_size
    for enough in (CLOSE, SEARCHED):
        index = torch.nonzero(size < enough)[:, 0]
        if len(index):
            some = found.rows(index)
            assert some.start is not None
            again = (
                some.fit(some.start, outlier[index], FEW_STEPS)
                if enough == CLOSE
                else some.fit(most, outlier[index], STEPS)
            )
            other = some.quality(again).effective_sample_size
            fitted, size = _better(fitted, size, index, again, other)
    return fitted, size


def _better(
    fitted: GaussianMixture, size: Tensor, index: Tensor, again: GaussianMixture, other: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """The better of two mixtures for each problem, by their effective sample sizes; the second are those at `index`."""
    better = torch.nonzero(other > size[index])[:, 0]
    chosen = torch.arange(fitted.batch)
    chosen[index[better]] = fitted.batch + better
    return concatenate([fitted, again]).rows(chosen), torch.cat([size, other])[chosen]


def _beside_outlier(local: LocalProblem, found: Lines, most: int) -> GaussianMixture:
    """A fit to the lines of an inlier, beside the only component of the prior, which an outlier leaves as it is."""
    outlier = torch.log1p(-found.inlier.clamp_max(1.0))[:, None]
    return beside([found.fit_inlier(most - 1, STEPS), local.prior64.scaled_by(outlier)])


def _scanned(local: LocalProblem, found: Cells, update: Update) -> tuple[Tensor, Update]:
    """Which answers to cells a scan of the prior agrees with, ``(B,)`` bool, and all answers with what it sees."""
    seen = scan(local.prior64, local.observations64)
    missed = seen.missed(local.localise(update.posterior), found.log_evidence).sum(1)
    nothing_new = missed < update.divergence.clamp_min(DOUBTFUL)
    agrees = nothing_new & (seen.log_evidence < found.log_evidence + MOST_SCANNED)
    return agrees, with_missed(update, missed)


def _with_unseen(local: LocalProblem, update: Update, points: Tensor, index: Tensor) -> Update:
    """Add the divergence of the coordinates that no sensor touches, where the prior has several components.

    Under one component they follow exactly. The points are of an equal share each, as many whatever the batch.
    """
    some = update.rows(index)
    equal = torch.zeros(len(index), points.shape[1], dtype=points.dtype)
    few = importance.Weighted(points[index], equal, equal, equal, equal[:, None])
    more = some.divergence + unseen(local.rows(index), some, few)
    return update.with_rows(index, with_missed(some, more))
