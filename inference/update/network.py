"""Answers of the network: checked in one pass, or refined until they are good.

1. An answer is extended to the whole state, reduced, and measured by importance sampling.
2. Where observations bend, or contradict the prior, points of the prior are moved to where the observations agree
   (`mode_search.randomised_images`). Checks draw from there too, and where an answer lacks a peak, it is added.
3. Every answer that is not nearly exact is refined on its own points (`refinement`), and while it is poor, on more.
4. Peaks are searched for only where an answer stays poor, several possible outliers contradict, or noise is so sharp
   in the plane that no point may have come to a thin ring.
5. What was refined is measured on fresh points.
6. An answer in two steps (`in_two_steps`) replaces the network's: it is refined only where it is poor
   (`repeat_below`), and never searched.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.network.transformer import duplicate_components
from beliefstream.inference.update.check import importance
from beliefstream.inference.update.check.importance import EVENLY, Seed, with_wide
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.check.mode_search import (
    evened,
    modes,
    randomised_images,
    search,
    with_agreeing,
)
from beliefstream.inference.update.check.prior_scan import SLACK
from beliefstream.inference.update.check.refinement import LEAST_ADDED, finite, refine
from beliefstream.inference.update.devices import DeviceNetwork
from beliefstream.inference.update.result import Answer, Method, efficiency_at, in_threads, joined
from beliefstream.inference.update.settings import ENOUGH, PLANE, UpdateSettings

# Without another source, a number was set on hard problems, of the seeds that docs/adversarial.md names.
TOGETHER = 32  # problems that are searched at a time, so that their points stay in the processor's cache
MEASURED = 1024  # points that measure an answer
VERIFIED = 4096  # points that measure what was chosen; few of 1024 fall on what it may still have missed
MOST_LACKING = 0.5  # share of the posterior that is added where an answer lacks it


@dataclass(frozen=True)
class Wanted:
    """What is asked of the answer to each problem, ``(B,)``."""

    least: Tensor  # sample efficiency
    doubted: Tensor  # whether points of an answer may miss a part of the posterior
    search: Tensor  # whether to search for modes in any case

    def rows(self, index: Tensor) -> Wanted:
        return Wanted(self.least[index], self.doubted[index], self.search[index])


class CheckedNetwork:
    """One pass of the network, with its check."""

    def __init__(self, network: DeviceNetwork, settings: UpdateSettings) -> None:
        self.network, self.settings = network, settings

    def update(self, local: LocalProblem) -> Answer:
        """Posterior of each problem."""
        answer, fell_back = self._answer(local)
        return _marked(self._checked(local, answer, self.settings.points), fell_back)

    def _answer(self, local: LocalProblem) -> tuple[GaussianMixture, Tensor]:
        """The first answer, and where it is not that of the network on its device ``(B,)``."""
        if local.start is not None:
            answer = local.start
            spared = torch.zeros(answer.batch, dtype=torch.bool)
        else:
            answer, spared = self._of_network(local)
        unusable = ~finite(answer)
        if bool(unusable.any()):
            answer = _with_fallback(answer, local, unusable)
        if share := self.settings.prior_share:  # refinement moves it to where the answer lacks mass
            whole = GaussianMixture.gaussian(*local.prior.moments())
            answer = beside([answer.scaled_by(math.log1p(-share)), whole.scaled_by(math.log(share))])
        return answer, unusable | spared

    def _of_network(self, local: LocalProblem) -> tuple[GaussianMixture, Tensor]:
        """The network's answer, and where another device gave it, ``(B,)``."""
        prior, count = local.prior, self.tokens(local)
        if prior.components > count:
            prior = reduce(prior, count, self.settings.merge_below)
        return self.network.answer(duplicate_components(prior, count), local.observations)

    def tokens(self, local: LocalProblem) -> int:
        """How many tokens the network gets."""
        fits = local.prior.components <= self.settings.components
        return self.settings.components if fits else self.settings.most_components

    def _checked(self, local: LocalProblem, answer: GaussianMixture, points: int) -> Answer:
        """Extend an answer to the whole state, reduce it, and measure the result."""
        return self._measured(local, self._unmeasured(local, answer), points)

    def _unmeasured(self, local: LocalProblem, answer: GaussianMixture) -> Answer:
        """Extend an answer to the whole state, and reduce it."""
        whole = self._reduced(local, answer)
        # the first of two steps mostly is quadrature; a linearised update would count a bound, not what is measured
        found = Method.TRANSFORMER if local.start is None else Method.QUADRATURE
        unmeasured = torch.zeros(whole.batch, dtype=torch.float64)
        return Answer.of(whole, unmeasured, unmeasured, found)

    def _reduced(self, local: LocalProblem, answer: GaussianMixture) -> GaussianMixture:
        """The answer over the whole state, with few components, and a wide one where no points fell."""
        settings, whole = self.settings, local.extend(answer)
        if bool(local.observations.has_problem.any()):
            # over many updates with a user's likelihood, wide components cost more than they save
            return reduce(whole, settings.most_components, settings.merge_below)
        wide = local.extend(GaussianMixture.gaussian(*local.prior.moments()))
        few = reduce(whole, settings.most_components - 1, settings.merge_below)
        return with_wide(few, wide, settings.prior_share)

    def _measured(self, local: LocalProblem, update: Answer, points: int, seed: int = Seed.CHECK) -> Answer:
        """Estimate the quality and evidence of an update on `points` samples."""
        answer = local.localise(update.posterior)
        return _with_quality(update, importance.quality(local.weigh(answer, points, seed)))


