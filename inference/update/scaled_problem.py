"""Problems in coordinates of about unit spread, with their observations linearised once for all methods."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Linearisation, Observations
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native_forms import native_form
from beliefstream.inference.update import nearly_linear


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
        """The problems of the entities at `index`, in rising order."""
        if len(index) == len(self.scale):
            return self
        return Scaled(
            self.prior.rows(index),
            self.observations.rows_of(index),
            self.shift[index],
            self.scale[index],
            self.linear.rows(index),
            self.prediction.rows_of(index),
        )

    def exact(self, index: Tensor) -> Exact:
        """Unreduced posterior, log evidence and surprise ``(B,)`` of the entities at `index`; exact for linear sensors.

        One Kalman update per component, weighted by its evidence.
        """
        problem = self.rows(index)
        prior, prediction = problem.prior, problem.prediction
        posterior = problem.back(prediction.posterior(prior).normalised())
        evidence = torch.logsumexp(prior.log_weights + prediction.log_evidence, 1)
        return posterior, evidence, prediction.surprise(prior)

    def back(self, mixture: GaussianMixture) -> GaussianMixture:
        """Transform `mixture` back to the state's own coordinates."""
        means = mixture.means * self.scale[:, None, None] + self.shift[:, None]
        return GaussianMixture(
            mixture.log_weights, means, mixture.covariances * self.scale[:, None, None, None].square()
        )


Exact = tuple[GaussianMixture, Tensor, Tensor]
Parts = tuple[GaussianMixture, Tensor, Scaled]


@dataclass(frozen=True)
class Posed:
    """A batch of problems, with the quantities that all methods share.

    Attributes:
        closed: whether all of an entity's sensors are linear without outliers, ``(B,)`` bool.
        divergence: `nearly_linear.divergence`, ``(B,)``.
        exact: as `Scaled.exact`; only for `closed` problems.
    """

    closed: Tensor
    divergence: Tensor
    exact: Callable[[Tensor], Exact]
    _parts: Callable[[], Parts]  # which one problem in closed form does not need

    @cached_property
    def parts(self) -> Parts:
        """`prior`, `touched` and `scaled`."""
        return self._parts()

    @property
    def prior(self) -> GaussianMixture:
        """The priors over all coordinates, their components in order."""
        return self.parts[0]

    @property
    def touched(self) -> Tensor:
        """Coordinates that each entity's sensors touch, ``(B, D)`` bool."""
        return self.parts[1]

    @property
    def scaled(self) -> Scaled:
        """The problems in coordinates of about unit spread."""
        return self.parts[2]


def pose(prior: GaussianMixture, observations: Observations, below: float = math.inf) -> Posed:
    """Order and scale a batch of problems; `below` as in `nearly_linear.divergence`.

    On the CPU, `native_scaling` does it without PyTorch's operators.
    """
    tensors = (prior.log_weights, prior.means, prior.covariances, observations.value)
    native = native_form("update.native_scaling", *tensors)
    if native is None or observations.native is None:
        return pose_by_operators(prior, observations, below)
    posed: Posed = native.pose(prior, observations, observations.native, below)
    return posed


def pose_by_operators(prior: GaussianMixture, observations: Observations, below: float) -> Posed:
    """As `pose`, by PyTorch's operators."""
    # sample points are shared out in component order; sorting makes the answer independent of the given order
    prior = prior.ordered()
    touched = (observations.matrix != 0).any(2) | (observations.heading != 0)
    touched = (touched & observations.mask[..., None]).any(1)
    scaled = Scaled.of(prior, observations, touched)
    divergence = nearly_linear.divergence(scaled.prior, scaled.observations, below, scaled.linear)
    plain = (observations.kind == LINEAR) & (observations.outlier_probability == 0)
    closed = (plain | ~observations.mask).all(1)
    return Posed(closed, divergence, scaled.exact, lambda: (prior, touched, scaled))
