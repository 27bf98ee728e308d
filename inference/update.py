"""Prior and observations in, posterior and its quality out: the one door for callers.

1. Entities whose sensors are all linear and without outliers take the closed form (Kalman), which is exact.
2. The others go through the Distribution Transformer in the coordinates their sensors touch, shifted and scaled to
   zero mean and unit spread. Coordinates that no sensor touches follow exactly: for a state s with y = H s observed
   and token j a refinement of component k, ``m ← m + G (m'_j − H m)`` and ``P ← P − G (H P Hᵀ − S'_j) Gᵀ`` with
   ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. Every answer is reduced, then checked by importance sampling; where its effective sample size is below a threshold it
   is refined, and the better one kept. Where it is still low, the mixture cannot say the posterior (a thin ring, say):
   one wide component is added, so that no part of it is lost for good, and the next observations can decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import IntEnum

import torch
from torch import Tensor

from inference import importance
from inference import linear_algebra as la
from inference.local import LocalProblem
from inference.mixture import GaussianMixture, concatenate
from inference.observations import LINEAR, Observations
from inference.prediction import Prediction
from inference.reduction import reduce
from inference.refinement import refine
from inference.transformer import DistributionTransformer, duplicate_components


class Method(IntEnum):
    """How a posterior was found."""

    TRANSFORMER = 0
    REFINED = 1
    KALMAN = 2
    FALLBACK = 3


@dataclass(frozen=True)
class Update:
    """Posterior and quality of a batch; the vectors are ``(B,)``."""

    posterior: GaussianMixture
    effective_sample_size: Tensor  # share of the points, 0 to 1
    log_evidence: Tensor  # log p(observations), in the sensors' own units
    surprise: Tensor  # p-value of the observations under the prediction, 0 to 1
    method: Tensor  # of `Method`, int64

    def rows(self, index: Tensor) -> Update:
        vectors = (self.effective_sample_size, self.log_evidence, self.surprise, self.method)
        return Update(self.posterior.rows(index), *(vector[index] for vector in vectors))

    def with_rows(self, index: Tensor, other: Update) -> Update:
        """With the entities at `index` taken from `other`."""
        keep = torch.ones(len(self.method), dtype=torch.bool)
        keep[index] = False
        kept = torch.nonzero(keep)[:, 0]
        return _joined([(kept, self.rows(kept)), (index, other)])


@dataclass(frozen=True)
class Settings:
    """Accuracy against cost.

    Attributes:
        components: of a posterior, as many as its tokens in the network.
        growth: times as many where the check asks for them.
        merge_below: nats; pairs of components that merge for less are merged.
        points: drawn to check each answer.
        refine_below: effective sample size under which an answer is refined; 0 never refines.
        refine_rounds, refine_steps, refine_points: size of the refinement: how often points are drawn, steps of
            expectation-maximisation on them, how many.
        defend_below: effective sample size, refined, under which a wide component is added; 0 never.
        defence: weight of that component.
    """

    components: int = 8
    growth: int = 2
    merge_below: float = 0.002
    points: int = 96
    refine_below: float = 0.97
    refine_rounds: int = 3
    refine_steps: int = 2
    refine_points: int = 512
    defend_below: float = 0.8
    defence: float = 0.1

    @property
    def most_components(self) -> int:
        """Of any posterior."""
        return self.components * self.growth


def _joined(parts: list[tuple[Tensor, Update]]) -> Update:
    order = torch.argsort(torch.cat([index for index, _ in parts]))
    posterior = concatenate([update.posterior for _, update in parts])
    names = ("effective_sample_size", "log_evidence", "surprise", "method")
    vectors = [torch.cat([getattr(update, name) for _, update in parts]) for name in names]
    return Update(posterior, *vectors).rows(order)


class Updater:
    """Holds the network on its device; `update` takes and returns float64 on the CPU.

    `dtype` is what the network computes in. In float32 a sum rounds differently in a batch of another size, which now
    and then tips a decision to merge or to refine; in float64 an answer does not depend on the rest of its batch.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device | None = None,
        settings: Settings | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.network = network.to(self.device, dtype).eval()
        self.settings = settings or Settings()

    def with_components(self, components: int) -> Updater:
        """The same network with another bound on the number of components."""
        if components == self.settings.components:
            return self
        return Updater(self.network, self.device, replace(self.settings, components=components), self.dtype)

    @torch.inference_mode()
    def update(self, prior: GaussianMixture, observations: Observations) -> Update:
        """Posterior of every entity, `prior` ``(B, K, D)`` and `observations` over the same ``D`` coordinates.

        Raises ValueError if their batch or dimension differ, or an entity has no observation.
        """
        if prior.batch != observations.batch or prior.dimension != observations.dimension:
            raise ValueError(
                f"observations: {observations.batch} × {observations.dimension} coordinates do not match a prior of "
                f"{prior.batch} × {prior.dimension}"
            )
        used = observations.mask
        if not bool(used.any(1).all()):
            raise ValueError("observations: every entity needs at least one")
        # points are shared out in the order of the components, and what is given in another order is the same prior
        prior = prior.ordered()
        if prior.components > self.settings.most_components:
            prior = reduce(prior, self.settings.most_components, self.settings.merge_below)
        plain = (observations.kind == LINEAR) & (observations.outlier_probability == 0)
        closed = (plain | ~used).all(1)
        touched = (observations.matrix != 0).any(2) | (observations.heading != 0)
        touched = (touched & used[..., None]).any(1)
        code = (touched * (1 << torch.arange(prior.dimension))).sum(1)
        # a prior that grew beyond the usual number of components takes more tokens
        usual = self.settings.components
        grown = prior.present.sum(1) > usual
        code = code + (grown * (1 << prior.dimension))
        code = torch.where(closed, -1, code)
        parts: list[tuple[Tensor, Update]] = []
        for pattern in sorted(set(code.tolist())):
            index = torch.nonzero(code == pattern)[:, 0]
            some, seen = prior.rows(index), observations.rows_of(index)
            if pattern == -1:
                parts.append((index, self._kalman(some, seen)))
            else:
                axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
                if not bool(grown[index[0]]):
                    some = some.places(torch.arange(min(some.components, usual)).expand(some.batch, -1))
                parts.append((index, self._transform(some, seen, axes)))
        return _joined(parts) if len(parts) > 1 else parts[0][1].rows(torch.argsort(parts[0][0]))

    def _reduced(self, mixture: GaussianMixture) -> GaussianMixture:
        return reduce(mixture, self.settings.most_components, self.settings.merge_below)

    def _kalman(self, prior: GaussianMixture, observations: Observations) -> Update:
        """Exact: one Kalman update a component, weighted by its evidence."""
        prediction = Prediction.of(prior, observations)
        gain = la.invert(prediction.precision + prediction.information)
        posterior = GaussianMixture(
            prior.log_weights + prediction.log_evidence,
            prior.means + la.times(gain, prediction.gradient),
            la.symmetrise(gain),
        ).normalised()
        count = prior.batch
        return Update(
            self._reduced(posterior),
            torch.ones(count, dtype=torch.float64),
            torch.logsumexp(prior.log_weights + prediction.log_evidence, 1),
            prediction.surprise(prior),
            torch.full((count,), Method.KALMAN, dtype=torch.int64),
        )

    def _transform(self, prior: GaussianMixture, observations: Observations, axes: list[int]) -> Update:
        local = LocalProblem.of(prior, observations, axes, self.device, self.dtype)
        surprise = Prediction.of(local.prior64, local.observations64).surprise(prior)
        fits = prior.components <= self.settings.components
        tokens = duplicate_components(
            local.prior, self.settings.components if fits else self.settings.most_components
        )
        local = local.with_images(tokens)
        estimate = self.network(tokens, local.observations)
        answer = GaussianMixture(estimate.log_weights, estimate.means, estimate.factors @ estimate.factors.mT)
        source, unusable = tokens.source, ~_finite(answer)
        if bool(unusable.any()):
            answer, source = _replace(
                answer, source, Prediction.of(local.prior, local.observations), local, unusable
            )
        result = self._checked(prior, local, answer, source, surprise)
        refinable = (result.effective_sample_size < self.settings.refine_below) & ~unusable.cpu()
        if bool(refinable.any()):
            index = torch.nonzero(refinable)[:, 0]
            refined = self._refined(prior.rows(index), local.rows(index), answer, source, surprise, index)
            better = refined.effective_sample_size > result.effective_sample_size[index]
            result = result.with_rows(index[better], refined.rows(torch.nonzero(better)[:, 0]))
        poor = torch.nonzero(result.effective_sample_size < self.settings.defend_below)[:, 0]
        if len(poor):
            rows = result.rows(poor)
            result = result.with_rows(poor, self._defended(prior.rows(poor), local.rows(poor), rows))
        method = torch.where(unusable.cpu(), int(Method.FALLBACK), result.method)
        return replace(result, method=method)

    def _checked(
        self,
        prior: GaussianMixture,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        surprise: Tensor,
    ) -> Update:
        """Extend an answer to the whole state, reduce it, and measure what is left."""
        whole = self._reduced(local.extend(prior, answer, source))
        reduced = local.localise(whole)
        weighted = local.weigh(reduced, self.settings.points, seed=11)
        size, evidence = importance.effective_sample_size(weighted)
        method = torch.full((prior.batch,), Method.TRANSFORMER, dtype=torch.int64)
        size = torch.nan_to_num(size.double().cpu(), nan=0.0)
        return Update(whole, size, evidence.double().cpu(), surprise, method)

    def _defended(self, prior: GaussianMixture, local: LocalProblem, poor: Update) -> Update:
        """With a wide component that has the exact posterior's moments, as importance sampling estimates them."""
        answer = local.localise(poor.posterior)
        weighted = local.weigh(answer, self.settings.refine_points, seed=301)
        mean, covariance = importance.moments(weighted)
        wide = GaussianMixture.gaussian(mean, importance.WIDENING * covariance)
        # what no sensor touches follows as it would from the whole prior taken as one Gaussian
        whole = local.extend(
            GaussianMixture.gaussian(*prior.moments()), wide, torch.zeros(len(mean), 1).long()
        )
        share = self.settings.defence
        answered = poor.posterior
        joint = GaussianMixture(
            torch.cat([answered.log_weights + math.log(1 - share), whole.log_weights + math.log(share)], 1),
            torch.cat([answered.means, whole.means], 1),
            torch.cat([answered.covariances, whole.covariances], 1),
        )
        posterior = self._reduced(joint)
        weighted = local.weigh(local.localise(posterior), self.settings.points, seed=11)
        size, evidence = importance.effective_sample_size(weighted)
        size = torch.nan_to_num(size.double().cpu(), nan=0.0)
        return replace(
            poor, posterior=posterior, effective_sample_size=size, log_evidence=evidence.double().cpu()
        )

    def _refined(
        self,
        prior: GaussianMixture,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        surprise: Tensor,
        index: Tensor,
    ) -> Update:
        answer, source = answer.rows(index.to(self.device)), source[index.to(self.device)]
        settings = self.settings
        added = settings.most_components - settings.components
        size = (settings.refine_rounds, settings.refine_steps, settings.refine_points)
        answer, source = refine(local, answer, source, added, *size)
        result = self._checked(prior, local, answer, source, surprise[index])
        return replace(result, method=torch.full_like(result.method, Method.REFINED))


def _finite(mixture: GaussianMixture) -> Tensor:
    parts = (mixture.log_weights, mixture.means.flatten(1), mixture.covariances.flatten(1))
    return torch.stack([part.isfinite().all(1) for part in parts]).all(0)


def _replace(
    answer: GaussianMixture, source: Tensor, prediction: Prediction, local: LocalProblem, unusable: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """Put one Gauss-Newton step a component where the network's answer is not finite."""
    gain = la.invert(prediction.precision + prediction.information)
    means = local.prior.means + la.times(gain, prediction.gradient)
    simple = GaussianMixture(local.prior.log_weights + prediction.log_evidence, means, gain).normalised()
    usable = _finite(simple)[:, None]
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
