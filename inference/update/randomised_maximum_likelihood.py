"""Points along the mass of a posterior: many points of the prior, each moved to where the observations agree.

This is randomised maximum likelihood (D. S. Oliver, N. He and A. C. Reynolds, "Conditioning Permeability Fields to
Pressure Data", 5th European Conference on the Mathematics of Oil Recovery, 1996) without noise on the observations. A
point x₀ of the prior goes to the minimum of ``|x − x₀|²`` in the prior's metric plus the squared residuals. A search
for peaks finds a few points of a thin ring or sheet; these spread over all of it. Outliers and components of a noise
mixture are drawn too, once for each group of points.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.update.importance import local_covariances, systematic
from beliefstream.inference.update.mode_search import Climb, ordered

GROUPS, ROUNDS, SEED = 16, 8, 401
SCAN_ROUNDS = 4
LEFT_OUT = 0.5  # least probability with which a possible outlier is treated as one
EVENLY = 0.4421  # share of the weight that is spread evenly, not by height and volume; see `mode_search`


def randomised_images(
    prior: GaussianMixture, observations: Observations, count: int, scanned: Tensor | None = None
) -> GaussianMixture:
    """`count` Gaussians along the posterior of each problem, `count` a multiple of `GROUPS`; float64."""
    observations = ordered(observations, prior.moments()[0])
    batch, size = prior.batch, prior.dimension
    starts = systematic(prior, prior.factors(), count, SEED)
    # neighbours in the sequence belong to one component: spread them over the groups
    starts = starts.view(batch, count // GROUPS, GROUPS, size).transpose(1, 2).flatten(0, 1)
    index = torch.arange(batch, device=starts.device).repeat_interleave(GROUPS)
    hypotheses = _hypotheses(observations)
    climb = replace(Climb.of(prior.rows(index), hypotheses, starts), means=starts)
    points = climb.walk(starts, ROUNDS, robust=False)
    # as wide as under its own hypothesis; one ten times as wide can have the same centre
    found = local_covariances(points, climb.covariances, hypotheses).view(batch, count, size, size)
    points = points.view(batch, count, size)
    if scanned is not None:
        climb = Climb.of(prior, observations, scanned)
        more = climb.walk(scanned, SCAN_ROUNDS, robust=False)
        points = torch.cat([points, more], 1)
        found = torch.cat([found, local_covariances(more, climb.covariances, observations)], 1)
    height = prior.log_density(points) + observations.log_likelihood(points)
    volume = la.log_diagonal(la.cholesky(found)) + 0.5 * size * LOG_TWO_PI
    count = points.shape[1]
    share = torch.nan_to_num(torch.softmax(height + volume, 1), nan=1 / count)
    share = (1 - EVENLY) * share + EVENLY / count
    return GaussianMixture(share.log(), points, found)


def _hypotheses(observations: Observations) -> Observations:
    """Repeat every problem `GROUPS` times, with drawn outliers left out and plain noise; the first is the likeliest."""
    index = torch.arange(observations.batch, device=observations.mask.device).repeat_interleave(GROUPS)
    many = observations.rows_of(index)
    number = observations.mask.shape[1]
    engine = torch.quasirandom.SobolEngine(2, scramble=True, seed=SEED)  # type: ignore[no-untyped-call]
    # the same for each place, whatever the number of places in the batch
    drawn: Tensor = (
        engine.draw(GROUPS * number).to(many.value).view(number, GROUPS, 2).transpose(0, 1).clone()
    )
    drawn[0] = 1.0
    drawn = drawn.repeat(observations.batch, 1, 1)
    doubted = many.outlier_probability > 0
    out = doubted & (drawn[..., 0] < many.outlier_probability.clamp_min(LEFT_OUT))
    # in half of the groups all, or all but one, are outliers: each of several contradicting sensors leaves a ring
    group = (torch.arange(len(index), device=index.device) % GROUPS)[:, None]
    place = torch.arange(number, device=index.device)
    used = many.mask.sum(1, keepdim=True)
    alone = (group - GROUPS // 2).clamp_min(0) % (used + 1)
    out = torch.where(group >= GROUPS // 2, doubted & (place != alone), out)
    linear = many.kind == LINEAR
    many = replace(
        widened_at(many, linear & out),
        mask=many.mask & (linear | ~out),
        outlier_probability=torch.zeros_like(many.outlier_probability),
    )
    if many.mixture is None:
        return many
    weights, bias, ratio = many.mixture
    weights = torch.softmax(0.5 * weights, -1)  # draw rare ones more often
    chosen = (weights.cumsum(-1) < drawn[..., 1:] * (1 - 1e-9)).sum(-1).clamp(max=weights.shape[-1] - 1)
    first = torch.arange(len(index), device=index.device) % GROUPS == 0
    chosen = torch.where(first[:, None], weights.argmax(-1), chosen)[..., None]
    bias, ratio = (part.gather(-1, chosen)[..., 0] for part in (bias, ratio))
    value = many.value.clone()
    value[..., 0] = torch.where(many.kind == LINEAR, value[..., 0], value[..., 0] - bias)
    scale = torch.where(many.kind == LINEAR, 1.0, ratio)
    slope = many.deviation_slope
    return replace(
        many,
        value=value,
        standard_deviation=many.standard_deviation * scale,
        log_scale=many.log_scale + scale.log(),
        deviation_slope=None if slope is None else slope * scale,
        mixture=None,
    )


def widened_at(observations: Observations, chosen: Tensor) -> Observations:
    """The observations, with the noise of an outlier at `chosen` ``(B, N)``; only linear ones may be chosen."""
    wide = observations.widened()
    return replace(
        observations,
        value=torch.where(chosen[..., None], wide.value, observations.value),
        matrix=torch.where(chosen[..., None, None], wide.matrix, observations.matrix),
        origin=torch.where(chosen[..., None], wide.origin, observations.origin),
        log_scale=torch.where(chosen, wide.log_scale, observations.log_scale),
    )
