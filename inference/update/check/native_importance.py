"""Points of a defensive proposal and their densities, compiled for the processor: `importance.weigh` in one pass.

Densities are powers of two beside the highest peak of their mixture, off by 3e-10 at most. Where all are too far below
it, they are found beside the highest at each point (`native_density.sum_components`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_density import (
    ABSENT,
    BLOCK,
    FAINT,
    LEAST_POWER,
    Block,
    fill,
    new_block,
    sum_components,
    whiten,
)
from beliefstream.inference.mixtures.native_exponential import (
    LOG2_E,
    UNDERFLOW,
    exponential,
    logarithm,
    roughly_power_of_two,
)
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]
Counts = tuple[
    int, int, int, int
]  # points from the answer, the answer with wider covariances, prior and images

WIDENING = 4.0  # of the covariance: twice the spread, as Hesterberg's heavier tails


class Source(NamedTuple):
    """One mixture of the proposal, as densities take it."""

    factors: Array  # (K, D, D) of the covariances
    inverse: Array  # (K, D, D) of the factors
    shift: Array  # (K, D)
    peaks: Array  # (K,)
    block: Block


class Rows(NamedTuple):
    """Logs of densities at one problem's points ``(P,)``."""

    prior: Array
    proposal: Array
    answer: Array


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    mixture = GaussianMixture(one[0], one, one[..., None])
    drawn_and_weighed((mixture, mixture, mixture), np.zeros((4, 1)), (1, 1, 1, 1), one)