class ThoroughNetwork(CheckedNetwork):
    """A network in float64, whose answers are refined, and searched where that is not enough.

    Noise can be a millionth of the prior, and an answer must not depend on the rest of its batch.
    """

    def thorough(self, local: LocalProblem, wanted: Wanted) -> Answer:
        """Posterior of each problem, as `update`, as good as `wanted`."""
        sound, parts = _sound(local), []
        for chosen, way in ((sound, self._refined), (~sound, self._unrefined)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index):
                parts.append((index, way(local.rows(index), wanted.rows(index))))
        return joined(parts)

    def tokens(self, local: LocalProblem) -> int:
        few = local.prior.dimension <= PLANE  # in more, as many as an answer may have components
        return super().tokens(local) if few else self.settings.most_components

    def _unrefined(self, local: LocalProblem, _: Wanted) -> Answer:
        return self.update(local)

    def _refined(self, local: LocalProblem, wanted: Wanted) -> Answer:
        """Refine a few problems at a time."""
        answer, fell_back = self._answer(local)
        batch = local.prior.batch

        def part(index: Tensor) -> tuple[Tensor, Answer]:
            return index, self._together(local.rows(index), answer.rows(index), wanted.rows(index))

        each = min(TOGETHER, math.ceil(batch / torch.get_num_threads()))
        return _marked(joined(in_threads(part, torch.split(torch.arange(batch), each))), fell_back)

    def _moved(self, local: LocalProblem, answer: GaussianMixture, now: Answer, least: Tensor) -> Answer:
        """Refine answers that are not nearly exact; repeat with more points while they are poor and improve.

        Every refinement adds components, more than an answer may have. A repeat starts from what the reduction left,
        not from all that the one before fitted. What this tried to refine is measured at last on fresh points.
        """
        settings, below = self.settings, least if local.start is not None else ENOUGH
        tried = now.sample_efficiency < below
        left = torch.nonzero(tried)[:, 0]
        size = settings.most_components - settings.components, settings.refine_rounds, settings.refine_steps
        for points in (settings.refine_points, *settings.repeat_points):
            if len(left) == 0:
                break
            part = local.rows(left)
            after = self._better(part, refine(part, answer.rows(left), *size, points), now.rows(left))
            now = now.with_rows(left, after)
            left = left[after.sample_efficiency < least[left]]
            answer = local.localise(now.posterior)
        chosen = torch.nonzero(tried | (now.method == Method.REFINED))[:, 0]
        if len(chosen) == 0:
            return now
        return now.with_rows(chosen, self._verified(local.rows(chosen), now.rows(chosen)))

    def _together(self, local: LocalProblem, answer: GaussianMixture, wanted: Wanted) -> Answer:
        parts = []
        for chosen, way in ((wanted.doubted, self._along), (~wanted.doubted, self._plainly)):
            index = torch.nonzero(chosen)[:, 0]
            if len(index):
                some, first = local.rows(index), answer.rows(index)
                now = self._unmeasured(some, first)
                parts.append((index, way(some, first, now, wanted.least[index])))
        now = parts[0][1] if len(parts) == 1 else joined(parts)  # one part has every problem, in order
        return self._searched(local, answer, now, wanted)

    def _plainly(self, local: LocalProblem, answer: GaussianMixture, now: Answer, least: Tensor) -> Answer:
        """Refine answers with their own points."""
        return self._moved(local, answer, self._measured(local, now, MEASURED), least)

    def _along(self, local: LocalProblem, answer: GaussianMixture, now: Answer, least: Tensor) -> Answer:
        """Refine answers with points along the posterior too, and components where they lack mass there."""
        peaks = randomised_images(local.prior, local.observations)
        few = reduce(evened(peaks), self.settings.most_components, self.settings.merge_below)
        local = replace(local, images=few)
        now = self._measured(local, now, MEASURED)
        parts = lacking(local, peaks, now)
        mass = parts.log_weights.amax(1).exp()
        share = torch.where(mass > LEAST_ADDED, mass, 0.0)[:, None].clamp_max(MOST_LACKING)
        few = reduce(parts, self.settings.components, self.settings.merge_below)
        added = torch.where(share > 0, few.normalised().log_weights + share.log(), -math.inf)
        start = beside([answer.scaled_by(torch.log1p(-share)), replace(few, log_weights=added)])
        return self._moved(local, start, now, least)

    def _searched(self, local: LocalProblem, answer: GaussianMixture, now: Answer, wanted: Wanted) -> Answer:
        """Search for modes where answers are poor, or observations so nonlinear that no point may have come to some."""
        if local.start is not None:
            return now  # it has a part for every hypothesis about the observations that come first
        poor = now.sample_efficiency < self.settings.repeat_below
        index = torch.nonzero(wanted.search | poor)[:, 0]
        if len(index) == 0 or not self.settings.search:
            return now
        some = local.rows(index)
        along = evened(randomised_images(some.prior, some.observations, scanned=True))
        some = replace(some, images=along, shares=importance.SEARCHED_SHARES)
        return now.with_rows(
            index, self._peaked(some, answer.rows(index), now.rows(index), wanted.least[index])
        )

    def _peaked(self, local: LocalProblem, answer: GaussianMixture, now: Answer, least: Tensor) -> Answer:
        """Add peaks to an answer, refine it and measure it; every check draws points from the peaks too."""
        given = local.prior, local.observations
        peaks = with_agreeing(*given, search(*given, local.images, self.settings.most_components))
        laplace, images = modes(*given, peaks)
        one, other = math.log(EVENLY), math.log1p(-EVENLY)
        both = beside([answer.scaled_by(one), laplace.scaled_by(other)])
        local = replace(local, images=beside([images.scaled_by(one), local.images.scaled_by(other)]))
        now = self._better(local, both, self._measured(local, now, MEASURED))
        now = self._better(local, laplace, now)
        return self._moved(local, both, now, least)

    def _verified(self, local: LocalProblem, update: Answer) -> Answer:
        """Measure an answer on fresh points: the points of a choice flatter what was chosen."""
        weighted = local.weigh(local.localise(update.posterior), VERIFIED, Seed.VERIFICATION)
        again = _with_quality(update, importance.quality(weighted))
        divergence = torch.maximum(update.lost, again.lost)
        if local.partial:
            divergence = divergence + local.unobserved_divergence(update.posterior, weighted)
        size = torch.minimum(update.sample_efficiency, again.sample_efficiency)
        size = torch.minimum(size, efficiency_at(divergence))
        return replace(again, sample_efficiency=size, lost=divergence)

    def _better(self, local: LocalProblem, answer: GaussianMixture, now: Answer) -> Answer:
        """For each entity the answer that is nearer to the exact posterior.

        They are compared on the points of both: the points of one flatter it.
        """
        other = self._unmeasured(local, answer)
        before, after = (local.localise(update.posterior) for update in (now, other))
        points = [local.weigh(each, MEASURED, Seed.CHECK) for each in (before, after)]
        other = _with_quality(other, importance.quality(points[1]))
        other = replace(other, method=torch.full_like(other.method, Method.REFINED))
        nearer = torch.stack([importance.nearer(weighted, before, after) for weighted in points])
        better = torch.nonzero(nearer.sum(0) > 0)[:, 0]
        return now.with_rows(better, other.rows(better))


