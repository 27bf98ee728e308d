"""What a prior predicts of the observations, linearised at each component's mean: exact for linear sensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.mixture import GaussianMixture
from inference.observations import Observations


@dataclass(frozen=True)
class Prediction:
    """All of an entity's observations linearised at each component's mean."""

    gradient: Tensor  # (B, K, D)
    information: Tensor  # (B, K, D, D)
    precision: Tensor  # of the prior, (B, K, D, D)
    distance: Tensor  # squared Mahalanobis length of the joint innovation, (B, K)
    log_evidence: Tensor  # (B, K)
    rows: Tensor  # degrees of freedom, (B,)

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations) -> Prediction:
        used = observations.mask[:, None].to(prior.means.dtype)
        eye = torch.eye(prior.dimension, dtype=prior.means.dtype, device=prior.means.device)
        linear = observations.linearise(prior.means, eye.expand_as(prior.covariances))
        gradient = (linear.gradient * used[..., None]).sum(2)
        information = (linear.information * used[..., None, None]).sum(2)
        precision = la.invert(prior.covariances, torch.finfo(prior.means.dtype).tiny)
        gain = la.invert(precision + information)
        squared = (linear.residuals.squared * used).sum(-1)
        distance = (squared - la.quadratic(gain, gradient, gradient)).clamp_min(0)
        grown = la.log_diagonal(la.cholesky(precision + information)) - la.log_diagonal(
            la.cholesky(precision)
        )
        constant = (observations.log_normaliser * observations.mask).sum(-1)
        rows = (observations.rows * observations.mask).sum(-1)
        return cls(
            gradient, information, precision, distance, -0.5 * distance - grown - constant[:, None], rows
        )

    def posterior(self, prior: GaussianMixture) -> GaussianMixture:
        """One Kalman update a component, weighted by its evidence; not normalised."""
        gain = la.invert(self.precision + self.information)
        means = prior.means + la.times(gain, self.gradient)
        return GaussianMixture(prior.log_weights + self.log_evidence, means, la.symmetrise(gain))

    def surprise(self, prior: GaussianMixture) -> Tensor:
        """Probability of observations at least as far from the prediction, by the linearised innovation, ``(B,)``."""
        freedom = (self.rows[:, None] / 2).expand_as(self.distance)
        tail: Tensor = torch.special.gammaincc(freedom, self.distance / 2)
        probability: Tensor = (prior.log_weights.exp() * tail).sum(1)
        return probability.clamp(0.0, 1.0)
