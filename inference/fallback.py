"""What stands in where the network's answer is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from inference.local import LocalProblem
from inference.mixture import GaussianMixture, pad
from inference.prediction import Prediction


def finite(mixture: GaussianMixture) -> Tensor:
    """Whose numbers all are, ``(B,)``."""
    parts = (mixture.log_weights, mixture.means.flatten(1), mixture.covariances.flatten(1))
    return torch.stack([part.isfinite().all(1) for part in parts]).all(0)


def with_fallback(answer: GaussianMixture, local: LocalProblem, unusable: Tensor) -> GaussianMixture:
    """Put one Gauss-Newton step a component where the network's answer is not finite."""
    simple = Prediction.of(local.prior, local.observations).posterior(local.prior).normalised()
    safe = simple.where(finite(simple)[:, None], local.prior)
    count = max(safe.components, answer.components)
    return pad(safe, count).where(unusable[:, None], pad(answer, count))
