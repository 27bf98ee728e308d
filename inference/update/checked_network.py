"""One pass of the network, with its answer checked by importance sampling.

The answer is extended to the whole state, reduced, and measured. Poor answers go through
`inference.update.thorough_network`.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.network.transformer import DistributionTransformer, duplicate_components
from beliefstream.inference.update import importance
from beliefstream.inference.update.component_weights import reweighted
from beliefstream.inference.update.fallback import finite, with_fallback
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.result import Method, Update
from beliefstream.inference.update.settings import UpdateSettings


class CheckedNetwork:
    """The network with its check."""

    def __init__(self, network: DistributionTransformer, settings: UpdateSettings) -> None:
        self.network, self.settings = network, settings

    def update(self, local: LocalProblem, surprise: Tensor) -> Update:
        """Posterior of each problem; `surprise` ``(B,)`` of the observations is passed on to the result."""
        answer, images, unusable = self._answer(local)
        local = replace(local, images=images)
        whole = reweighted(local, self._reduced(local.extend(answer)))
        result = self._judged(local, whole, surprise, self.settings.points)
        return replace(result, method=torch.where(unusable, int(Method.FALLBACK), result.method))

    def _answer(self, local: LocalProblem) -> tuple[GaussianMixture, GaussianMixture, Tensor]:
        """The network's answer, the images of the prior, and where the answer is a fallback ``(B,)``."""
        fits = local.prior.components <= self.settings.components
        count = self.settings.components if fits else self.settings.most_components
        prior = local.prior
        if prior.components > count:
            prior = reduce(local.prior64, count, self.settings.merge_below)
            prior = prior.to(dtype=local.prior.means.dtype, device=local.prior.means.device)
        tokens = duplicate_components(prior, count)
        estimate = self.network(tokens, local.observations)
        walk = self.settings.images, self.settings.image_rounds
        images = importance.prior_images(tokens, local.observations, *walk)
        answer = GaussianMixture(estimate.log_weights, estimate.means, estimate.factors @ estimate.factors.mT)
        unusable = ~finite(answer)
        if bool(unusable.any()):
            answer = with_fallback(answer, local, unusable)
        if share := self.settings.prior_share:
            whole = GaussianMixture.gaussian(*local.prior.moments())
            answer = beside([answer.scaled_by(math.log1p(-share)), whole.scaled_by(math.log(share))])
        return answer, images, unusable.cpu()

    def _checked(self, local: LocalProblem, answer: GaussianMixture, surprise: Tensor, points: int) -> Update:
        """Extend an answer to the whole state, reduce it, and measure the result."""
        return self._judged(local, self._reduced(local.extend(answer)), surprise, points)

    def _judged(self, local: LocalProblem, whole: GaussianMixture, surprise: Tensor, points: int) -> Update:
        """Measure an answer over the whole state."""
        method = torch.full((whole.batch,), Method.TRANSFORMER, dtype=torch.int64)
        unmeasured = torch.zeros(whole.batch, dtype=torch.float64)
        update = Update(whole, unmeasured, unmeasured, surprise, method, unmeasured)
        return self._measured(local, update, points)

    def _reduced(self, mixture: GaussianMixture) -> GaussianMixture:
        return reduce(mixture, self.settings.most_components, self.settings.merge_below)

    def _measured(
        self, local: LocalProblem, update: Update, points: int, seed: int = importance.CHECK_SEED
    ) -> Update:
        """Estimate the quality and evidence of an update on `points` samples."""
        answer = local.localise(update.posterior)
        return with_quality(update, importance.quality(local.weigh(answer, points, seed)))


def with_quality(update: Update, found: importance.Quality) -> Update:
    """The update with its quality and evidence replaced."""
    size, evidence, divergence, deviation = (part.double().cpu() for part in found)
    return replace(
        update,
        effective_sample_size=torch.nan_to_num(size, nan=0.0),
        log_evidence=evidence,
        divergence=torch.nan_to_num(divergence + deviation, nan=math.inf),
    )
