"""Prior and observations in, posterior and its quality out: the one door for callers.

1. Entities whose sensors are all linear and without outliers take the closed form (Kalman), which is exact.
2. The others go through the Distribution Transformer in the coordinates their sensors touch, shifted and scaled to
   zero mean and unit spread. Coordinates that no sensor touches follow exactly: for a state s with y = H s observed
   and token j a refinement of component k, ``m ← m + G (m'_j − H m)`` and ``P ← P − G (H P Hᵀ − S'_j) Gᵀ`` with
   ``G = P Hᵀ (H P Hᵀ)⁻¹``.
3. Where the observations are all but linear over each component, a linearised update takes the place of the network
   (`nearly_linear`): its error vanishes with what they say, so that many in a row do not add up.
4. Every answer of the network is reduced, then checked by importance sampling; where its effective sample size is
   below a threshold it is refined, and the better one kept. Where it is still low, the mixture cannot say the posterior
   (a thin ring, say): one wide component is added, so that no part of it is lost for good, and the next observations
   can decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference import importance, nearly_linear
from inference import linear_algebra as la
from inference.compilation import Compiled
from inference.fallback import finite, with_fallback
from inference.local import LocalProblem
from inference.mixture import GaussianMixture
from inference.observations import LINEAR, Observations
from inference.prediction import Prediction
from inference.reduction import reduce
from inference.refinement import refine
from inference.results import Method, Update, joined
from inference.transformer import DistributionTransformer, Estimate, Tokens, duplicate_components

__all__ = ["Method", "Settings", "Update", "Updater"]


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
        repeat_below: effective sample size, refined, under which it is refined again, with each of
            `repeat_points` in turn.
        linear_below: nats; where linearising costs less, by `nearly_linear.divergence`, it is done; 0 never.
        defend_below: effective sample size, refined, under which a wide component is added; 0 never.
        defence: weight of that component.
        refined_defence: its weight in any other answer that was refined: points may all have missed a thin sheet.
    """

    components: int = 8
    growth: int = 2
    merge_below: float = 0.002
    points: int = 96
    refine_below: float = 0.95
    refine_rounds: int = 3
    refine_steps: int = 2
    refine_points: int = 512
    repeat_below: float = 0.9
    repeat_points: tuple[int, ...] = (2048, 8192)
    linear_below: float = 0.002
    defend_below: float = 0.8
    defence: float = 0.1
    refined_defence: float = 0.003

    @property
    def most_components(self) -> int:
        """Of any posterior."""
        return self.components * self.growth


