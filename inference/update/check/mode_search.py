"""Search for the modes of a posterior, and for points along its mass.

With a prior of a kilometre and ranges good to a decimetre, walks from the prior's points miss modes.

1. `randomised_images`: many points of the prior, each moved to where the observations agree. This is randomised maximum
   likelihood (D. S. Oliver, N. He and A. C. Reynolds, "Conditioning Permeability Fields to Pressure Data", 5th European
   Conference on the Mathematics of Oil Recovery, 1996) without noise on the observations: x₀ goes to the minimum of
   ``|x − x₀|²`` in the prior's metric plus the squared residuals. A search for peaks finds a few points of a thin ring
   or sheet; these spread over all of it. Outliers and components of noise are drawn too, once for each group of points.
2. `search`: peaks reached by `climb` from there, and from around each sensor, at the reported distance or along the
   reported direction.
3. `with_agreeing`: peaks at which several observations are outliers. If d coordinates are observed, d observations
   usually determine them. So each choice of d may leave a peak where only these agree, and all choices are tried. They
   are the minimal sets of M. A. Fischler and R. C. Bolles, "Random Sample Consensus", Communications of the ACM 24(6),
   1981, which draws them at random.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.observations import ANGLE, LINEAR, RANGE, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture, beside
from beliefstream.inference.network.transformer import spread_points
from beliefstream.inference.update.check.climb import Climb, laplace, local_covariances, ordered, peaks_at
from beliefstream.inference.update.check.importance import EVENLY, Seed, systematic
from beliefstream.inference.update.check.prior_scan import scan

# Without another source, a number was set on hard problems, of the seeds that docs/adversarial.md names.
STARTS = 64  # of the prior, of its scan, and of the sets that agree
GROUPS = 16  # of starts, each with outliers and components of noise of its own
AROUND, MOST_AROUND = 8, 64  # starts around each sensor, and around all of more sensors; one each of many
ROUNDS = 6  # steps of a walk
ALIKE = 1e-4  # nats by which starts on the same peak may differ
FARTHEST = 4.0  # how far to follow a direction, in distances of the prior from the sensor
OUTLIERS = 2  # other steps leave out fewer
MOST = 8  # possible outliers; with more, the observations that agree are enough to resist the others
LEFT_OUT = 0.5  # least probability with which a possible outlier is treated as one


class Modes(NamedTuple):
    """The peaks, ``M`` for each problem."""

    laplace: (
        GaussianMixture  # weighted by their evidence; includes the prior, for all observations as outliers
    )
    images: GaussianMixture  # only the peaks, weak ones too


def randomised_images(
    prior: GaussianMixture, observations: Observations, scanned: bool = False
) -> GaussianMixture:
    """Gaussians along the posterior, from `STARTS` points of the prior; weighted by their evidence as peaks.

    Others come from a scan of the prior if `scanned`, and of noise mixtures and functions, which may have many modes.
    """
    observations = ordered(observations, prior.moments()[0])
    batch, size = prior.batch, prior.dimension
    starts = systematic(prior, prior.factors(), STARTS, Seed.ALONG)
    # neighbours in the sequence belong to one component: spread them over the groups
    starts = starts.view(batch, STARTS // GROUPS, GROUPS, size).transpose(1, 2).flatten(0, 1)
    hypotheses = _hypotheses(observations)
    climb = Climb.of(prior.rows(torch.arange(batch).repeat_interleave(GROUPS)), hypotheses, starts)
    climb = replace(climb, means=starts)
    points = climb.walk(starts, ROUNDS, robust=False)
    # as wide as under its own hypothesis; one ten times as wide can have the same centre
    covariances = local_covariances(points, climb.covariances, hypotheses).view(batch, STARTS, size, size)
    along = peaks_at(prior, observations, points.view(batch, STARTS, size), covariances)
    if not (scanned or bool((observations.is_irregular & observations.mask).any())):
        return along
    places = scan(prior, observations).starts()
    climb = Climb.of(prior, observations, places)
    return beside([along, laplace(prior, climb, climb.walk(places, ROUNDS, robust=False))])


def evened(peaks: GaussianMixture) -> GaussianMixture:
    """Peaks with a part of the weight spread evenly; all of it where none has a height."""
    count = peaks.components
    share = torch.nan_to_num(torch.softmax(peaks.log_weights, 1), nan=1 / count)
    return replace(peaks, log_weights=((1 - EVENLY) * share + EVENLY / count).log())


def _hypotheses(observations: Observations) -> Observations:
    """Repeat every problem `GROUPS` times, with drawn outliers left out and plain noise; the first is the likeliest."""
    index = torch.arange(observations.batch).repeat_interleave(GROUPS)
    many = observations.rows_of(index)
    number = observations.mask.shape[1]
    drawn = _draws(number).to(many.value).repeat(observations.batch, 1, 1)
    doubted = many.outlier_probability > 0
    out = doubted & (drawn[..., 0] < many.outlier_probability.clamp_min(LEFT_OUT))
    # in half of the groups all, or all but one, are outliers: each of several contradicting sensors leaves a ring
    group = (torch.arange(len(index)) % GROUPS)[:, None]
    place = torch.arange(number)
    used = many.mask.sum(1, keepdim=True)
    alone = (group - GROUPS // 2).clamp_min(0) % (used + 1)
    out = torch.where(group >= GROUPS // 2, doubted & (place != alone), out)
    linear = many.kind == LINEAR
    many = replace(
        widened_at(many, linear & out),
        mask=many.mask & (linear | ~out),
        outlier_probability=torch.zeros_like(many.outlier_probability),
    )
    return many if many.mixture is None else _with_one_noise(many, drawn[..., 1:])


@lru_cache(maxsize=16)
def _draws(number: int) -> Tensor:
    """Two even numbers for each group and place ``(GROUPS, number, 2)``; the same for a place, however many there are.

    They are 1 in the first group.
    """
    engine = torch.quasirandom.SobolEngine(2, scramble=True, seed=Seed.ALONG)  # type: ignore[no-untyped-call]
    drawn: Tensor = engine.draw(GROUPS * number).view(number, GROUPS, 2).transpose(0, 1).clone()
    drawn[0] = 1.0
    return drawn


def _with_one_noise(many: Observations, drawn: Tensor) -> Observations:
    """Observations with one Gaussian of their noise: that at `drawn` ``(B, N, 1)``, or the likeliest of a first one."""
    assert many.mixture is not None
    weights = torch.softmax(0.5 * many.mixture.log_weights, -1)  # draw rare ones more often
    chosen = (weights.cumsum(-1) < drawn * (1 - 1e-9)).sum(-1).clamp(max=weights.shape[-1] - 1)
    first = torch.arange(many.batch) % GROUPS == 0
    return with_noise_of(many, torch.where(first[:, None], weights.argmax(-1), chosen))


def with_noise_of(observations: Observations, component: Tensor) -> Observations:
    """The observations, with the Gaussian `component` ``(B, N)`` of their noise mixtures alone."""
    assert observations.mixture is not None
    linear, index = observations.kind == LINEAR, component[..., None]
    bias, ratio = (part.gather(-1, index)[..., 0] for part in observations.mixture[1:])
    value = observations.value.clone()
    value[..., 0] = torch.where(linear, value[..., 0], value[..., 0] - bias)
    scale = torch.where(linear, 1.0, ratio)
    slope = observations.deviation_slope
    return replace(
        observations,
        value=value,
        standard_deviation=observations.standard_deviation * scale,
        log_scale=observations.log_scale + scale.log(),
        deviation_slope=None if slope is None else slope * scale,
        mixture=None,
    )


def widened_at(observations: Observations, chosen: Tensor) -> Observations:
    """The observations, with the noise of an outlier at `chosen` ``(B, N)``; only linear ones may be chosen."""
    wide = observations.widened()
    return replace(
        observations,
        value=torch.where(chosen[..., None], wide.value, observations.value),
        matrix=torch.where(chosen[..., None, None], wide.matrix, observations.matrix),
        origin=torch.where(chosen[..., None], wide.origin, observations.origin),
        log_scale=torch.where(chosen, wide.log_scale, observations.log_scale),
    )


def search(
    prior: GaussianMixture, observations: Observations, images: GaussianMixture, count: int
) -> GaussianMixture:
    """The `count` best peaks of the posterior, reached by damped steps from `images` and from around the sensors.

    Their weights are their evidence, not normalised. Some may repeat a peak.
    """
    mean, _ = prior.moments()
    observations = ordered(observations, mean)
    # absent components come last and start at the mean, so that their number does not matter
    own = torch.where(prior.present[..., None], prior.means, mean[:, None])
    starts = torch.cat([images.means, _around_sensors(prior, observations), own, mean[:, None]], 1)
    climb = Climb.of(prior, observations, starts)
    points = climb.walk(starts, ROUNDS, robust=True)
    covariances = local_covariances(points, climb.covariances, observations)
    best, _ = distinct(points, la.cholesky(covariances), climb.promise(points), count)
    climb, points = climb.places(best), points.gather(1, best[..., None].expand(-1, -1, points.shape[-1]))
    points = climb.walk(points, ROUNDS, robust=True)
    return laplace(prior, climb, climb.walk(points, ROUNDS, robust=False))


def _around_sensors(prior: GaussianMixture, observations: Observations) -> Tensor:
    """Places that fit one observation each, and are near the prior's mean otherwise, ``(B, S, d)``."""
    batch, number, rows, size = observations.matrix.shape
    # of the places in the batch, whose number is the same for problems of one shape
    each = min(AROUND, max(1, MOST_AROUND // number))
    mean, covariance = prior.moments()
    relative = la.times(observations.matrix, mean[:, None]) - observations.origin
    measured = (observations.matrix != 0).any(-1)
    ways = spread_points(number * each, rows).to(mean).view(number, each, rows) * measured[:, :, None]
    ways = ways / la.norm(ways, True).clamp_min(1e-9)
    ring = ways * observations.value[..., 0].abs()[..., None, None]
    wanted = torch.where((observations.kind == RANGE)[..., None, None], ring, relative[:, :, None])
    if observations.has_angles:
        direction = observations.value[..., 0] + (observations.heading * mean[:, None]).sum(-1)
        reach = torch.maximum(la.norm(relative), la.trace(covariance)[:, None].sqrt())
        steps = FARTHEST ** torch.linspace(-1, 1, each, dtype=mean.dtype)
        along = relative[:, :, None].repeat(1, 1, each, 1)
        distance = reach[..., None] * steps
        along[..., 0] = distance * direction.cos()[..., None]
        along[..., 1] = distance * direction.sin()[..., None]
        wanted = torch.where((observations.kind == ANGLE)[..., None, None], along, wanted)
    back = torch.linalg.pinv(observations.matrix)
    places = mean[:, None, None] + la.times(back[:, :, None], wanted - relative[:, :, None])
    useful = observations.mask & ((observations.kind == RANGE) | (observations.kind == ANGLE))
    places = torch.where(useful[..., None, None], places, mean[:, None, None])
    return places.reshape(batch, number * each, size)


def modes(prior: GaussianMixture, observations: Observations, peaks: GaussianMixture) -> Modes:
    """The distinct ones of `peaks` as a mixture, and as images."""
    best, repeated = distinct(peaks.means, peaks.factors(), peaks.log_weights, peaks.components)
    peaks = peaks.places(best)
    peaks = replace(peaks, log_weights=torch.where(repeated, -math.inf, peaks.log_weights))
    outliers = prior.scaled_by(observations.log_likelihood(prior.means))
    return Modes(beside([peaks, outliers]).normalised(), evened(peaks))


def distinct(points: Tensor, factors: Tensor, height: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Indices ``(B, count)`` of the highest distinct peaks, then of the highest of the rest, and which are these.

    Peaks within a standard deviation of a higher one count as the same.
    """
    row = torch.arange(len(points))
    # starts on the same peak differ only by rounding, which must not decide
    left, chosen, repeated = torch.nan_to_num(height / ALIKE, nan=-math.inf).round().clamp_min(-1e30), [], []
    inverse = la.invert_lower(factors)
    for _ in range(count):
        best = left.argmax(1)
        chosen.append(best)
        repeated.append(left[row, best] <= -1e30)
        offset = points - points[row, best][:, None]
        distance = la.squared_norm(la.times(inverse[row, best][:, None], offset))
        left = torch.where(distance < 1, left - 1e30, left)
        left[row, best] = -math.inf
    return torch.stack(chosen, 1), torch.stack(repeated, 1)


def with_agreeing(
    prior: GaussianMixture, observations: Observations, peaks: GaussianMixture
) -> GaussianMixture:
    """The highest of `peaks` and of the peaks at which few observations agree, as many as `peaks` has.

    It searches only where an observation is an outlier at the highest of `peaks`, and more may be.
    """
    contradicted = _contradicted(observations, peaks).tolist()
    each = [
        _sets(observations.rows_of(slice(row, row + 1)), prior.dimension) if contradicted[row] else None
        for row in range(prior.batch)
    ]
    index = torch.tensor([row for row, sets in enumerate(each) if sets is not None], dtype=torch.int64)
    if len(index) == 0:
        return peaks
    used = torch.stack([sets for sets in each if sets is not None])
    more = _agreeing(prior.rows(index), observations.rows_of(index), used.to(prior.means))
    both = beside([peaks.rows(index), more])
    best = both.places(distinct(both.means, both.factors(), both.log_weights, peaks.components)[0])
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
    if least < 2 or number > MOST:  # a single one is left alone by `randomised_images`
        return None
    used = observations.mask.repeat(STARTS, 1)
    used[:, free] = _choices(len(free), least)
    return used


@lru_cache(maxsize=64)
def _choices(number: int, least: int) -> Tensor:
    """All choices of `least` out of `number`, spread over the starts, ``(STARTS, number)`` bool."""
    sets = list(itertools.combinations(range(number), least))
    chosen = [sets[start * len(sets) // STARTS] for start in range(STARTS)]
    return torch.nn.functional.one_hot(torch.tensor(chosen), number).sum(1).bool()


def _agreeing(prior: GaussianMixture, observations: Observations, used: Tensor) -> GaussianMixture:
    """Peaks ``(B, STARTS)`` reached from places where the `used` observations ``(B, STARTS, N)`` agree."""
    mixed = torch.randperm(
        STARTS, generator=torch.Generator().manual_seed(Seed.SETS)
    )  # each set gets all components
    starts = systematic(prior, prior.factors(), STARTS, Seed.SETS)[:, mixed]
    wide = widened_at(observations, (observations.kind == LINEAR) & _doubtful(observations))
    points = replace(Climb.of(prior, wide, starts), used=used).walk(starts, ROUNDS, robust=True)
    climb = Climb.of(prior, observations, points)
    return laplace(prior, climb, climb.walk(points, ROUNDS, robust=False))
