"""Importance sampling: measures how far an answer is from the exact posterior, and improves it.

Points come from a defensive mixture of the answer q, the answer with wider covariances, the prior, and Gauss-Newton
images of the prior. The images lie where the observations agree. Points from q alone could not see a mode that q misses
(T. Hesterberg, "Weighted Average Importance Sampling and Defensive Mixture Distributions", Technometrics 37(2), 1995).
The points are quasi-random and fixed, so the same problem gives the same result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, component_log_density, log_density
from beliefstream.inference.mixtures.native_tensors import is_native
from beliefstream.inference.network.transformer import Tokens, spread_points
from beliefstream.inference.update import native_importance

SHARES = (
    0.55,
    0.15,
    0.10,
    0.20,
)  # shares of the points: answer, widened answer, prior, Gauss-Newton images of the prior
SEARCHED_SHARES = (0.35, 0.10, 0.10, 0.45)  # after a mode search, with the modes among the images
WIDENING = 4.0  # of the covariance
TRUNCATION = 30.0  # of an importance weight
FARTHER = 5 / 3  # start of the second images over the spread of the tokens: two standard deviations
CHECK_SEED = 11  # of the points that check an answer


@lru_cache(maxsize=64)
def normal_points(count: int, dimension: int, seed: int) -> Tensor:
    """`count` quasi-random points of a standard normal, ``(count, dimension)``."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    sobol: Tensor = engine.draw(count)
    return torch.erfinv(2 * sobol.clamp(1e-4, 1 - 1e-4) - 1) * math.sqrt(2)


def systematic_places(shares: Tensor, count: int) -> Tensor:
    """`count` places ``(B, count)`` in proportion to `shares` ``(B, K)``, which sum to one, in rising order."""
    cumulative = shares.cumsum(1)
    ticks = (torch.arange(count, device=cumulative.device, dtype=cumulative.dtype) + 0.5) / count
    index = torch.searchsorted(cumulative, ticks.expand(shares.shape[0], count).contiguous())
    return index.clamp(max=shares.shape[1] - 1)


def systematic(mixture: GaussianMixture, factors: Tensor, count: int, seed: int) -> Tensor:
    """`count` points per entity, in proportion to the components' weights, ``(B, count, d)``."""
    index = systematic_places(torch.softmax(mixture.log_weights, -1), count)
    row = torch.arange(mixture.batch, device=index.device)[:, None]
    noise = normal_points(count, mixture.dimension, seed).to(mixture.means)
    return mixture.means[row, index] + la.times(factors[row, index], noise.expand(mixture.batch, -1, -1))


@dataclass(frozen=True)
class Weighted:
    """Points with their log densities; `points` is ``(B, P, d)``, all others ``(B, P)``."""

    points: Tensor
    target: Tensor  # log of prior × likelihood, not normalised
    proposal: Tensor  # log density of the proposal
    answer: Tensor  # log density of the answer q
    prior_components: Tensor  # log of weight × density of each component of the prior, (B, K, P)


def gauss_newton_images(
    starts: Tensor,
    means: Tensor,
    covariances: Tensor,
    observations: Observations,
    used: Tensor,
    rounds: int,
) -> GaussianMixture:
    """Gauss-Newton images of `starts` ``(B, K, d)``, with every observation that they use as an inlier.

    `means` and `covariances` are those of each start's prior component; `used` is a float ``(B, K or 1, N)``. The
    covariance is the linearised posterior's, limited to where the linearisation holds. Along the tangent of a ring,
    this is where the ring is still straight.
    """
    floor = torch.finfo(means.dtype).tiny
    precision = la.invert(covariances, floor)
    identity = torch.eye(means.shape[-1], dtype=means.dtype, device=means.device).expand_as(covariances)
    points, total = starts, precision
    for _ in range(rounds):
        linear = observations.linearise(points, identity)
        total = precision + (linear.information * used[..., None, None]).sum(2)
        pull = la.times(precision, means - points) + (linear.gradient * used[..., None]).sum(2)
        points = points + la.times(la.invert(total, floor), pull)
    image = _cut(total, observations.linearise(points, identity).curvature, used)
    # a step from where a function is flat may diverge: use the prior's component instead
    sound = points.isfinite().all(-1) & image.isfinite().flatten(-2).all(-1)
    points = torch.where(sound[..., None], points, means)
    image = torch.where(sound[..., None, None], image, covariances)
    log_weights = torch.full_like(points[..., 0], -math.log(points.shape[1]))
    return GaussianMixture(log_weights, points, image)


