"""Fallback for answers of the network that are not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture, pad
from beliefstream.inference.update.local_problem import LocalProblem


def finite(mixture: GaussianMixture) -> Tensor:
    """Which mixtures have only finite numbers, ``(B,)`` bool."""
    parts = (mixture.log_weights, mixture.means.flatten(1), mixture.covariances.flatten(1))
    return torch.stack([part.isfinite().all(1) for part in parts]).all(0)


def with_fallback(answer: GaussianMixture, local: LocalProblem, unusable: Tensor) -> GaussianMixture:
    """Replace answers that are not finite by one Gauss-Newton step per component."""
    simple = Prediction.of(local.prior, local.observations).posterior(local.prior).normalised()
    safe = simple.where(finite(simple)[:, None], local.prior)
    count = max(safe.components, answer.components)
    return pad(safe, count).where(unusable[:, None], pad(answer, count))
