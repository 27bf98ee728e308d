"""Update with several observations in the plane at one instant, by one quadrature of their joint density.

1. The plane is divided into cells (`cells`). Prior and likelihood are smoothed over each, and a bound says
   what mass it may have at most. Only cells whose bound is negligible are dropped; the others are halved until the log
   density changes little across each. So no part of the posterior is missed, however many observations meet there.
2. A mixture is fitted to the cells, with more components where it lacks mass (`mixture_fit`). It is a little too
   wide, by the width of the cells.
3. The nodes of this mixture give the exact evidence, and mass, mean and covariance of the share of each component
   (`cell_fit`). Components with these moments are nearer to the posterior: it is a step of
   expectation-maximisation on the exact density. A few of them give the answer.
4. The divergence of the answer is measured over the cells, which are wherever the posterior is, and over the nodes,
   which are where the answer is. The larger counts. Both must agree on the evidence.

What it cannot solve well enough is solved once more with smaller cells and more components, and else left to others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside, component_log_densities
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import importance
from beliefstream.inference.update.importance import share_beside
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.plane.cartesian import measure, solve
from beliefstream.inference.update.plane.cell_fit import Limits
from beliefstream.inference.update.plane.cells import CellLimits
from beliefstream.inference.update.result import Method, Update, in_threads, size_at
from beliefstream.inference.update.scaled_problem import Scaled
from beliefstream.inference.update.settings import UpdateSettings

Attempt = tuple[CellLimits, Limits, int]

TOGETHER = 512  # problems at a time
FARTHEST = 18.0  # deviations of the prior, within which its components must lie
MOST_LOST, MOST_APART = 0.005, 0.1  # share of the posterior outside the cells; nats between both evidences
# how cells are divided, how mixtures are fitted to them, and the most cells
USUAL = CellLimits(0.25, 1e-5, 3e-4, 0.01), Limits(16, 0.02, -0.1, 2, 5, 3, 3, 0.005), 2048
FINER = CellLimits(0.12, 1e-6, 1e-5, 0.002), Limits(16, 0.0, -0.1, 4, 6, 3, 3, 0.005), 8192
COARSER = CellLimits(0.5, 3e-5, 1e-3, 0.03), Limits(10, 0.02, -0.1, 1, 3, 3, 2, 0.02), 1024
FAR, STEEP = 3.0, 40.0  # deviations of the prior; nats below a density, at which an answer has nothing there
MOST_UNREFINED = 0.1  # nats that an answer may lose where none is refined
UNSEEN_POINTS = 256  # that measure the coordinates that no sensor touches


def in_one(
    prior: GaussianMixture,
    observations: Observations,
    touched: Tensor,
    scaled: Scaled,
    open_: Tensor,
    settings: UpdateSettings,
) -> Iterator[tuple[Tensor, Update]]:
    """Places and answers of the problems that are solved well enough.

    Args:
        prior, observations: over all coordinates.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        scaled: the same problems, linearised.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: an answer may lose as much as one that is not refined. Where poor answers are refined, there is a
            second attempt.
    """
    fits = open_ & (touched.sum(1) == 2) & ~observations.has_functions & observations.is_plain
    if not bool(fits.any()):
        return
    pattern = (touched * (1 << torch.arange(prior.dimension))).sum(1)
    code = torch.where(fits, pattern, -1)
    for each in sorted(set(code.tolist()) - {-1}):
        index = torch.nonzero(code == each)[:, 0]
        axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
        seen = replace(
            observations.rows_of(index), mixture=None, deviation_slope=None, functions=None, likelihoods=None
        )
        seen = _sorted(seen)
        local = LocalProblem.of(prior.rows(index), seen, axes)
        if local.observations.matrix.shape[2] != 2 or local.observations.native is None:
            continue
        problem = scaled.rows(index)
        surprise = problem.prediction.surprise(problem.prior)
        for some, update in _attempts(local, surprise, problem.gained, settings):
            yield index[some], update


def _sorted(observations: Observations) -> Observations:
    """In an order that is always the same, as fits to cells make rounded digits larger."""
    order = torch.where(observations.mask, observations.value[..., 0], math.inf).argsort(dim=1, stable=True)
    row = torch.arange(len(order))[:, None]
    return observations.map(lambda tensor: tensor[row, order])


def _most(size: Tensor) -> Tensor:
    """The largest divergence of an answer, nats, whose effective sample size must be as large."""
    return -0.5 * size.log()  # as `size_at`


def _attempts(
    local: LocalProblem, surprise: Tensor, gained: Tensor, settings: UpdateSettings
) -> Iterator[tuple[Tensor, Update]]:
    left, attempts = torch.arange(len(surprise)), [(COARSER, torch.full_like(gained, MOST_UNREFINED))]
    if once := settings.refine_below:
        least = settings.least_size(gained)
        # the second is as if refined
        refined = torch.where(least > once, once, min(once, settings.repeat_below))
        attempts = [(USUAL, _most(least)), (FINER, _most(refined))]
    for attempt, most in attempts:

        def part(some: Tensor, attempt: Attempt = attempt) -> tuple[Tensor, Update]:
            return some, _solved(local.rows(some), surprise[some], settings, attempt)

        poor, each = [], max(1, min(TOGETHER, math.ceil(len(left) / torch.get_num_threads())))
        for some, update in in_threads(part, torch.split(left, each)):
            good = update.divergence < most[some]
            at = torch.nonzero(good)[:, 0]
            poor.append(some[~good])
            if len(at):
                yield some[at], update.rows(at)
        left = torch.cat(poor)
        if len(left) == 0:
            return


def _solved(local: LocalProblem, surprise: Tensor, settings: UpdateSettings, attempt: Attempt) -> Update:
    """Answers, with infinite divergence where they must not be used."""
    prior, (cells, fit, count) = local.prior, attempt
    seen = local.observations.native
    assert seen is not None
    mean, covariance = prior.moments()
    factor = la.cholesky(covariance, torch.finfo(covariance.dtype).tiny)
    offsets = la.times(la.invert_lower(factor)[:, None], prior.means - mean[:, None]).abs().amax(2)
    inside = (~prior.present | (offsets < FARTHEST)).all(1)
    found = solve(seen, prior, mean, factor, cells, fit, count)
    whole = local.extend(GaussianMixture(*(torch.from_numpy(part) for part in found.moments)))
    whole = reduce(whole, settings.most_components - 1, settings.merge_below)
    # after the reduction, which would drop it where it has little weight
    wide = local.extend(GaussianMixture.gaussian(mean, covariance))
    share = share_beside(whole, wide).clamp_max(settings.prior_share)
    # beliefs are taken from the first places, and other problems may have more components
    whole = beside([whole.scaled_by((-share).log1p()), wide.scaled_by(share.log())]).ordered()
    answer = local.localise(whole)
    divergence = torch.from_numpy(measure(found, answer))
    evidence, lost = torch.from_numpy(found.log_evidence), torch.from_numpy(found.lost)
    steep = _steepness(answer, factor)
    divergence += torch.where(steep > STEEP, lost * steep, 0.0)
    sound = inside & (lost < MOST_LOST) & ((evidence[0] - evidence[1]).abs() < MOST_APART)
    divergence = torch.where(sound, divergence.clamp_min(0.0), math.inf)
    method = torch.full((whole.batch,), Method.QUADRATURE, dtype=torch.int64)
    update = Update(whole, size_at(divergence), evidence[0], surprise, method, divergence)
    return _with_unseen(local, update, found.cells, found.counts[1]) if local.partial else update


def _steepness(answer: GaussianMixture, factor: Tensor) -> Tensor:
    """Nats that an answer is low at `FAR` deviations of the prior from its components, ``(B,)``, at most.

    `factor` ``(B, 2, 2)`` is that of the prior's covariance.

    Without a wide component, an answer has no density there.
    """
    # entry by entry: products of so many small matrices take ten times as long
    inverse, covariances = la.invert_lower(factor)[:, None], answer.covariances
    one, low, two = inverse[..., 0, 0], inverse[..., 1, 0], inverse[..., 1, 1]
    xx, xy, yy = covariances[..., 0, 0], covariances[..., 1, 0], covariances[..., 1, 1]
    trace = one * one * xx + low * low * xx + 2 * low * two * xy + two * two * yy
    determinant = (one * two).square() * (xx * yy - xy * xy)
    least = determinant / (0.5 * trace + (0.25 * trace.square() - determinant).clamp_min(0).sqrt())
    low = 0.5 * FAR**2 / least - answer.log_weights
    return torch.where(answer.present, low, math.inf).amin(1)


def _with_unseen(
    local: LocalProblem, update: Update, cells: NDArray[np.float64], counts: NDArray[np.int64]
) -> Update:
    """Add the divergence of the coordinates that no sensor touches, where the prior has several components.

    Under one component they follow exactly.
    """
    index = torch.nonzero(update.divergence.isfinite() & (local.prior.present.sum(1) > 1))[:, 0]
    if len(index) == 0:
        return update
    points, last = torch.from_numpy(cells)[index], torch.from_numpy(counts)[index, None] - 1
    # as many points whatever the batch, each of an equal share
    places = (torch.arange(UNSEEN_POINTS).double() + 0.5) / UNSEEN_POINTS
    there = torch.arange(points.shape[2]) <= last
    shares = torch.where(there, points[:, 2], 0.0).cumsum(1)
    chosen = torch.searchsorted(shares, places.repeat(len(index), 1)).minimum(last)
    few = points[:, :2].gather(2, chosen[:, None].expand(-1, 2, -1)).mT
    equal, some = torch.zeros(chosen.shape, dtype=torch.float64), local.rows(index)
    weighted = importance.Weighted(
        few, equal, equal, equal, component_log_densities(some.prior, some.prior.factors(), few)
    )
    more = update.divergence.clone()
    more[index] += some.unobserved_divergence(update.posterior.rows(index), weighted)
    return replace(update, divergence=more, effective_sample_size=size_at(more))