def prior_images(tokens: Tokens, observations: Observations, each: int, rounds: int) -> GaussianMixture:
    """One or two images per token ``(B, each · K)``: started at its spread point, and from farther out.

    The second start is on the opposite side. If one start lies on this side of a sensor, the other may lie beyond it.
    The posterior of a range is a shell, and each side of it can hold a mode. The second images also leave out one
    observation in turn.
    """
    any_way = spread_points(*tokens.means.shape[1:])
    factors = la.cholesky(tokens.covariances)
    count = tokens.means.shape[1]
    starts = tokens.means + la.times(factors, tokens.spread)
    used = observations.mask[:, None].to(starts.dtype).expand(-1, count, -1)
    if each == 2:
        away = torch.where((tokens.rank > 0)[..., None], -tokens.spread, any_way.to(tokens.means))
        starts = torch.cat([starts, tokens.means + la.times(factors, FARTHER * away)], 1)
        mean = (tokens.log_weights.exp()[..., None] * tokens.means).sum(1)
        used = torch.cat([used, with_one_left_out(observations, mean, count)], 1)
    means, covariances = tokens.means.repeat(1, each, 1), tokens.covariances.repeat(1, each, 1, 1)
    return gauss_newton_images(starts, means, covariances, observations, used, rounds)


def with_one_left_out(observations: Observations, near: Tensor, count: int) -> Tensor:
    """Which observations to use, as a float ``(B, count, N)``: all, or in turn all but one possible outlier.

    The residuals at `near` ``(B, d)`` decide the turns, so they do not depend on the observations' order.
    """
    # count the observations, not the places in the batch
    turn = torch.arange(count, device=near.device) % (observations.mask.sum(1, keepdim=True) + 1)
    chosen = ranks(observations, near)[:, None] + 1 == turn[..., None]
    several = (observations.mask.sum(1) > 1)[:, None]
    doubtful = (observations.outlier_probability > 0) & several
    return (observations.mask[:, None] & ~(chosen & doubtful[:, None])).to(near.dtype)


def ranks(observations: Observations, near: Tensor) -> Tensor:
    """Places ``(B, N)`` of the observations in falling order of their residuals at `near` ``(B, d)``."""
    size = observations.residuals(near[:, None]).squared[:, 0]
    size = torch.where(observations.mask, size, -1.0)
    return size.argsort(dim=1, descending=True, stable=True).argsort(dim=1)


def local_covariances(points: Tensor, covariances: Tensor, observations: Observations) -> Tensor:
    """Covariances of the posterior near `points` ``(B, K, d)``, with each observation as an inlier.

    `covariances` ``(B, K, d, d)`` are those of the prior's component there.
    """
    # in the frame of the prior, where units do not matter
    factors = la.cholesky(covariances, torch.finfo(points.dtype).tiny)
    identity = torch.eye(points.shape[-1], dtype=points.dtype, device=points.device)
    linear = observations.linearise(points, factors)
    inlier = observations.weights(linear.residuals.log_odds.clamp(-12, 12)) * observations.mask[:, None]
    total = identity + (linear.information * inlier[..., None, None]).sum(2)
    found = _cut(total, linear.curvature, linear.residuals.signed.abs().clamp_min(1.0) * inlier)
    found = la.symmetrise(factors @ found @ factors.mT)
    return torch.where(found.isfinite().flatten(-2).all(-1)[..., None, None], found, covariances)


def _cut(precision: Tensor, curvature: Tensor, weight: Tensor) -> Tensor:
    """Covariance of a precision, limited to where the linearisation holds: along a ring, to where it is straight."""
    bend = ((curvature.square().sum((-1, -2)) + 1e-12).sqrt() * weight).sum(2)
    identity = torch.eye(precision.shape[-1], dtype=precision.dtype, device=precision.device)
    factors = la.inverse_cholesky(
        precision + bend[..., None, None] * identity, torch.finfo(precision.dtype).tiny
    )
    return factors @ factors.mT