def drawn_and_weighed(
    mixtures: tuple[GaussianMixture, GaussianMixture, GaussianMixture],
    noise: Array,
    counts: Counts,
    given: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points ``(B, P, D)``, and logs of the densities of prior, proposal and answer there, each ``(B, P)``.

    `mixtures` are answer, prior and images; `noise` ``(N, D)`` are points of a standard normal, in the order of
    `counts`. The points `given` ``(B, P − N, D)`` come last.
    """
    answer, prior, images = (mixture.numbers for mixture in mixtures)
    alike = mixtures[2] is mixtures[1]
    shape = len(answer.means), len(noise) + given.shape[1]
    points, densities = np.empty((*shape, noise.shape[1])), np.empty((3, *shape))
    points[:, len(noise) :] = given.numpy()
    _draw_and_weigh((answer, prior, images), alike, noise, counts, points, densities)
    log_prior, proposal, log_answer = torch.from_numpy(densities)
    return torch.from_numpy(points), log_prior, proposal, log_answer


@native
def _draw_and_weigh(
    mixtures: tuple[Numbers, Numbers, Numbers],
    alike: bool,
    noise: Array,
    counts: Counts,
    points: Array,
    densities: Array,
) -> None:
    (answer, prior, images), size = mixtures, noise.shape[1]
    first, second, third = _new_source(answer), _new_source(prior), _new_source(images)
    # log densities of the widened answer and of the images; sums
    space = np.empty((4, BLOCK))
    for b in range(len(points)):
        _take(answer, b, first)
        _take(prior, b, second)
        if not alike:
            _take(images, b, third)
        at, into = points[b], Rows(densities[0, b], densities[1, b], densities[2, b])
        near, spread, before = counts[0], counts[0] + counts[1], counts[0] + counts[1] + counts[2]
        last = before + counts[3]
        _draw(answer, b, first, noise[:near], 1.0, at[:near])
        _draw(answer, b, first, noise[near:spread], math.sqrt(WIDENING), at[near:spread])
        _draw(prior, b, second, noise[spread:before], 1.0, at[spread:before])
        _draw(images, b, second if alike else third, noise[before:last], 1.0, at[before:last])
        for start in range(0, len(at), BLOCK):
            end = min(start + BLOCK, len(at))
            for i in range(size):
                for p in range(end - start):
                    first.block.points[i, p] = at[start + p, i]
            log_answer, log_prior = into.answer[start:end], into.prior[start:end]
            wide, along = space[0, : end - start], space[1, : end - start]
            _sum(first, first.block, space[2], space[3], log_answer, wide)
            _sum(second, first.block, space[2], space[3], log_prior, wide[:0])
            if alike:
                along = log_prior
            else:
                _sum(third, first.block, space[2], space[3], along, wide[:0])
            parts = (log_answer, wide, log_prior, along)
            _mix(counts, parts, space[2], space[3], into.proposal[start:end])


@inner
def _new_source(mixture: Numbers) -> Source:
    count, size = mixture.means.shape[1:]
    return Source(
        np.empty((count, size, size)),
        np.empty((count, size, size)),
        np.empty((count, size)),
        np.empty(count),
        new_block(count, size),
    )


@borrowing
def _take(mixture: Numbers, b: int, source: Source) -> None:
    for k in range(mixture.means.shape[1]):
        factorise(mixture.covariances[b, k], TINY, ROUNDING, source.factors[k])
    whiten(
        mixture.log_weights[b], mixture.means[b], source.factors, source.inverse, source.shift, source.peaks
    )


@borrowing
def _draw(mixture: Numbers, b: int, source: Source, noise: Array, wider: float, points: Array) -> None:
    """Fill the points, in proportion to the weights."""
    weights, means, count = mixture.log_weights[b], mixture.means[b], len(points)
    highest, total = -math.inf, 0.0
    for k in range(len(weights)):
        highest = max(highest, weights[k])
    for k in range(len(weights)):
        total += math.exp(weights[k] - highest)
    k, reached = 0, math.exp(weights[0] - highest) / total
    for place in range(count):
        while reached < (place + 0.5) / count and k + 1 < len(weights):
            k += 1
            reached += math.exp(weights[k] - highest) / total
        for i in range(points.shape[1]):
            offset = 0.0
            for j in range(i + 1):
                offset += source.factors[k, i, j] * noise[place, j]
            points[place, i] = means[k, i] + wider * offset


@borrowing
def _sum(source: Source, block: Block, sums: Array, widened: Array, total: Array, wide: Array) -> None:
    """Logs of a mixture's density at a block's points, and of that with wider covariances unless `wide` is empty."""
    highest = -math.inf
    for peak in source.peaks:
        highest = peak if peak > highest else highest
    for p in range(BLOCK):
        sums[p] = widened[p] = 0.0
    for k in range(len(source.peaks)):
        if source.peaks[k] == -math.inf:
            continue
        _fill_powers(source.inverse[k], source.shift[k], block)
        below = (source.peaks[k] - highest) * LOG2_E
        _add_powers(below, 1.0, block.argument, sums)
        if len(wide):
            _add_powers(below, 1 / WIDENING, block.argument, widened)
    lowered = 0.5 * source.shift.shape[1] * math.log(WIDENING)
    _close(highest, sums, source, block, 1.0, 0.0, total)
    _close(highest - lowered, widened, source, block, 1 / WIDENING, lowered, wide)


@fusing
def _fill_powers(inverse: Array, shift: Array, block: Block) -> None:
    """Half the squared Mahalanobis length of a block's points, as a power of two, into its `argument`."""
    points, offset, power = block.points, block.offset, block.argument
    for p in range(BLOCK):
        power[p] = 0.0
    for i in range(len(shift)):
        for p in range(BLOCK):
            offset[p] = shift[i]
        for j in range(i + 1):
            entry = inverse[i, j]
            for p in range(BLOCK):
                offset[p] += entry * points[j, p]
        for p in range(BLOCK):
            power[p] += 0.5 * LOG2_E * offset[p] * offset[p]


@fusing
def _add_powers(below: float, part: float, power: Array, sums: Array) -> None:
    for p in range(BLOCK):
        value = below - part * power[p]
        # what is not a number stays so
        sums[p] += roughly_power_of_two(LEAST_POWER if value < LEAST_POWER else value)


@borrowing
def _close(
    highest: float, sums: Array, source: Source, block: Block, part: float, lowered: float, total: Array
) -> None:
    """Logs of the sums into `total`; all again where one is faint."""
    faint = 0
    for p in range(len(total)):
        faint += not sums[p] > FAINT  # negated for what is not a number
        total[p] = highest + logarithm(sums[p])
    if faint == 0:
        return
    own, peaks = source.block, source.peaks
    for i in range(len(block.points)):
        for p in range(BLOCK):
            own.points[i, p] = block.points[i, p]
    fill(source.inverse, source.shift, peaks, own)
    for k in range(len(peaks)):
        for p in range(BLOCK if peaks[k] > -math.inf else 0):
            own.values[k, p] = peaks[k] - lowered + part * (own.values[k, p] - peaks[k])
    sum_components(own, total)


@borrowing
def _mix(
    counts: Counts, parts: tuple[Array, Array, Array, Array], highest: Array, sums: Array, total: Array
) -> None:
    """Log of the sum of the four densities by their shares of the points, into `total`."""
    answer, wide, prior, along = parts
    for p in range(len(total)):
        most = ABSENT
        most = answer[p] if answer[p] > most else most
        most = wide[p] if wide[p] > most else most
        most = prior[p] if prior[p] > most else most
        highest[p] = along[p] if along[p] > most else most
        sums[p] = 0.0
    _add_share(counts[0], answer, highest, sums)
    _add_share(counts[1], wide, highest, sums)
    _add_share(counts[2], prior, highest, sums)
    _add_share(counts[3], along, highest, sums)
    number = counts[0] + counts[1] + counts[2] + counts[3]
    for p in range(len(total)):
        log_sum = highest[p] + logarithm(sums[p] / number)
        total[p] = -math.inf if log_sum <= ABSENT else log_sum


@fusing
def _add_share(count: int, part: Array, highest: Array, sums: Array) -> None:
    for p in range(len(part)):
        value = part[p] - highest[p]
        sums[p] += count * exponential(UNDERFLOW if value < UNDERFLOW else value)
