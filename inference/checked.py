"""The network's answer, checked: measured by importance sampling, refined where it is poor, defended where it stays so.

An answer is reduced, then checked; where its effective sample size is below a threshold it is refined, and the better
one kept. Where it is still low, the mixture cannot say the posterior (a thin ring, say): one wide component is added,
so that no part of it is lost for good, and the next observations can decide. Where a sensor bends so much over the
prior that neither the network nor the check could be trusted to see all modes, they are searched for first.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from inference import importance, mode_search
from inference import linear_algebra as la
from inference.accuracy import Settings
from inference.compilation import Compiled
from inference.fallback import finite, with_fallback
from inference.local import LocalProblem
from inference.mixture import GaussianMixture, beside
from inference.reduction import reduce
from inference.refinement import refine
from inference.results import Method, Update
from inference.transformer import DistributionTransformer, duplicate_components


class CheckedNetwork:
    """The network with its check and refinement; `compiled` is used where it has a package that fits."""

    def __init__(
        self, network: DistributionTransformer, settings: Settings, compiled: Compiled | None
    ) -> None:
        self.network, self.settings, self.compiled = network, settings, compiled

    def update(self, local: LocalProblem, surprise: Tensor, bend: Tensor) -> Update:
        """Posterior of each problem.

        Args:
            local: the problems; their images are made here.
            surprise: of the observations, as it is to be reported ``(B,)``.
            bend: how much sensors bend over the prior, by `mode_search.bend` ``(B,)``.
        """
        answer, source, images, unusable = self._answer(local)
        local, at = replace(local, images=images), self._searched(local, answer, surprise, bend)
        modes = self._search(local.rows(at)) if len(at) else None
        if modes is not None:
            local = local.with_images(at, modes.images)
        result = self._checked(local, answer, source, surprise)
        if modes is not None:
            some, now = local.rows(at), result.rows(at)
            found = self._better(some, modes.laplace, modes.source, now, self.settings.points)
            chosen = torch.nonzero(found.method == int(Method.REFINED))[:, 0]
            refined = self._refined(some.rows(chosen), *modes.answer(chosen), found.rows(chosen))
            result = result.with_rows(at, found.with_rows(chosen, refined))
            unusable[at[chosen]] = False
        at = torch.nonzero((result.method != int(Method.REFINED)) & ~unusable)[:, 0]
        there = at.to(source.device)
        refined = self._refined(local.rows(at), answer.rows(there), source[there], result.rows(at))
        result = self._all_defended(local, result.with_rows(at, refined))
        return replace(result, method=torch.where(unusable, int(Method.FALLBACK), result.method))

    def _answer(self, local: LocalProblem) -> tuple[GaussianMixture, Tensor, GaussianMixture, Tensor]:
        """Of the network, the component of the prior that each part refines, images, and where a fallback stands."""
        fits = local.prior.components <= self.settings.components
        count = self.settings.components if fits else self.settings.most_components
        tokens = duplicate_components(local.prior, count)
        walk, estimate, images = (self.settings.images, self.settings.image_rounds), None, None
        if self.compiled is not None:
            estimate = self.compiled.answer(tokens, local.observations)
            images = self.compiled.images(tokens, local.observations, *walk)
        estimate = estimate or self.network(tokens, local.observations)
        images = images or importance.prior_images(tokens, local.observations, *walk)
        answer = GaussianMixture(estimate.log_weights, estimate.means, estimate.factors @ estimate.factors.mT)
        source, unusable = tokens.source, ~finite(answer)
        if bool(unusable.any()):
            answer, source = with_fallback(answer, source, local, unusable)
        if share := self.settings.prior_share:
            whole = GaussianMixture.gaussian(*local.prior.moments())
            answer = beside([answer.scaled_by(math.log1p(-share)), whole.scaled_by(math.log(share))])
            source = torch.cat([source, source[:, :1]], 1)
        return answer, source, images, unusable.cpu()

    def _all_defended(self, local: LocalProblem, result: Update) -> Update:
        poor = result.effective_sample_size < self.settings.defend_below
        others = (result.method == int(Method.REFINED)) & ~poor
        for chosen, share in ((poor, self.settings.defence), (others, self.settings.refined_defence)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index) and share:
                defended = self._defended(local.rows(index), result.rows(index), share)
                result = result.with_rows(index, defended)
        return result

    def _reduced(self, mixture: GaussianMixture) -> GaussianMixture:
        return reduce(mixture, self.settings.most_components, self.settings.merge_below)

    def _searched(
        self, local: LocalProblem, answer: GaussianMixture, surprise: Tensor, bend: Tensor
    ) -> Tensor:
        """Indices of the problems whose modes are to be searched."""
        above = self.settings.search_above
        searched = bend > above
        doubtful = (bend > above / mode_search.SOONER) & (surprise < mode_search.UNLIKELY) & ~searched
        index = torch.nonzero(doubtful)[:, 0]
        if len(index):
            there = index.to(answer.means.device)
            excess = mode_search.outliers(answer.rows(there), local.rows(index).observations)
            searched[index] = (excess > mode_search.SEVERAL).cpu()
        return torch.nonzero(searched)[:, 0]

    def _search(self, local: LocalProblem) -> mode_search.Modes:
        """In double precision: what is searched for can be a millionth of the prior."""
        images = local.images.to(dtype=torch.float64, device=torch.device("cpu"))
        found = mode_search.search(local.prior64, local.observations64, images, images.components)
        dtype, device = local.prior.means.dtype, local.prior.means.device
        return mode_search.Modes(
            found.laplace.to(dtype=dtype, device=device),
            found.images.to(dtype=dtype, device=device),
            found.source.to(device),
        )

    def _checked(
        self,
        local: LocalProblem,
        answer: GaussianMixture,
        source: Tensor,
        surprise: Tensor,
        points: int | None = None,
    ) -> Update:
        """Extend an answer to the whole state, reduce it, and measure what is left."""
        whole = self._reduced(local.extend(answer, source))
        method = torch.full((whole.batch,), Method.TRANSFORMER, dtype=torch.int64)
        unmeasured = torch.zeros(whole.batch, dtype=torch.float64)
        update = Update(whole, unmeasured, unmeasured, surprise, method)
        return self._measured(local, update, points or self.settings.points)

    def _defended(self, local: LocalProblem, poor: Update, share: float) -> Update:
        """With a wide component that has the exact posterior's moments, as importance sampling estimates them."""
        answer = local.localise(poor.posterior)
        weighted = local.weigh(answer, self.settings.refine_points, seed=301)
        mean, covariance = importance.moments(weighted)
        # no wider than the prior, whose spread is one here: or it would grow from one observation to the next
        factor = (covariance.shape[-1] / la.trace(covariance)).clamp(max=importance.WIDENING)
        wide = GaussianMixture.gaussian(mean, factor[:, None, None] * covariance)
        # what no sensor touches follows as it would from the whole prior taken as one Gaussian
        single = replace(local, whole=GaussianMixture.gaussian(*local.whole.moments()))
        whole = single.extend(wide, torch.zeros(len(mean), 1).long())
        joint = beside([poor.posterior.scaled_by(math.log1p(-share)), whole.scaled_by(math.log(share))])
        posterior = self._reduced(joint)
        defended = self._measured(local, replace(poor, posterior=posterior), self.settings.refine_points)
        sound = torch.nonzero(defended.effective_sample_size > 0)[:, 0]  # 0 where anything is not a number
        return poor.with_rows(sound, defended.rows(sound))

    def _refined(self, local: LocalProblem, answer: GaussianMixture, source: Tensor, now: Update) -> Update:
        """What there is `now`, refined where it is poor and that is better; with more points where it still is."""
        settings = self.settings
        size = (settings.refine_rounds, settings.refine_steps)
        added, below = settings.most_components - settings.components, settings.refine_below
        first, left = True, torch.arange(answer.batch)
        for points in (settings.refine_points, *settings.repeat_points):
            still = torch.nonzero(now.effective_sample_size[left] < below)[:, 0]
            if len(still) == 0:
                break
            left, there = left[still], still.to(source.device)
            part, answer, source = local.rows(left), answer.rows(there), source[there]
            answer, source = refine(part, answer, source, added if first else 0, *size, points)
            more = self._better(part, answer, source, now.rows(left), settings.points if first else points)
            now = now.with_rows(left, more)
            first, below = False, min(settings.refine_below, settings.repeat_below)
        return now

    def _better(
        self, local: LocalProblem, answer: GaussianMixture, source: Tensor, now: Update, points: int
    ) -> Update:
        """For each entity the one with the larger effective sample size, both measured on as many points."""
        found = self._checked(local, answer, source, now.surprise, points)
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
