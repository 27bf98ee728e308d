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
    offsets: Tensor  # the token's fixed offset ξ, and that from the siblings' centre, (B, K, 2, d)
    innovation_odds: Tensor  # inlier odds that allow for the token's own spread, (B, K, N)

    def weighted(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of information ``(B, K, W, d, d)`` and gradient ``(B, K, W, d)``, by `weights` ``(B, K, W, N)``."""
        information = self.linearisation.information
        total = (weights @ information.flatten(-2)).view(*weights.shape[:-1], *information.shape[-2:])
        return total, weights @ self.linearisation.gradient


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
    prior_inverse: Tensor,
    spread: Tensor,
    sibling_average: Tensor,
) -> Frame:
    """Linearise at each token's mean and express the result, and its offset `spread`, in its whitened frame."""
    linearisation = linearise(observations, means, factors)
    residuals = linearisation.residuals
    prior_offset = la.times(prior_inverse, prior_means - means)
    to_prior = prior_inverse @ factors
    offsets = torch.stack([spread, means - sibling_average @ means], -2) @ la.invert_lower(factors).mT
    trace = la.trace(linearisation.information)
    shrunk = 0.5 * residuals.squared * trace / (1 + trace) - 0.5 * torch.log1p(trace)
    return Frame(
        linearisation,
        prior_offset,
        la.transpose_times(to_prior, prior_offset),
        to_prior.mT @ to_prior,
        offsets / (1 + 0.2 * la.norm(offsets, True)),
        residuals.log_odds + shrunk,
    )


def pair_features(frame: Frame, observations: Observations, inverse_hessian: Tensor) -> Tensor:
    """Features of each (token, observation) pair, ``(B, K, N, 19)``; `inverse_hessian` ``(B, K, d, d)``."""
    gradient, information, curvature, _, residuals = frame.linearisation
    probability = observations.outlier_probability[:, None].expand_as(residuals.squared)
    several = (observations.rows > 1).to(gradient.dtype)[:, None].expand_as(residuals.squared)
    best = residuals.log_likelihood.amax(1, keepdim=True)
    along_spread, along_siblings = (gradient @ frame.offsets.mT).unbind(-1)
    # tr(M F) of a symmetric M is the sum over products of entries: vᵀMv for F = v vᵀ, the trace for the identity
    identity = torch.eye(gradient.shape[-1], dtype=gradient.dtype, device=gradient.device)
    last = torch.stack([inverse_hessian, identity.expand_as(inverse_hessian)], 2)
    forms = torch.cat([la.outer(frame.offsets, frame.offsets), last], 2).flatten(-2).mT
    spread, siblings, share, trace = (information.flatten(-2) @ forms).unbind(-1)
    bent_spread, _, bent, bent_trace = (curvature.flatten(-2) @ forms).unbind(-1)
    logged = [
        residuals.signed,
        (residuals.squared + 1e-8).sqrt(),
        (gradient @ inverse_hessian * gradient).sum(-1),
        bent_trace,
        (curvature.square().sum((-1, -2)) + 1e-8).sqrt(),
        bent,
        along_spread,
        spread.clamp_min(0),
        along_siblings,
        siblings.clamp_min(0),
        bent_spread,
    ]
    logs = signed_log(torch.stack(logged, -1)).unbind(-1)
    columns = [
        several,
        *logs[:2],
        (trace + 1e-9).log() * 0.3,
        logs[2],
        share,
        *logs[3:],
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
    hessian_log_determinant, volume = log_determinants
    others = torch.stack([step, total_gradient, frame.prior_offset, frame.prior_gradient], -2)
    vectors = torch.cat([frame.offsets, others], -2)
    products = vectors @ vectors.mT
    norms = (products.diagonal(dim1=-2, dim2=-1) + 1e-8).sqrt()
    spread, siblings, newton, _, prior_offset, prior_gradient = norms.unbind(-1)
    of_spread = products[..., 0, :].unbind(-1)
    logged = [newton, products[..., 2, 3], prior_offset, evidence]
    logged += [of_spread[2], products[..., 1, 2], prior_gradient, of_spread[5]]
    logs = signed_log(torch.stack(logged, -1)).unbind(-1)
    columns = [
        *logs[:3],
        hessian_log_determinant * 0.3,
        volume * 0.3,
        logs[3] * 0.3,
        log_weight_change * 0.3,
        (evidence - evidence.amax(1, keepdim=True)).clamp(min=-30) * 0.1,
        spread,
        siblings,
        *logs[4:6],
        *(frame.offsets @ inverse_hessian * frame.offsets).sum(-1).clamp_min(1e-8).sqrt().unbind(-1),
        of_spread[1],
        *logs[6:],
        la.trace(inverse_hessian) / step.shape[-1],
    ]
    return torch.stack(columns, -1)
