"""Peaks at which several observations are outliers.

A search whose steps use all observations, or all but one, misses peaks at which two or more are outliers. If d
coordinates are observed, d observations usually determine them. So each choice of d may leave a peak where only these
agree. All choices are tried. They are the minimal sets of M. A. Fischler and R. C. Bolles, "Random Sample Consensus",
Communications of the ACM 24(6), 1981, which draws them at random.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import LINEAR, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.update.importance import systematic
from beliefstream.inference.update.mode_search import LAST_ROUNDS, Climb, distinct, laplace
from beliefstream.inference.update.randomised_maximum_likelihood import widened_at

STARTS, ROUNDS, SEED = 64, 8, 611
OUTLIERS = 2  # other steps of the search leave out fewer
MOST = 8  # possible outliers; with more, the observations that agree are enough to resist the others


def with_agreeing(
    prior: GaussianMixture, observations: Observations, peaks: GaussianMixture
) -> GaussianMixture:
    """The highest of `peaks` and of the peaks at which few observations agree, as many as `peaks` has.

    It searches only where an observation is an outlier at the highest of `peaks`, and more may be.
    """
    contradicted = _contradicted(observations, peaks).tolist()
    found = [
        _sets(observations.rows_of(slice(row, row + 1)), prior.dimension) if contradicted[row] else None
        for row in range(prior.batch)
    ]
    index = torch.tensor([row for row, sets in enumerate(found) if sets is not None], dtype=torch.int64)
    if len(index) == 0:
        return peaks
    used = torch.stack([sets for sets in found if sets is not None])
    more = _agreeing(prior.rows(index), observations.rows_of(index), used.to(prior.means))
    both = beside([peaks.rows(index), more])
    best = both.places(distinct(both.means, both.factors(), both.log_weights, peaks.components))
    return GaussianMixture(
        peaks.log_weights.index_copy(0, index, best.log_weights),
        peaks.means.index_copy(0, index, best.means),
        peaks.covariances.index_copy(0, index, best.covariances),
    )


def _doubtful(observations: Observations) -> Tensor:
    """Which observations may be outliers, ``(B, N)`` bool."""
    return observations.mask & (observations.outlier_probability > 0)


def _contradicted(observations: Observations, peaks: GaussianMixture) -> Tensor:
    """Whether an observation is probably an outlier at the highest peak, ``(B,)`` bool."""
    row = torch.arange(peaks.batch)
    highest = peaks.means[row, peaks.log_weights.argmax(1)]
    log_odds = observations.residuals(highest[:, None]).log_odds[:, 0]
    return (_doubtful(observations) & (log_odds < 0)).any(1)


def _sets(observations: Observations, size: int) -> Tensor | None:
    """Which observations of one entity each start uses, ``(STARTS, N)`` bool.

    All starts use the observations that are linear or certain. None if no set would leave out enough.
    """
    doubtful = _doubtful(observations)[0]
    number = int(doubtful.sum())
    free = torch.nonzero(doubtful & (observations.kind[0] != LINEAR))[:, 0]
    least = min(size, number - OUTLIERS, len(free))
    if least < 2 or number > MOST:  # a single one is left alone by `randomised_maximum_likelihood`
        return None
    found = observations.mask.repeat(STARTS, 1)
    found[:, free] = _choices(len(free), least)
    return found


@lru_cache(maxsize=64)
def _choices(number: int, least: int) -> Tensor:
    """All choices of `least` out of `number`, spread over the starts, ``(STARTS, number)`` bool."""
    sets = list(itertools.combinations(range(number), least))
    chosen = [sets[start * len(sets) // STARTS] for start in range(STARTS)]
    return torch.nn.functional.one_hot(torch.tensor(chosen), number).sum(1).bool()


def _agreeing(prior: GaussianMixture, observations: Observations, used: Tensor) -> GaussianMixture:
    """Peaks ``(B, STARTS)`` reached from places where the `used` observations ``(B, STARTS, N)`` agree."""
    mixed = torch.randperm(
        STARTS, generator=torch.Generator().manual_seed(SEED)
    )  # each set gets all components
    starts = systematic(prior, prior.factors(), STARTS, SEED)[:, mixed]
    wide = widened_at(observations, (observations.kind == LINEAR) & _doubtful(observations))
    points = replace(Climb.of(prior, wide, starts), used=used).walk(starts, ROUNDS, robust=True)
    climb = Climb.of(prior, observations, points)
    return laplace(prior, climb, climb.walk(points, LAST_ROUNDS, robust=False))
