"""Problems in coordinates of about unit spread, with their observations linearised once for all methods."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture


class Scaled(NamedTuple):
    """Problems in coordinates ``y = (x − shift) / scale`` where the touched coordinates have about unit spread."""

    prior: GaussianMixture
    observations: Observations
    shift: Tensor  # (B, D)
    scale: Tensor  # (B,)
    linear: Linearisation  # at the means of the prior, in the frames of its factors
    prediction: Prediction

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations, touched: Tensor) -> Scaled:
        """Scale problems by their touched coordinates, `touched` ``(B, D)`` bool."""
        shift, covariance = prior.moments()
        variances = torch.where(touched, covariance.diagonal(dim1=-2, dim2=-1), 0.0)
        scale = (variances.sum(1) / touched.sum(1).clamp_min(1)).sqrt()
        there, seen = prior.in_coordinates(shift, scale), observations.in_coordinates(shift, scale)
        factors = there.factors()
        linear = seen.linearise(there.means, factors)
        return cls(there, seen, shift, scale, linear, Prediction.of_linearised(factors, seen, linear))

    def rows(self, index: Tensor) -> Scaled:
        """The problems of the entities at `index`."""
        return Scaled(
            self.prior.rows(index),
            self.observations.rows_of(index),
            self.shift[index],
            self.scale[index],
            self.linear.rows(index),
            self.prediction.rows_of(index),
        )

    def back(self, mixture: GaussianMixture) -> GaussianMixture:
        """Transform `mixture` back to the state's own coordinates."""
        means = mixture.means * self.scale[:, None, None] + self.shift[:, None]
        return GaussianMixture(
            mixture.log_weights, means, mixture.covariances * self.scale[:, None, None, None].square()
        )
