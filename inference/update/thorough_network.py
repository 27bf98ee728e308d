"""Search and refinement for updates where one pass of the network cannot be trusted.

Strongly nonlinear observations leave modes that neither the network nor its check may see.

1. Points of the prior are moved to where the observations agree (`inference.update.randomised_maximum_likelihood`),
   and the network's answer is measured there. A good answer is final.
2. For the others, peaks of the posterior are searched for (`inference.update.mode_search`) and placed beside the
   network's answer. The best candidate is refined while it is poor. If it stays poor, the mixture cannot represent
   the posterior (a thin ring, say). Then one wide component is added: no part is lost for good, and later
   observations can decide.
3. The result is measured once more, on points that no choice depended on.

All of it runs in double precision: noise can be a millionth of the prior, and an answer must not depend on the rest of
its batch.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update import importance, mode_search
from beliefstream.inference.update.checked_network import CheckedNetwork, with_quality
from beliefstream.inference.update.contradictions import with_agreeing
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.missed_mass import (
    beyond_slack,
    compared,
    lacking,
    missed_closely,
    unseen,
    with_missed,
    zoomed,
)
from beliefstream.inference.update.prior_scan import scan
from beliefstream.inference.update.randomised_maximum_likelihood import randomised_images
from beliefstream.inference.update.refinement import refine
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.threads import in_threads
from beliefstream.inference.update.wide_components import share_beside, widened

TOGETHER = 32  # problems at a time
PEAKS = 16  # the most peaks that are kept
BESIDE = 0.4873  # weight of an answer beside peaks; no simple fraction, as `mode_search.EVENLY`
ALONG, SCANNED = 48, 64  # points of the prior, and of its scan, that are moved to the posterior
FIRST_POINTS = 192  # of the first check
SETTLED = 0.8  # effective sample size that is good enough at the first check
VERIFY_POINTS, VERIFY_SEED = 1024, 501
REPEATED = (3, 3)  # draws, and steps on each, of a repeated refinement
MEASURED = 1024  # most points that compare a repeated refinement with the answer before
LEAST_LACKING, MOST_LACKING = 0.001, 0.5  # share of the posterior that is added where an answer lacks it
ADDED = 6  # most components that are added for it
WORSE = 0.02  # nats by which the estimated divergence may rise
LEAST_GAIN = 0.1  # relative gain in effective sample size below which a refinement is not repeated


class ThoroughNetwork(CheckedNetwork):
    """The network in double precision; its answers are searched, refined, defended and measured on fresh points."""

    def update(self, local: LocalProblem, surprise: Tensor) -> Update:
        """Posterior of each problem, as `CheckedNetwork.update`."""
        if self.settings.search_above == math.inf:
            return self._unsearched(local, surprise)
        sound = _sound(local)
        if not bool(sound.all()):
            parts = []
            for chosen, solve in ((sound, self.update), (~sound, super().update)):
                index = torch.nonzero(chosen)[:, 0]
                if len(index):
                    parts.append((index, solve(local.rows(index), surprise[index])))
            return joined(parts)
        return self._searched(local, surprise)

    def _unsearched(self, local: LocalProblem, surprise: Tensor) -> Update:
        """Refine and defend an answer as the settings say, without a search."""
        answer, images, unusable = self._answer(local)
        local, points = replace(local, images=images), self.settings.points
        result = self._checked(local, answer, surprise, points)
        at = torch.nonzero(~unusable)[:, 0]
        some = answer.rows(at.to(answer.means.device))
        refined = self._refined(local.rows(at), some, result.rows(at), points)
        result = self._all_defended(local, result.with_rows(at, refined))
        return replace(result, method=torch.where(unusable, int(Method.FALLBACK), result.method))

    def _searched(self, local: LocalProblem, surprise: Tensor) -> Update:
        """Search a few problems at a time, so that their points stay in the processor's cache."""
        answer, _, _ = self._answer(local)
        each = min(TOGETHER, math.ceil(local.prior.batch / torch.get_num_threads()))

        def part(index: Tensor) -> tuple[Tensor, Update]:
            there = index.to(local.prior.means.device)
            found = self._searched_together(local.rows(index), answer.rows(there), surprise[index])
            return index, found

        return joined(in_threads(part, torch.split(torch.arange(local.prior.batch), each)))

    def _searched_together(self, local: LocalProblem, answer: GaussianMixture, surprise: Tensor) -> Update:
        found = scan(local.prior64, local.observations64)
        along = randomised_images(local.prior64, local.observations64, ALONG, found.starts(SCANNED))
        along = along.to(device=local.prior.means.device)
        local = replace(local, images=along, shares=importance.SEARCHED_SHARES, scan=found)
        result = compared(local, self._checked(local, answer, surprise, FIRST_POINTS))
        settled = result.effective_sample_size >= max(SETTLED, self.settings.refine_below)
        # noise mixtures and functions can leave modes where no point came
        irregular = (local.observations64.is_irregular & local.observations64.mask).any(1)
        at = torch.nonzero(~settled | irregular)[:, 0]
        if len(at):
            some = answer.rows(at.to(answer.means.device))
            result = result.with_rows(at, self._peaked(local.rows(at), some, result.rows(at)))
        at = torch.nonzero(settled & ~irregular)[:, 0]
        if len(at):
            result = result.with_rows(at, self._completed(local.rows(at), result.rows(at), FIRST_POINTS))
        return result

    def scanned(self, local: LocalProblem, update: Update) -> Update:
        """Compare one-pass answers with a scan of the prior, and add what they lack."""
        parts = []
        for index in torch.split(torch.arange(local.prior.batch), TOGETHER):
            some = local.rows(index)
            some = replace(some, scan=scan(some.prior64, some.observations64))
            found = compared(some, update.rows(index))
            parts.append((index, self._completed(some, found, self.settings.points)))
        return joined(parts)

    def _completed(self, local: LocalProblem, update: Update, points: int) -> Update:
        """Add components where the scan sees mass that an answer lacks, unless this raises the divergence.

        Such mass may cost little now, and much later: it may be a mode, and the rest of the belief gets narrower.
        """
        parts, mass = lacking(local, update)
        index = torch.nonzero((mass > LEAST_LACKING) & (mass < MOST_LACKING))[:, 0]
        if len(index) == 0:
            return update
        some, before, share = local.rows(index), update.rows(index), mass[index, None]
        few = some.extend(reduce(parts.rows(index), ADDED, self.settings.merge_below))
        whole = [before.posterior.scaled_by(torch.log1p(-share)), few.scaled_by(share.log())]
        posterior = self._reduced(beside(whole))
        after = compared(some, self._measured(some, replace(before, posterior=posterior), points))
        kept = torch.nonzero(after.divergence < before.divergence + WORSE)[:, 0]
        return update.with_rows(index[kept], after.rows(kept))

    def _peaked(self, local: LocalProblem, answer: GaussianMixture, now: Update) -> Update:
        """Add peaks to an answer, refine it and measure it; every check draws points from the peaks too."""
        local = replace(local, scan=zoomed(local))
        modes, points = self._search(local), self.settings.refine_points
        one, other = math.log(BESIDE), math.log1p(-BESIDE)
        both = beside([answer.scaled_by(one), modes.laplace.scaled_by(other)])
        local = replace(local, images=beside([modes.images.scaled_by(one), local.images.scaled_by(other)]))
        now = self._measured(local, now, points)
        result = self._better(local, modes.laplace, self._better(local, both, now, points), points)
        result = self._refined(local, both, result, points)
        result = self._all_defended(local, compared(local, result))
        return self._verified(local, self._covered(local, self._completed(local, result, points)))

    def _covered(self, local: LocalProblem, update: Update) -> Update:
        """Add one Gaussian as wide as the prior to refined answers: refinement narrows the network's."""
        index = torch.nonzero(update.method == int(Method.REFINED))[:, 0]
        if len(index) == 0 or not self.settings.prior_share:
            return update
        some, before = local.rows(index), update.rows(index)
        wide = some.extend(GaussianMixture.gaussian(*some.prior.moments()))
        share = share_beside(before.posterior, wide).clamp_max(self.settings.prior_share)
        whole = beside([before.posterior.scaled_by((-share).log1p()), wide.scaled_by(share.log())])
        return update.with_rows(index, replace(before, posterior=self._reduced(whole)))

    def _verified(self, local: LocalProblem, update: Update) -> Update:
        """Measure an answer on fresh points: the points of a choice flatter what was chosen.

        The points see the shape of an answer well, and the scan sees what it lacks. So the divergence is that of the
        points, with the part beyond the scan's slack from whichever sees more.
        """
        weighted = local.weigh(local.localise(update.posterior), VERIFY_POINTS, VERIFY_SEED)
        again = with_quality(update, importance.quality(weighted))
        lacking = missed_closely(local, again) - beyond_slack(weighted)
        divergence = torch.maximum(update.divergence, again.divergence) + lacking.clamp_min(0)
        if local.partial:
            divergence = divergence + unseen(local, update, weighted)
        size = torch.minimum(update.effective_sample_size, again.effective_sample_size)
        return with_missed(replace(again, effective_sample_size=size), divergence)

    def _all_defended(self, local: LocalProblem, result: Update) -> Update:
        poor = result.effective_sample_size < self.settings.defend_below
        others = (result.method == int(Method.REFINED)) & ~poor
        for chosen, share in ((poor, self.settings.defence), (others, self.settings.refined_defence)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index) and share:
                defended = self._defended(local.rows(index), result.rows(index), share)
                result = result.with_rows(index, defended)
        return result

    def _search(self, local: LocalProblem) -> mode_search.Modes:
        images = local.images.to(device=torch.device("cpu"))
        given = local.prior64, local.observations64
        found = mode_search.modes(*given, with_agreeing(*given, mode_search.search(*given, images, PEAKS)))
        return mode_search.Modes(*(part.to(device=local.prior.means.device) for part in found))

    def _defended(self, local: LocalProblem, poor: Update, share: float) -> Update:
        """Add a wide component with the moments of the exact posterior, estimated by importance sampling."""
        answer = local.localise(poor.posterior)
        weighted = local.weigh(answer, self.settings.refine_points, seed=301)
        mean, covariance = importance.moments(weighted)
        whole = local.with_one_component().extend(widened(mean, covariance))
        joint = beside([poor.posterior.scaled_by(math.log1p(-share)), whole.scaled_by(math.log(share))])
        posterior = self._reduced(joint)
        defended = self._measured(local, replace(poor, posterior=posterior), self.settings.refine_points)
        # one point with all the weight has no spread; the effective sample size is 0 where anything is NaN
        spread = torch.linalg.cholesky_ex(covariance).info == 0
        sound = torch.nonzero(spread & (defended.effective_sample_size > 0))[:, 0]
        return poor.with_rows(sound, defended.rows(sound))

    def _refined(self, local: LocalProblem, answer: GaussianMixture, now: Update, measure: int) -> Update:
        """Refine poor answers, keep what improves, and repeat with more points while they stay poor and improve.

        `measure` is the number of points that `now` was measured on. Every refinement adds components, more than an
        answer may have. A repeat starts from what the reduction left, not from all that the one before fitted.
        """
        settings = self.settings
        left = torch.nonzero(now.effective_sample_size < settings.refine_below)[:, 0]
        if len(left) == 0:
            return now
        size = (settings.refine_rounds, settings.refine_steps, settings.refine_points)
        added, part = settings.most_components - settings.components, local.rows(left)
        fitted = refine(part, answer.rows(left.to(answer.means.device)), added, *size)
        now = now.with_rows(left, self._better(part, fitted, now.rows(left), measure))
        below = min(settings.refine_below, settings.repeat_below)
        for points in settings.repeat_points:
            left = left[now.effective_sample_size[left] < below]
            if len(left) == 0:
                break
            part, few = local.rows(left), min(points, MEASURED)
            fitted = refine(part, part.localise(now.posterior.rows(left)), added, *REPEATED, points)
            before = self._measured(part, now.rows(left), few)
            after = self._better(part, fitted, before, few)
            now = now.with_rows(left, after)
            gained = after.effective_sample_size - before.effective_sample_size
            left = left[gained > LEAST_GAIN * before.effective_sample_size]
        return now

    def _better(self, local: LocalProblem, answer: GaussianMixture, now: Update, points: int) -> Update:
        """For each entity the answer with the larger effective sample size; `now` was measured on as many `points`."""
        found = self._checked(local, answer, now.surprise, points)
        found = replace(found, method=torch.full_like(found.method, Method.REFINED))
        better = torch.nonzero(found.effective_sample_size > now.effective_sample_size)[:, 0]
        return now.with_rows(better, found.rows(better))


def _sound(local: LocalProblem) -> Tensor:
    """Which problems have a finite prior and finite observations, ``(B,)`` bool; the others cannot be searched."""
    prior = local.prior64
    weights = ~prior.log_weights.isnan().any(1)
    parts = (prior.means.flatten(1), prior.covariances.flatten(1))
    return torch.stack(
        [weights, local.observations64.finite, *(part.isfinite().all(1) for part in parts)]
    ).all(0)
