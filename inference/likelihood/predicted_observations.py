"""Predicted observations of a prior, linearised at each component's mean: exact for linear sensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form


class Prediction(NamedTuple):
    """All observations of an entity, linearised at each component's mean in the frame of its factor."""

    factors: Tensor  # of the prior, (B, K, D, D)
    gradient: Tensor  # (B, K, D)
    gain: Tensor  # covariance after the update, (B, K, D, D)
    distance: Tensor  # squared Mahalanobis length of the joint innovation, (B, K)
    log_evidence: Tensor  # (B, K)
    rows: Tensor  # degrees of freedom, (B,)

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations) -> Prediction:
        factors = prior.factors()
        return cls.of_linearised(factors, observations, observations.linearise(prior.means, factors))

    @classmethod
    def of_linearised(cls, factors: Tensor, observations: Observations, linear: Linearisation) -> Prediction:
        """The prediction from `linear`, the observations at the prior's means in the frames of its `factors`."""
        used = observations.mask[:, None].to(factors.dtype)
        gradient = (linear.gradient * used[..., None]).sum(2)
        information = (linear.information * used[..., None, None]).sum(2)
        identity = torch.eye(factors.shape[-1], dtype=factors.dtype, device=factors.device)
        grown = la.cholesky(identity + information)
        gain = la.invert_from_factor(grown)
        squared = (linear.residuals.squared * used).sum(-1)
        distance = (squared - la.quadratic(gain, gradient, gradient)).clamp_min(0)
        peak = (observations.log_peaks(linear.residuals) * used).sum(-1)
        log_evidence = -0.5 * distance - la.log_diagonal(grown) + peak
        rows = (observations.rows * observations.mask).sum(-1)
        return cls(factors, gradient, gain, distance, log_evidence, rows)

    def rows_of(self, index: Tensor) -> Prediction:
        """The predictions of the entities at `index`."""
        return Prediction(*(tensor[index] for tensor in self))

    def posterior(self, prior: GaussianMixture) -> GaussianMixture:
        """One Kalman update per component, weighted by its evidence; not normalised."""
        means = prior.means + la.times(self.factors, la.times(self.gain, self.gradient))
        covariances = la.symmetrise(self.factors @ self.gain @ self.factors.mT)
        return GaussianMixture(prior.log_weights + self.log_evidence, means, covariances)

    def surprise(self, prior: GaussianMixture) -> Tensor:
        """Probability of observations at least as far from the prediction, by the linearised innovation, ``(B,)``."""
        if native := native_form("likelihood.native_surprise", prior.log_weights, self.distance, self.rows):
            found: Tensor = native.surprise(prior.log_weights, self.distance, self.rows)
            return found
        freedom = (self.rows[:, None] / 2).expand_as(self.distance)
        tail: Tensor = torch.special.gammaincc(freedom, self.distance / 2)
        probability: Tensor = (prior.log_weights.exp() * tail).sum(1)
        return probability.clamp(0.0, 1.0)
