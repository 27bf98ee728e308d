"""Extended Kalman filter for counts: a Gaussian with the mean and the variance of the count at the estimate.

A Poisson count has the variance of its mean λ. With the gradient g of λ at the estimate, the innovation has the
variance ``gᵀ P g + λ``; so this is the extended Kalman filter with a noise that is matched to the likelihood's moments
(S. Särkkä, "Bayesian Filtering and Smoothing", 2013, section 5.2, with the moments of the count for h and R).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture


class MomentMatchedFilter:
    """One Gaussian over ``D`` coordinates, float64.

    Args:
        mean: ``(D,)``.
        covariance: ``(D, D)``.
    """

    def __init__(self, mean: Tensor, covariance: Tensor) -> None:
        self.mean, self.covariance = mean.double(), covariance.double()

    def update(self, expected: Callable[[Tensor], Tensor], count: float) -> None:
        """Update with a Poisson `count`; `expected` gives its mean at a state ``(D,)``."""
        gradient, rate = grad_and_value(expected)(self.mean)
        across = self.covariance @ gradient
        variance = gradient.dot(across) + rate.clamp_min(torch.finfo(rate.dtype).tiny)
        gain = across / variance
        self.mean = self.mean + gain * (count - rate)
        self.covariance = la.symmetrise(self.covariance - torch.outer(gain, across))

    def posterior(self) -> GaussianMixture:
        """The belief as a mixture of one component, of a batch of one."""
        return GaussianMixture.gaussian(self.mean[None], self.covariance[None])