def _prior_log_densities(prior: GaussianMixture, factors: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Log of weight × density of each component ``(B, K, P)``, and log density ``(B, P)``."""
    components = prior.log_weights[..., None] + component_log_density(points, prior.means, factors)
    return components, torch.logsumexp(components, 1)


def _answer_log_densities(answer: GaussianMixture, factors: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Log densities ``(B, P)`` of an answer and of the widened answer."""
    own = component_log_density(points, answer.means, factors)
    # same offsets with covariances four times as large: a quarter of the exponent
    constant = la.log_diagonal(factors) + 0.5 * answer.dimension * math.log(2 * math.pi)
    lost = (1 - 1 / WIDENING) * constant + 0.5 * answer.dimension * math.log(WIDENING)
    widened = torch.add((answer.log_weights - lost)[..., None], own, alpha=1 / WIDENING)
    log_answer = torch.logsumexp(answer.log_weights[..., None] + own, 1)
    return log_answer, torch.logsumexp(widened, 1)


def weigh(
    prior: GaussianMixture,
    answer: GaussianMixture,
    observations: Observations,
    images: GaussianMixture,
    count: int,
    seed: int,
    shares: tuple[float, ...] = SHARES,
) -> Weighted:
    """Draw `count` points for every problem of the batch, by `shares`, and evaluate them."""
    near, spread, around = (round(share * count) for share in shares[:3])
    rest = count - near - spread - around
    if is_native(answer.means, single=True):
        noises = (
            normal_points(near, answer.dimension, seed),
            normal_points(spread, answer.dimension, seed + 1),
            normal_points(around, answer.dimension, seed + 2),
            normal_points(rest, answer.dimension, seed + 3),
        )
        points, log_prior, proposal, log_answer, components = native_importance.draw(
            prior, answer, images, noises
        )
        at = points if observations.native is not None else points.to(observations.value.dtype)
        target = log_prior + observations.log_likelihood(at)
        return Weighted(points, target, proposal, log_answer, components)
    prior_factors, factors = prior.factors(), answer.factors()
    wide = factors * math.sqrt(WIDENING)
    image_factors = images.factors()
    points = torch.cat(
        [
            systematic(answer, factors, near, seed),
            systematic(answer, wide, spread, seed + 1),
            systematic(prior, prior_factors, around, seed + 2),
            systematic(images, image_factors, rest, seed + 3),
        ],
        1,
    )
    log_answer, log_wide = _answer_log_densities(answer, factors, points)
    prior_components, log_prior = _prior_log_densities(prior, prior_factors, points)
    log_images = log_density(images, image_factors, points)
    parts = torch.stack([log_answer, log_wide, log_prior, log_images], -1)
    drawn = parts.new_tensor([near, spread, around, rest]) / count
    proposal = torch.logsumexp(parts + drawn.log(), -1)
    target = log_prior + observations.log_likelihood(points)
    return Weighted(points, target, proposal, log_answer, prior_components)


class Quality(NamedTuple):
    """Quality of an answer, estimated on importance points; each field is ``(B,)``."""

    effective_sample_size: Tensor  # as a fraction of the points
    log_evidence: Tensor
    divergence: Tensor  # KL(exact ‖ answer) in nats
    deviation: Tensor  # standard error of `divergence`


def quality(weighted: Weighted) -> Quality:
    """Quality of the answer as a proposal.

    With p the exact posterior and q the answer, the effective sample size is ``1 / E_p[min(p/q, 30)]``. It is 1 only if
    q = p. It is small if q misses mass of p, because the expectation is over the defensive points. Weights are
    truncated (E. L. Ionides, "Truncated Importance Sampling", J. Computational and Graphical Statistics 17(2), 2008).
    Without truncation, far tails without mass would dominate, and the result would say nothing about the distance. The
    divergence sees what truncation hides, so the bound here is ``exp(−2 KL)``: what it is for two near densities.

    The standard error is by the delta method for independent points; these points are spread more evenly.
    """
    if is_native(weighted.target):
        return Quality(
            *native_importance.quality(weighted.target, weighted.proposal, weighted.answer, TRUNCATION)
        )
    log_weight = weighted.target - weighted.proposal
    points = log_weight.shape[1]
    count = math.log(points)
    log_evidence = torch.logsumexp(log_weight, 1) - count
    log_ratio = weighted.target - weighted.answer - log_evidence[:, None]
    truncated = log_ratio.clamp(max=math.log(TRUNCATION))
    mean = torch.logsumexp(log_weight - log_evidence[:, None] + truncated, 1) - count
    share = torch.softmax(log_weight, 1)
    # the ratio may be undefined at a point without weight
    log_ratio = torch.where(share > 0, log_ratio, 0.0)
    divergence = (share * log_ratio).sum(1)
    influence = share * (log_ratio - divergence[:, None] - 1) + 1 / points
    deviation = influence.square().sum(1).sqrt()
    size = torch.minimum((-mean).exp(), (-2 * divergence).exp())
    return Quality(size.clamp(0.0, 1.0), log_evidence, divergence.clamp_min(0.0), deviation)


def moments(weighted: Weighted) -> tuple[Tensor, Tensor]:
    """Mean ``(B, d)`` and covariance ``(B, d, d)`` of the exact posterior, estimated on the points."""
    share = torch.softmax(weighted.target - weighted.proposal, 1)
    mean = (share[..., None] * weighted.points).sum(1)
    offset = weighted.points - mean[:, None]
    return mean, torch.einsum("bp,bpd,bpe->bde", share, offset, offset)
