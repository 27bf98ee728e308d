"""Importance sampling: how far an answer is from the exact posterior.

Points x come from a defensive mixture r of the answer q, the answer with wider covariances, the prior, and Gaussians
where the observations agree, so that a mode which q misses is seen (T. Hesterberg, "Weighted Average Importance
Sampling and Defensive Mixture Distributions", Technometrics 37(2), 1995). With weights w = prior × likelihood / r,

    evidence Z = mean w,    E_p[f] = Σ w f / Σ w,    divergence KL(p ‖ q) = E_p[log(prior × likelihood / (Z q))].

The points are quasi-random and fixed, so the same problem gives the same result. All numbers are double.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    Block,
    fill,
    new_block,
    sum_components,
    whiten,
)
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]

# Shares of the points: answer, widened answer, prior, and Gaussians where the observations agree: those of the prior
# before a search, and many afterwards. A tenth each is a usual choice of Hesterberg's; others were not tuned.
SHARES, SEARCHED_SHARES = (0.55, 0.15, 0.10, 0.20), (0.35, 0.10, 0.10, 0.45)
WIDENING = 4.0  # of the covariance: twice the spread, as Hesterberg's heavier tails
TRUNCATION = (
    30.0  # of an importance weight; about the square root of the points of a measure, as Ionides says
)
WIDER = 0.1  # share of an answer's variance that a Gaussian as wide as the prior may add: it must not show
# a share of weight or points that is spread evenly; no simple fraction, or points would fall on the borders between
# components, and rounding would decide
EVENLY = 0.4183


class Seed(IntEnum):
    """Seeds of independent quasi-random sequences, one for each use; no other choice was tried."""

    CHECK = 11
    REFINEMENT = 101
    ALONG = 401
    VERIFICATION = 501
    UNOBSERVED = 502
    SCAN = 601
    SCAN_STARTS = 602
    SIDES = 603
    SETS = 611
    REDUCTION = 701
    SIMULATED = 801
    EVALUATED = 802
    PUBLISHED_CHECK = 7_919
    PUBLISHED_REPORT = 104_729  # measures what was chosen: the points of a choice flatter it


class Frame(NamedTuple):
    """A mixture's components at one problem, as `native_density.whiten` fills them."""

    factors: Array
    inverse: Array
    shift: Array
    peaks: Array


class Points(NamedTuple):
    """As `Weighted`, without the target."""

    points: Array
    log_prior: Array
    proposal: Array
    answer: Array
    prior_components: Array


@dataclass(frozen=True)
class Weighted:
    """Points with their log densities; `points` is ``(B, P, d)``, all others ``(B, P)``."""

    points: Tensor
    target: Tensor  # log of prior × likelihood, not normalised
    proposal: Tensor  # log density of the proposal
    answer: Tensor  # log density of the answer q
    prior_components: Tensor  # log of weight × density of each component of the prior, (B, K, P)


class Quality(NamedTuple):
    """Quality of an answer, estimated on importance points; each field is ``(B,)``."""

    effective_sample_size: Tensor  # as a fraction of the points
    log_evidence: Tensor
    divergence: Tensor  # KL(exact ‖ answer) in nats
    deviation: Tensor  # standard error of `divergence`


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    single = GaussianMixture(one[0].log(), one, one[..., None])
    _drawn((single, single, single), 8, 0, SHARES)
    quality(Weighted(one, one[0], one[0], one[0], one))


@lru_cache(maxsize=64)
def normal_points(count: int, dimension: int, seed: int) -> Tensor:
    """`count` quasi-random points of a standard normal, ``(count, dimension)``."""
    engine = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=seed)  # type: ignore[no-untyped-call]
    sobol: Tensor = engine.draw(count)
    return (torch.erfinv(2 * sobol.clamp(1e-4, 1 - 1e-4) - 1) * math.sqrt(2)).double()


def systematic_places(shares: Tensor, count: int) -> Tensor:
    """`count` places ``(B, count)`` in proportion to `shares` ``(B, K)``, which sum to one, in rising order."""
    cumulative = shares.cumsum(1)
    ticks = (torch.arange(count, dtype=cumulative.dtype) + 0.5) / count
    index = torch.searchsorted(cumulative, ticks.expand(shares.shape[0], count).contiguous())
    return index.clamp(max=shares.shape[1] - 1)


def systematic(mixture: GaussianMixture, factors: Tensor, count: int, seed: int) -> Tensor:
    """`count` points per entity, in proportion to the components' weights, ``(B, count, d)``."""
    index = systematic_places(torch.softmax(mixture.log_weights, -1), count)
    row, noise = torch.arange(mixture.batch)[:, None], normal_points(count, mixture.dimension, seed)
    return mixture.means[row, index] + la.times(factors[row, index], noise.expand(mixture.batch, -1, -1))


