"""What stands in where the network's answer is not finite."""

from __future__ import annotations

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.local import LocalProblem
from inference.mixture import GaussianMixture, concatenate
from inference.prediction import Prediction


def finite(mixture: GaussianMixture) -> Tensor:
    """Whose numbers all are, ``(B,)``."""
    parts = (mixture.log_weights, mixture.means.flatten(1), mixture.covariances.flatten(1))
    return torch.stack([part.isfinite().all(1) for part in parts]).all(0)


def with_fallback(
    answer: GaussianMixture, source: Tensor, local: LocalProblem, unusable: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """Put one Gauss-Newton step a component where the network's answer is not finite."""
    prediction = Prediction.of(local.prior, local.observations)
    gain = la.invert(prediction.precision + prediction.information)
    means = local.prior.means + la.times(gain, prediction.gradient)
    simple = GaussianMixture(local.prior.log_weights + prediction.log_evidence, means, gain).normalised()
    usable = finite(simple)[:, None]
    covariances = torch.where(usable[..., None, None], simple.covariances, local.prior.covariances)
    safe = GaussianMixture(
        torch.where(usable, simple.log_weights, local.prior.log_weights),
        torch.where(usable[..., None], simple.means, local.prior.means),
        covariances,
    )
    own = torch.arange(safe.components, device=source.device).expand(safe.batch, -1)
    places = answer.components
    padded = concatenate([safe, answer.rows(slice(0, 0))])
    own = torch.nn.functional.pad(own, (0, places - own.shape[1]))
    chosen = unusable[:, None]
    merged = GaussianMixture(
        torch.where(chosen, padded.log_weights, answer.log_weights),
        torch.where(chosen[..., None], padded.means, answer.means),
        torch.where(chosen[..., None, None], padded.covariances, answer.covariances),
    )
    return merged, torch.where(chosen, own, source)