def lacking(local: LocalProblem, peaks: GaussianMixture, update: Answer) -> GaussianMixture:
    """The peaks at which an answer is too low by `SLACK` nats, weighted by their shares of the posterior."""
    exact = local.prior.log_density(peaks.means) + local.observations.log_likelihood(peaks.means)
    off = exact - update.log_evidence[:, None] - local.localise(update.posterior).log_density(peaks.means)
    share = peaks.log_weights - update.log_evidence[:, None]
    return replace(peaks, log_weights=torch.where((off > SLACK) & share.isfinite(), share, -math.inf))


def _marked(update: Answer, fell_back: Tensor) -> Answer:
    """The update with the method of answers that are not those of the network on its device."""
    return replace(update, method=torch.where(fell_back, int(Method.FALLBACK), update.method))


def _with_fallback(answer: GaussianMixture, local: LocalProblem, unusable: Tensor) -> GaussianMixture:
    """Replace answers that are not finite by one Gauss-Newton step per component."""
    simple = Prediction.of(local.prior, local.observations).posterior(local.prior).normalised()
    safe = simple.where(finite(simple)[:, None], local.prior)
    count = max(safe.components, answer.components)
    return safe.padded(count).where(unusable[:, None], answer.padded(count))


def _with_quality(update: Answer, quality: importance.Quality) -> Answer:
    """The update with its quality and evidence replaced."""
    size, evidence, divergence, deviation = quality
    return replace(
        update,
        sample_efficiency=torch.nan_to_num(size, nan=0.0),
        log_evidence=evidence,
        lost=torch.nan_to_num(divergence + deviation, nan=math.inf),
    )


def _sound(local: LocalProblem) -> Tensor:
    """Which problems have a finite prior and finite observations, ``(B,)`` bool; the others cannot be searched."""
    prior = local.prior
    weights = ~prior.log_weights.isnan().any(1)
    parts = (prior.means.flatten(1), prior.covariances.flatten(1))
    return torch.stack([weights, local.observations.finite, *(part.isfinite().all(1) for part in parts)]).all(
        0
    )