def weigh(
    prior: GaussianMixture,
    answer: GaussianMixture,
    observations: Observations,
    images: GaussianMixture,
    count: int,
    seed: int,
    shares: tuple[float, ...] = SHARES,
) -> Weighted:
    """Draw `count` points for every problem of the batch, by `shares`, and evaluate them."""
    points, log_prior, *others = _drawn((prior, answer, images), count, seed, shares)
    return Weighted(points, log_prior + observations.log_likelihood(points), *others)


def _drawn(
    mixtures: tuple[GaussianMixture, GaussianMixture, GaussianMixture],
    count: int,
    seed: int,
    shares: tuple[float, ...],
) -> tuple[Tensor, ...]:
    """The fields of `Points` of `count` points, by shares; `mixtures` are prior, answer and images."""
    batch, components, size = mixtures[0].means.shape
    near, spread, around = (round(share * count) for share in shares[:3])
    parts = near, spread, around, count - near - spread - around
    noises = [array(normal_points(number, size, seed + turn)) for turn, number in enumerate(parts)]
    shapes = (count, size), (count,), (count,), (count,), (components, count)
    drawn = Points(*(np.empty((batch, *shape)) for shape in shapes))
    prior, answer, images = map(numbers_of, mixtures)
    _draw((prior, answer, images), (noises[0], noises[1], noises[2], noises[3]), drawn)
    return tuple(torch.from_numpy(part) for part in drawn)


def quality(weighted: Weighted) -> Quality:
    """Quality of the answer as a proposal.

    With p the exact posterior and q the answer, the effective sample size is ``1 / E_p[min(p/q, 30)]``. It is 1 only if
    q = p. It is small if q misses mass of p, because the expectation is over the defensive points. Weights are
    truncated (E. L. Ionides, "Truncated Importance Sampling", J. Computational and Graphical Statistics 17(2), 2008).
    Without truncation, far tails without mass would dominate, and the result would say nothing about the distance. The
    divergence sees what truncation hides, so the bound here is ``exp(−2 KL)``: what it is for two near densities.

    The standard error is by the delta method for independent points; these points are spread more evenly.
    """
    numbers = np.empty((4, len(weighted.target)))
    _quality(array(weighted.target), array(weighted.proposal), array(weighted.answer), numbers)
    return Quality(*torch.from_numpy(numbers))


def share_beside(answer: GaussianMixture, wide: GaussianMixture) -> Tensor:
    """Weight of one Gaussian beside an answer that adds `WIDER` of its variance in all directions, ``(B, 1)``."""
    mean, covariance = answer.moments()
    offset = wide.means[:, 0] - mean
    added = wide.covariances[:, 0] + la.outer(offset, offset)
    return WIDER / la.trace(la.invert(covariance) @ added)[:, None]


@native
def _draw(
    mixtures: tuple[Numbers, Numbers, Numbers],
    noises: tuple[Array, Array, Array, Array],
    drawn: Points,
) -> None:
    prior, answer, images = mixtures
    count, size = drawn.points.shape[1:]
    frames = (_new_frame(prior.means), _new_frame(answer.means), _new_frame(images.means))
    largest = max(prior.means.shape[1], answer.means.shape[1], images.means.shape[1])
    space = np.empty(largest)
    blocks = (
        new_block(prior.means.shape[1], size),
        new_block(answer.means.shape[1], size),
        new_block(images.means.shape[1], size),
    )
    shares = np.empty(4)
    for part in range(4):
        shares[part] = math.log(len(noises[part]) / count) if len(noises[part]) else -math.inf
    parts = new_block(4, 1)
    for b in range(len(prior.means)):
        _frame(prior, b, frames[0])
        _frame(answer, b, frames[1])
        _frame(images, b, frames[2])
        start = _place(answer, b, frames[1], 1.0, noises[0], space, drawn.points[b], 0)
        start = _place(answer, b, frames[1], math.sqrt(WIDENING), noises[1], space, drawn.points[b], start)
        start = _place(prior, b, frames[0], 1.0, noises[2], space, drawn.points[b], start)
        start = _place(images, b, frames[2], 1.0, noises[3], space, drawn.points[b], start)
        for start in range(0, count, BLOCK):
            some = min(BLOCK, count - start)
            _evaluate(drawn.points[b, start : start + some], frames, blocks, parts.values)
            for k in range(prior.means.shape[1]):
                kept, densities = drawn.prior_components[b, k, start : start + some], blocks[0].values[k]
                for p in range(some):
                    kept[p] = densities[p]
            for p in range(some):
                drawn.log_prior[b, start + p] = parts.values[2, p]
                drawn.answer[b, start + p] = parts.values[0, p]
            for part in range(4):
                for p in range(BLOCK):
                    parts.values[part, p] += shares[part]
            sum_components(parts, drawn.proposal[b, start : start + some])


