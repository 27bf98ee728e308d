"""Search and refinement for updates where one pass of the network cannot be trusted.

Strongly nonlinear observations leave modes that neither the network nor its check may see. So:

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

from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.update import importance, mode_search
from beliefstream.inference.update.checked_network import CheckedNetwork, with_quality
from beliefstream.inference.update.local_problem import LocalProblem
from beliefstream.inference.update.prior_scan import SLACK, Scan, scan, zoom
from beliefstream.inference.update.randomised_maximum_likelihood import randomised_images
from beliefstream.inference.update.refinement import refine
from beliefstream.inference.update.result import Method, Update, joined
from beliefstream.inference.update.threads import in_threads
from beliefstream.inference.update.unseen_coordinates import unseen_divergence

TOGETHER = 32  # problems at a time
ZOOMS, MORE_ZOOMS = 4, 20  # most zooms into a scan, and most where an answer seems to miss something
DOUBTFUL = 0.05  # nats missed, above which coarse cells are zoomed into
CLOSE_PLACES = 1024  # places of a scan that is zoomed into to compare an answer closely
PEAKS = 16  # the most peaks that are kept
BESIDE = 0.4873  # weight of an answer beside peaks; no simple fraction, as `mode_search.EVENLY`
ALONG, SCANNED = 48, 64  # points of the prior, and of its scan, that are moved to the posterior
FIRST_POINTS = 192  # of the first check
SETTLED = 0.8  # effective sample size that is good enough at the first check
VERIFY_POINTS, VERIFY_SEED = 1024, 501
REPEATED = (3, 3)  # draws, and steps on each, of a repeated refinement
MEASURED = 1024  # most points that compare a repeated refinement with the answer before
LEAST_GAIN = 0.1  # relative gain in effective sample size below which a refinement is not repeated


class ThoroughNetwork(CheckedNetwork):
    """The network in double precision; its answers are searched, refined, defended and measured on fresh points."""

    def update(self, local: LocalProblem, surprise: Tensor) -> Update:
        """Posterior of each problem, as `CheckedNetwork.update`."""
        if self.settings.search_above == math.inf:
            return self._unsearched(local, surprise)
        sound = _sound(local)
        if bool(sound.all()):
            return self._searched(local, self._answer(local)[0], surprise)
        parts = []
        for chosen, solve in ((sound, self.update), (~sound, super().update)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index):
                parts.append((index, solve(local.rows(index), surprise[index])))
        return joined(parts)

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

    def _searched(self, local: LocalProblem, answer: GaussianMixture, surprise: Tensor) -> Update:
        """Search a few problems at a time, so that their points stay in the processor's cache."""
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
        result = _compared(local, self._checked(local, answer, surprise, FIRST_POINTS))
        settled = result.effective_sample_size >= max(SETTLED, self.settings.refine_below)
        # noise mixtures and functions can leave modes where no point came
        irregular = (local.observations64.is_irregular & local.observations64.mask).any(1)
        at = torch.nonzero(~settled | irregular)[:, 0]
        if len(at):
            some = answer.rows(at.to(answer.means.device))
            result = result.with_rows(at, self._peaked(local.rows(at), some, result.rows(at)))
        return result

    def _peaked(self, local: LocalProblem, answer: GaussianMixture, now: Update) -> Update:
        """Add peaks to an answer, refine it and measure it; every check draws points from the peaks too."""
        local = replace(local, scan=_zoomed(local))
        modes, points = self._search(local), self.settings.refine_points
        one, other = math.log(BESIDE), math.log1p(-BESIDE)
        both = beside([answer.scaled_by(one), modes.laplace.scaled_by(other)])
        local = replace(local, images=beside([modes.images.scaled_by(one), local.images.scaled_by(other)]))
        now = self._measured(local, now, points)
        result = self._better(local, modes.laplace, self._better(local, both, now, points), points)
        result = self._refined(local, both, result, points)
        result = self._all_defended(local, _compared(local, result))
        return self._verified(local, result)

    def _verified(self, local: LocalProblem, update: Update) -> Update:
        """Measure an answer on fresh points: the points of a choice flatter what was chosen.

        The points see the shape of an answer well, and the scan sees what it lacks. So the divergence is that of the
        points, with the part beyond the scan's slack from whichever sees more.
        """
        weighted = local.weigh(local.localise(update.posterior), VERIFY_POINTS, VERIFY_SEED)
        again = with_quality(update, importance.quality(weighted))
        lacking = _missed_closely(local, again) - _beyond_slack(weighted)
        divergence = torch.maximum(update.divergence, again.divergence) + lacking.clamp_min(0)
        if local.partial:
            divergence = divergence + _unseen(local, update, weighted)
        size = torch.minimum(update.effective_sample_size, again.effective_sample_size)
        return _with_missed(replace(again, effective_sample_size=size), divergence)

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
        found = mode_search.search(local.prior64, local.observations64, images, PEAKS)
        return mode_search.Modes(*(part.to(device=local.prior.means.device) for part in found))

    def _defended(self, local: LocalProblem, poor: Update, share: float) -> Update:
        """Add a wide component with the moments of the exact posterior, estimated by importance sampling."""
        answer = local.localise(poor.posterior)
        weighted = local.weigh(answer, self.settings.refine_points, seed=301)
        mean, covariance = importance.moments(weighted)
        # no wider than the prior, which has unit spread here; otherwise it would grow with every observation
        factor = (covariance.shape[-1] / la.trace(covariance)).clamp(max=importance.WIDENING)
        wide = GaussianMixture.gaussian(mean, factor[:, None, None] * covariance)
        # coordinates that no sensor touches follow as if the whole prior were one Gaussian
        one = GaussianMixture.gaussian
        single = replace(local, whole=one(*local.whole.moments()), prior64=one(*local.prior64.moments()))
        whole = single.extend(wide)
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


