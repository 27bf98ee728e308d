"""Input features of the network: invariants of a token, of its observations and of their pairs.

Each feature is a scalar computed in the token's own whitened frame. So a shift, a rotation or a change of units of the
state does not change it. Dimension enters only as a number. Magnitudes go through a signed logarithm.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.network.linearisation import linearise

TOKEN_CONSTANTS, PAIR_FEATURES, TOKEN_FEATURES = 7, 19, 18


def signed_log(value: Tensor) -> Tensor:
    return value.sign() * torch.log1p(value.abs())


class Frame(NamedTuple):
    """Inputs of one layer, all in the whitened frame of each token's current estimate."""

    linearisation: Linearisation
    prior_offset: Tensor  # whitened by the prior: L₀⁻¹(m₀ − μ), (B, K, d)
    prior_gradient: Tensor  # (B, K, d)
    prior_precision: Tensor  # (B, K, d, d)
    spread: Tensor  # the token's fixed offset ξ, (B, K, d)
    siblings: Tensor  # offset from the siblings' centre, (B, K, d)
    information_trace: Tensor  # (B, K, N)
    innovation_odds: Tensor  # inlier odds that allow for the token's own spread, (B, K, N)


def token_constants(log_weights: Tensor, rank: Tensor, count: Tensor, dimension: int) -> Tensor:
    """Features of a token before any observation, ``(B, K, 7)``."""
    rank_, count_ = rank.to(log_weights.dtype), count.to(log_weights.dtype)
    constant = torch.full_like(log_weights, 0.3 * dimension)
    columns = [
        log_weights * 0.3,
        (rank_ + 0.5) / count_,
        count_ * 0.2,
        rank_ * 0.2,
        (rank == 0).to(log_weights.dtype),
        (count > 1).to(log_weights.dtype),
        constant,
    ]
    return torch.stack(columns, -1)


def whiten(
    observations: Observations,
    means: Tensor,
    factors: Tensor,
    prior_means: Tensor,
    prior_factor: Tensor,
    prior_inverse: Tensor,
    spread: Tensor,
    sibling_average: Tensor,
) -> Frame:
    """Linearise at each token's mean and express the result in the token's whitened frame."""
    linearisation = linearise(observations, means, factors)
    residuals = linearisation.residuals
    inverse = la.invert_lower(factors)
    prior_offset = la.times(prior_inverse, prior_means - means)
    to_prior = prior_inverse @ factors
    own = la.times(inverse, la.times(prior_factor, spread))
    siblings = la.times(inverse, means - sibling_average @ means)
    trace = la.trace(linearisation.information)
    shrunk = 0.5 * residuals.squared * trace / (1 + trace) - 0.5 * torch.log1p(trace)
    return Frame(
        linearisation,
        prior_offset,
        la.transpose_times(to_prior, prior_offset),
        to_prior.mT @ to_prior,
        own / (1 + 0.2 * la.norm(own, True)),
        siblings / (1 + 0.2 * la.norm(siblings, True)),
        trace,
        residuals.log_odds + shrunk,
    )


def pair_features(frame: Frame, observations: Observations, inverse_hessian: Tensor) -> Tensor:
    """Features of each (token, observation) pair, ``(B, K, N, 19)``; `inverse_hessian` ``(B, K, d, d)``."""
    gradient, information, curvature, _, residuals = frame.linearisation
    hessian = inverse_hessian[:, :, None]
    spread, siblings = frame.spread[:, :, None], frame.siblings[:, :, None]
    probability = observations.outlier_probability[:, None].expand_as(residuals.squared)
    several = (observations.rows > 1).to(gradient.dtype)[:, None].expand_as(residuals.squared)
    best = residuals.log_likelihood.amax(1, keepdim=True)
    columns = [
        several,
        signed_log(residuals.signed),
        signed_log((residuals.squared + 1e-8).sqrt()),
        (frame.information_trace + 1e-9).log() * 0.3,
        signed_log((gradient * la.times(hessian, gradient)).sum(-1)),
        (hessian * information).sum((-1, -2)),
        signed_log(la.trace(curvature)),
        torch.log1p((curvature.square().sum((-1, -2)) + 1e-8).sqrt()),
        signed_log((hessian * curvature).sum((-1, -2))),
        signed_log((spread * gradient).sum(-1)),
        torch.log1p(la.quadratic(information, spread, spread).clamp_min(0)),
        signed_log((siblings * gradient).sum(-1)),
        torch.log1p(la.quadratic(information, siblings, siblings).clamp_min(0)),
        signed_log(la.quadratic(curvature, spread, spread)),
        probability * 3,
        (probability > 0).to(gradient.dtype),
        residuals.log_odds.clamp(-15, 15) * 0.2,
        frame.innovation_odds.clamp(-15, 15) * 0.2,
        (residuals.log_likelihood - best).clamp(min=-30) * 0.1,
    ]
    return torch.stack(columns, -1)


def token_features(
    frame: Frame,
    step: Tensor,
    total_gradient: Tensor,
    inverse_hessian: Tensor,
    log_determinants: tuple[Tensor, Tensor],
    evidence: Tensor,
    log_weight_change: Tensor,
) -> Tensor:
    """Features of each token at this layer, ``(B, K, 18)``."""
    spread, siblings = frame.spread, frame.siblings
    hessian_log_determinant, volume = log_determinants
    columns = [
        signed_log(la.norm(step)),
        signed_log((step * total_gradient).sum(-1)),
        signed_log(la.norm(frame.prior_offset)),
        hessian_log_determinant * 0.3,
        volume * 0.3,
        signed_log(evidence) * 0.3,
        log_weight_change * 0.3,
        (evidence - evidence.amax(1, keepdim=True)).clamp(min=-30) * 0.1,
        la.norm(spread),
        la.norm(siblings),
        signed_log((spread * step).sum(-1)),
        signed_log((siblings * step).sum(-1)),
        la.quadratic(inverse_hessian, spread, spread).clamp_min(1e-8).sqrt(),
        la.quadratic(inverse_hessian, siblings, siblings).clamp_min(1e-8).sqrt(),
        (spread * siblings).sum(-1),
        signed_log(la.norm(frame.prior_gradient)),
        signed_log((frame.prior_gradient * spread).sum(-1)),
        la.trace(inverse_hessian) / step.shape[-1],
    ]
    return torch.stack(columns, -1)