@inner
def _new_frame(means: Array) -> Frame:
    count, size = means.shape[1:]
    squares = np.empty((2, count, size, size))
    return Frame(squares[0], squares[1], np.empty((count, size)), np.empty(count))


@borrowing
def _frame(mixture: Numbers, b: int, frame: Frame) -> None:
    for k in range(mixture.means.shape[1]):
        factorise(mixture.covariances[b, k], TINY, ROUNDING, frame.factors[k])
    whiten(mixture.log_weights[b], mixture.means[b], frame.factors, frame.inverse, frame.shift, frame.peaks)


@borrowing
def _place(
    mixture: Numbers,
    b: int,
    frame: Frame,
    spread: float,
    noise: Array,
    space: Array,
    points: Array,
    start: int,
) -> int:
    """Fill points in proportion to the components' weights, as `importance.systematic`; returns where they end."""
    count, size = mixture.means.shape[1:]
    highest = -math.inf
    for k in range(count):
        highest = max(highest, mixture.log_weights[b, k])
    total = 0.0
    for k in range(count):
        total += math.exp(mixture.log_weights[b, k] - highest)
    cumulative = 0.0
    for k in range(count):
        cumulative += math.exp(mixture.log_weights[b, k] - highest) / total
        space[k] = cumulative
    k = 0
    for p in range(len(noise)):
        # negated, so that a weight that is not a number ends the search
        while k < count - 1 and not space[k] >= (p + 0.5) / len(noise):
            k += 1
        for i in range(size):
            value = mixture.means[b, k, i]
            for j in range(i + 1):
                value += spread * frame.factors[k, i, j] * noise[p, j]
            points[start + p, i] = value
    return start + len(noise)


@borrowing
def _evaluate(
    points: Array, frames: tuple[Frame, Frame, Frame], blocks: tuple[Block, Block, Block], values: Array
) -> None:
    """Log densities of the answer, the answer with twice the spread, the prior and the images, by rows."""
    size = points.shape[1]
    for number in range(3):
        for i in range(size):
            for p in range(len(points)):
                blocks[number].points[i, p] = points[p, i]
        fill(frames[number].inverse, frames[number].shift, frames[number].peaks, blocks[number])
    sum_components(blocks[0], values[2])
    sum_components(blocks[1], values[0])
    sum_components(blocks[2], values[3])
    # a quarter of the exponent, and the constant of covariances four times as large
    wide = blocks[1].values
    for k in range(len(wide)):
        peak = frames[1].peaks[k]
        if peak == -math.inf:
            continue
        for p in range(BLOCK):
            wide[k, p] = peak - 0.5 * size * math.log(WIDENING) + (wide[k, p] - peak) / WIDENING
    sum_components(blocks[1], values[1])


@native
def _quality(target: Array, proposal: Array, answer: Array, numbers: Array) -> None:
    count, truncation = target.shape[1], math.log(TRUNCATION)
    share = np.empty(count)
    for b in range(len(target)):
        highest = -math.inf
        for p in range(count):
            share[p] = target[b, p] - proposal[b, p]
            # a comparison that keeps what is not a number
            highest = highest if share[p] <= highest else share[p]
        if highest == -math.inf:
            numbers[0, b], numbers[1, b], numbers[2, b], numbers[3, b] = math.nan, highest, math.nan, math.nan
            continue
        total = 0.0
        for p in range(count):
            share[p] = math.exp(share[p] - highest)
            total += share[p]
        evidence = highest + math.log(total) - math.log(count)
        divergence = mean = squares = 0.0
        for p in range(count):
            share[p] /= total
            ratio = _ratio(target[b, p], answer[b, p], evidence, share[p])
            divergence += share[p] * ratio
            mean += share[p] * math.exp(truncation if ratio > truncation else ratio)
        for p in range(count):
            ratio = _ratio(target[b, p], answer[b, p], evidence, share[p])
            influence = share[p] * (ratio - divergence - 1) + 1 / count
            squares += influence * influence
        size, bound = 1 / mean, math.exp(-2 * divergence)
        size = size if size <= bound else bound
        numbers[0, b] = min(max(size, 0.0), 1.0) if size == size else math.nan
        numbers[1, b] = evidence
        numbers[2, b] = 0.0 if divergence < 0 else divergence
        numbers[3, b] = math.sqrt(squares)


@borrowing
def _ratio(target: float, answer: float, evidence: float, share: float) -> float:
    """Log of the exact posterior over the answer; it may be undefined at a point without weight."""
    return 0.0 if share == 0 else target - answer - evidence
