"""Gaussian-sum filter: one iterated extended Kalman filter per component, with a model of outliers.

Each observation is an inlier with probability ``1 − p``. Every component is updated under both hypotheses, inlier and
outlier, and weighted by their evidence. The result is the Gaussian with the moments of both. An outlier of a linear
sensor is the same observation with a wider noise; a uniform outlier has no information. The total evidence reweights
the components. After Alspach and Sorenson, "Nonlinear Bayesian estimation using Gaussian sum approximations", IEEE TAC
17(4), 1972.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, WIDE_OUTLIER, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.streams.scores.filters.kalman import Innovation, Measured, innovate, joseph, measure

_LINEARISATIONS = 3  # of each observation
_LEAST_PROBABILITY = 1e-12  # as in the likelihood of the observations


def gaussian_sum_update(prior: GaussianMixture, observations: Observations) -> GaussianMixture:
    """Return the posterior ``(B, K)`` of a prior ``(B, K)``, in float64; exact for linear sensors without outliers."""
    belief, observations = prior.to(dtype=torch.float64), observations.to(dtype=torch.float64)
    for index in range(observations.kind.shape[1]):
        belief = _update_one(belief, observations, index)
    return belief.normalised()


def _update_one(belief: GaussianMixture, observations: Observations, index: int) -> GaussianMixture:
    means, covariances = belief.means, belief.covariances
    innovation, updated = _iterate(observations, index, means, covariances)
    probability = observations.outlier_probability[:, index, None]
    normaliser = observations.log_normaliser[:, index, None]
    keep = (1 - probability).clamp_min(_LEAST_PROBABILITY).log() + innovation.log_density - normaliser
    evidence, other_means, other_covariances = _as_outlier(belief, observations, index)
    skip = probability.clamp_min(_LEAST_PROBABILITY).log() + evidence
    total = torch.logaddexp(keep, skip)
    share = (keep - total).exp()[..., None]
    mean, covariance = _merge(share, means + innovation.step, updated, other_means, other_covariances)
    used = observations.mask[:, index, None]
    return GaussianMixture(
        torch.where(used, belief.log_weights + total, belief.log_weights),
        torch.where(used[..., None], mean, means),
        torch.where(used[..., None, None], covariance, covariances),
    )


def _iterate(
    observations: Observations, index: int, means: Tensor, covariances: Tensor
) -> tuple[Innovation, Tensor]:
    """Update ``K`` Gaussians with one observation each, linearised again at each new mean (Bell and Cathey 1993).

    Returns the last innovation and the covariances.
    """
    states = means
    for _ in range(_LINEARISATIONS):
        measured = measure(observations, index, states)
        innovation = innovate(measured, means - states, covariances)
        states = means + innovation.step
    return innovation, joseph(covariances, innovation.gain, measured.jacobian)


def _as_outlier(
    belief: GaussianMixture, observations: Observations, index: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log evidence ``(B, K)``, means and covariances with the observation as an outlier."""
    measured = measure(observations, index, belief.means)
    wide = Measured(measured.residual / WIDE_OUTLIER, measured.jacobian / WIDE_OUTLIER)
    innovation = innovate(wide, torch.zeros_like(belief.means), belief.covariances)
    scale = observations.log_normaliser[:, index] + observations.rows[:, index] * math.log(WIDE_OUTLIER)
    linear = (observations.kind[:, index] == LINEAR)[:, None]
    uniform = observations.outlier_log_density[:, index, None]
    evidence = torch.where(linear, innovation.log_density - scale[:, None], uniform)
    means = torch.where(linear[..., None], belief.means + innovation.step, belief.means)
    updated = joseph(belief.covariances, innovation.gain, wide.jacobian)
    return evidence, means, torch.where(linear[..., None, None], updated, belief.covariances)


def _merge(
    share: Tensor, means: Tensor, covariances: Tensor, other_means: Tensor, other_covariances: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the moments of ``share N(means, covariances) + (1 − share) N(other...)``; `share` ``(B, K, 1)``."""
    mean = share * means + (1 - share) * other_means
    part, offset = share[..., None], means - other_means
    between = part * (1 - part) * la.outer(offset, offset)
    return mean, part * covariances + (1 - part) * other_covariances + between