def scanned(local: LocalProblem, update: Update) -> Update:
    """Lower the quality of a one-pass answer by what a scan of the prior sees and the answer lacks."""
    parts = []
    for index in torch.split(torch.arange(local.prior.batch), TOGETHER):
        some = local.rows(index)
        some = replace(some, scan=scan(some.prior64, some.observations64))
        parts.append((index, _compared(some, update.rows(index))))
    return joined(parts)


def _unseen(local: LocalProblem, update: Update, weighted: importance.Weighted) -> Tensor:
    """Divergence, nats ``(B,)``, of the coordinates that no sensor touches, given the others."""
    points = weighted.points.to(local.scale) * local.scale[:, None, None] + local.shift[:, None]
    share = torch.softmax(weighted.target - weighted.proposal, 1).to(local.scale)
    return unseen_divergence(update.posterior, local.whole, local.axes, points, share, VERIFY_SEED + 1)


def _compared(local: LocalProblem, update: Update) -> Update:
    """Lower the quality by what the scan saw and the answer lacks."""
    assert local.scan is not None
    missed = local.scan.missed(local.localise(update.posterior), update.log_evidence)
    return _with_missed(update, missed.sum(1))


def _beyond_slack(weighted: importance.Weighted) -> Tensor:
    """Part of the divergence, nats ``(B,)``, from points where the answer is lower than `SLACK` allows."""
    log_weight = weighted.target - weighted.proposal
    log_evidence = torch.logsumexp(log_weight, 1, keepdim=True) - math.log(log_weight.shape[1])
    off = weighted.target - weighted.answer - log_evidence
    return torch.where(off > SLACK, torch.softmax(log_weight, 1) * off, 0.0).sum(1).double().cpu()


def _missed_closely(local: LocalProblem, update: Update) -> Tensor:
    """Nats that answers miss, ``(B,)``, after zooming in where cells are too coarse to tell.

    It zooms from the beginning with more places, because each zoom draws some of the parts. What is missed may be a
    thin ring beside sharp peaks: its own cells must be small, not only those of the peaks.
    """
    assert local.scan is not None
    answer, evidence = local.localise(update.posterior), update.log_evidence
    total = local.scan.missed(answer, evidence).sum(1)
    doubted = torch.nonzero(total > DOUBTFUL)[:, 0]
    if len(doubted) == 0:
        return total
    local, answer, evidence = local.rows(doubted), answer.rows(doubted), evidence[doubted]
    found = scan(local.prior64, local.observations64, CLOSE_PLACES)
    missed = found.missed(answer, evidence)
    for _ in range(MORE_ZOOMS):
        coarse = ~found.resolves(found.share) | ~found.resolves(missed)
        index = torch.nonzero((missed.sum(1) > DOUBTFUL) & coarse)[:, 0]
        if len(index) == 0:
            break
        found = _finer(local, found, index)
        missed[index] = found.rows(index).missed(answer.rows(index), evidence[index])
    total[doubted] = missed.sum(1)
    return total


def _zoomed(local: LocalProblem) -> Scan:
    """Zoom into the scan of a problem until its cells are small beside the noise."""
    assert local.scan is not None
    found = local.scan
    for _ in range(ZOOMS):
        index = torch.nonzero(~found.resolves(found.share))[:, 0]
        if len(index) == 0:
            break
        found = _finer(local, found, index)
    return found


def _finer(local: LocalProblem, found: Scan, index: Tensor) -> Scan:
    """Zoom into the scans of the problems at `index`."""
    some = local.rows(index)
    return found.with_rows(index, zoom(found.rows(index), some.prior64, some.observations64))


def _with_missed(update: Update, missed: Tensor) -> Update:
    """Lower the quality by what was missed, in nats ``(B,)``.

    For two close densities the chi-square divergence is twice the Kullback-Leibler divergence. The effective sample
    size is one over one plus the chi-square divergence.
    """
    size = torch.minimum(update.effective_sample_size, (-2 * missed).exp())
    return replace(update, effective_sample_size=size, divergence=torch.maximum(update.divergence, missed))


def _sound(local: LocalProblem) -> Tensor:
    """Which problems have a finite prior and finite observations, ``(B,)`` bool; the others cannot be searched."""
    prior = local.prior64
    weights = ~prior.log_weights.isnan().any(1)
    parts = (prior.means.flatten(1), prior.covariances.flatten(1))
    return torch.stack(
        [weights, local.observations64.finite, *(part.isfinite().all(1) for part in parts)]
    ).all(0)