class Updater:
    """Holds the network on its device; `update` takes and returns float64 on the CPU.

    `dtype` is what the network computes in. In float32 a sum rounds differently in a batch of another size, which now
    and then tips a decision to merge or to refine; in float64 an answer does not depend on the rest of its batch.
    `compiled` is used where it has a package that fits.
    """

    def __init__(
        self,
        network: DistributionTransformer,
        device: torch.device | None = None,
        settings: Settings | None = None,
        dtype: torch.dtype = torch.float32,
        compiled: Compiled | None = None,
    ) -> None:
        self.device, self.dtype = device or torch.device("cpu"), dtype
        self.network = network.to(self.device, dtype).eval()
        self.settings = settings or Settings()
        self.compiled = compiled

    def with_components(self, components: int) -> Updater:
        """The same network with another bound on the number of components."""
        if components == self.settings.components:
            return self
        settings = replace(self.settings, components=components)
        return Updater(self.network, self.device, settings, self.dtype, self.compiled)

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
        scaled = nearly_linear.Scaled.of(prior, observations, touched)
        divergence = nearly_linear.divergence(*scaled[:2], self.settings.linear_below)
        nearly = divergence < self.settings.linear_below
        code = torch.where(closed, -1, torch.where(nearly, -2, code))
        parts: list[tuple[Tensor, Update]] = []
        for pattern in sorted(set(code.tolist())):
            index = torch.nonzero(code == pattern)[:, 0]
            some, seen = prior.rows(index), observations.rows_of(index)
            if pattern == -1:
                parts.append((index, self._kalman(scaled.rows(index))))
            elif pattern == -2:
                parts.append((index, self._linearised(scaled.rows(index), divergence[index])))
            else:
                axes = torch.nonzero(touched[index[0]])[:, 0].tolist()
                if not bool(grown[index[0]]):
                    some = some.places(torch.arange(min(some.components, usual)).expand(some.batch, -1))
                parts.append((index, self._transform(some, seen, axes)))
        return joined(parts) if len(parts) > 1 else parts[0][1].rows(torch.argsort(parts[0][0]))

    def _reduced(self, mixture: GaussianMixture) -> GaussianMixture:
        return reduce(mixture, self.settings.most_components, self.settings.merge_below)

    def _kalman(self, problem: nearly_linear.Scaled) -> Update:
        """Exact: one Kalman update a component, weighted by its evidence."""
        prior = problem.prior
        prediction = Prediction.of(prior, problem.observations)
        posterior = prediction.posterior(prior).normalised()
        count = prior.batch
        return Update(
            self._reduced(problem.back(posterior)),
            torch.ones(count, dtype=torch.float64),
            torch.logsumexp(prior.log_weights + prediction.log_evidence, 1),
            prediction.surprise(prior),
            torch.full((count,), Method.KALMAN, dtype=torch.int64),
        )

    def _linearised(self, problem: nearly_linear.Scaled, divergence: Tensor) -> Update:
        """One linearised update a component and hypothesis of an outlier: exact where all sensors are linear."""
        prior, observations = problem.prior, problem.observations
        posterior, evidence = nearly_linear.update(
            prior, observations, self.settings.most_components, self.settings.merge_below
        )
        posterior = problem.back(posterior)
        surprise = Prediction.of(prior, observations).surprise(prior)
        method = torch.where(divergence > 0, int(Method.LINEARISED), int(Method.KALMAN))
        # of two Gaussians that are near, the chi-square divergence is twice the Kullback-Leibler divergence
        return Update(posterior, 1 / (1 + 2 * divergence), evidence, surprise, method)

    def _transform(self, prior: GaussianMixture, observations: Observations, axes: list[int]) -> Update:
        local = LocalProblem.of(prior, observations, axes, self.device, self.dtype)
        surprise = Prediction.of(local.prior64, local.observations64).surprise(prior)
        fits = prior.components <= self.settings.components
        tokens = duplicate_components(
            local.prior, self.settings.components if fits else self.settings.most_components
        )
        images, estimate = self._answer(tokens, local.observations)
        local = replace(local, images=images)
        answer = GaussianMixture(estimate.log_weights, estimate.means, estimate.factors @ estimate.factors.mT)
        source, unusable = tokens.source, ~finite(answer)
        if bool(unusable.any()):
            answer, source = with_fallback(answer, source, local, unusable)
        result = self._checked(prior, local, answer, source, surprise, self.settings.points)
        refinable = (result.effective_sample_size < self.settings.refine_below) & ~unusable.cpu()
        if bool(refinable.any()):
            index = torch.nonzero(refinable)[:, 0]
            there = index.to(self.device)
            some, now = local.rows(index), result.rows(index)
            refined = self._refined(prior.rows(index), some, answer.rows(there), source[there], now)
            result = result.with_rows(index, refined)
        poor = result.effective_sample_size < self.settings.defend_below
        others = (result.method == int(Method.REFINED)) & ~poor
        for chosen, share in ((poor, self.settings.defence), (others, self.settings.refined_defence)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index) and share:
                defended = self._defended(prior.rows(index), local.rows(index), result.rows(index), share)
                result = result.with_rows(index, defended)
        method = torch.where(unusable.cpu(), int(Method.FALLBACK), result.method)
        return replace(result, method=method)

    def _answer(self, tokens: Tokens, observations: Observations) -> tuple[GaussianMixture, Estimate]:
        found = self.compiled.answer(tokens, observations) if self.compiled is not None else None
        if found is not None:
            return found
        return importance.prior_images(tokens, observations), self.network(tokens, observations)

    def _checked(
        self,
        prior: GaussianMixture,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        surprise: Tensor,
        points: int,
    ) -> Update:
        """Extend an answer to the whole state, reduce it, and measure what is left."""
        whole = self._reduced(local.extend(prior, answer, source))
        method = torch.full((prior.batch,), Method.TRANSFORMER, dtype=torch.int64)
        unmeasured = torch.zeros(prior.batch, dtype=torch.float64)
        return self._measured(local, Update(whole, unmeasured, unmeasured, surprise, method), points)

    def _defended(self, prior: GaussianMixture, local: LocalProblem, poor: Update, share: float) -> Update:
        """With a wide component that has the exact posterior's moments, as importance sampling estimates them."""
        answer = local.localise(poor.posterior)
        weighted = local.weigh(answer, self.settings.refine_points, seed=301)
        mean, covariance = importance.moments(weighted)
        # no wider than the prior, whose spread is one here: or it would grow from one observation to the next
        factor = (covariance.shape[-1] / la.trace(covariance)).clamp(max=importance.WIDENING)
        wide = GaussianMixture.gaussian(mean, factor[:, None, None] * covariance)
        # what no sensor touches follows as it would from the whole prior taken as one Gaussian
        whole = local.extend(
            GaussianMixture.gaussian(*prior.moments()), wide, torch.zeros(len(mean), 1).long()
        )
        answered = poor.posterior
        joint = GaussianMixture(
            torch.cat([answered.log_weights + math.log(1 - share), whole.log_weights + math.log(share)], 1),
            torch.cat([answered.means, whole.means], 1),
            torch.cat([answered.covariances, whole.covariances], 1),
        )
        posterior = self._reduced(joint)
        defended = self._measured(local, replace(poor, posterior=posterior), self.settings.refine_points)
        sound = torch.nonzero(defended.effective_sample_size > 0)[:, 0]  # 0 where anything is not a number
        return poor.with_rows(sound, defended.rows(sound))

    def _refined(
        self,
        prior: GaussianMixture,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        now: Update,
    ) -> Update:
        """The better of what there is `now` and its refinement; what is still poor is refined with more points."""
        settings = self.settings
        added = settings.most_components - settings.components
        size = (settings.refine_rounds, settings.refine_steps)
        answer, source = refine(local, answer, source, added, *size, settings.refine_points)
        now = self._better(prior, local, answer, source, now, settings.points)
        left, enough = torch.arange(prior.batch), min(settings.refine_below, settings.repeat_below)
        for points in settings.repeat_points:
            still = torch.nonzero(now.effective_sample_size[left] < enough)[:, 0]
            if len(still) == 0:
                break
            left, there = left[still], still.to(self.device)
            part, answer, source = local.rows(left), answer.rows(there), source[there]
            answer, source = refine(part, answer, source, 0, *size, points)
            more = self._better(prior.rows(left), part, answer, source, now.rows(left), points)
            now = now.with_rows(left, more)
        return now

    def _better(
        self,
        prior: GaussianMixture,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        now: Update,
        points: int,
    ) -> Update:
        """For each entity the one with the larger effective sample size, both measured on as many points."""
        found = self._checked(prior, local, answer, source, now.surprise, points)
        found = replace(found, method=torch.full_like(found.method, Method.REFINED))
        if points != self.settings.points:
            now = self._measured(local, now, points)
        better = torch.nonzero(found.effective_sample_size > now.effective_sample_size)[:, 0]
        return now.with_rows(better, found.rows(better))

    def _measured(self, local: LocalProblem, update: Update, points: int) -> Update:
        """With its effective sample size and evidence estimated on `points`."""
        answer, found = local.localise(update.posterior), None
        if self.compiled is not None and points == self.settings.points:
            found = self.compiled.check(local.prior, answer, local.images, local.observations)
        size, evidence = found or importance.effective_sample_size(
            local.weigh(answer, points, importance.CHECK_SEED)
        )
        size = torch.nan_to_num(size.double().cpu(), nan=0.0)
        return replace(update, effective_sample_size=size, log_evidence=evidence.double().cpu())
