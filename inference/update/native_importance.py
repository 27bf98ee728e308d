"""Importance points and the quality of an answer, for the processor; see `inference.update.importance`.

Everything is computed in double precision, one problem after another.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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
from beliefstream.inference.mixtures.native_linear_algebra import TINY, factorise

Array = NDArray[np.float64]

LOG_2 = math.log(2)


class Points(NamedTuple):
    """As `importance.Weighted`, without the target; all ``(B, P)`` but the points and the prior's components."""

    points: Array
    log_prior: Array
    proposal: Array
    answer: Array
    prior_components: Array


class Frame(NamedTuple):
    """A mixture's components at one problem, as `native_density.whiten` fills them."""

    factors: Array
    inverse: Array
    shift: Array
    peaks: Array


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    single, noise = GaussianMixture(one[0].log(), one, one[..., None]), one[0]
    draw(single, single, single, (noise, noise, noise, noise))
    quality(one[0], one[0], one[0], 1.0)


def draw(
    prior: GaussianMixture,
    answer: GaussianMixture,
    images: GaussianMixture,
    noises: tuple[Tensor, Tensor, Tensor, Tensor],
) -> tuple[Tensor, ...]:
    """Points of the proposal, and their densities, in double precision: the fields of `Points`.

    `noises` are points of a standard normal ``(P_i, d)`` for the answer, the answer with twice the spread, the prior
    and the images.
    """
    count = sum(map(len, noises))
    batch, components, size = prior.means.shape
    shape = batch, count
    found = Points(
        np.empty((batch, count, size)),
        np.empty(shape),
        np.empty(shape),
        np.empty(shape),
        np.empty((batch, components, count)),
    )
    mixtures = numbers_of(prior), numbers_of(answer), numbers_of(images)
    # a rounded covariance is only as sound as its own precision
    rounding = torch.finfo(answer.covariances.dtype).eps
    near, spread, around, rest = noises
    _draw(mixtures, (array(near), array(spread), array(around), array(rest)), rounding, found)
    return tuple(torch.from_numpy(part) for part in found)


def quality(
    target: Tensor, proposal: Tensor, answer: Tensor, truncation: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `importance.quality`, of log densities ``(B, P)``."""
    found = np.empty((4, len(target)))
    _quality(array(target), array(proposal), array(answer), math.log(truncation), found)
    size, evidence, divergence, deviation = torch.from_numpy(found)
    return size, evidence, divergence, deviation


@native
def _draw(
    mixtures: tuple[Numbers, Numbers, Numbers],
    noises: tuple[Array, Array, Array, Array],
    rounding: float,
    found: Points,
) -> None:
    prior, answer, images = mixtures
    count, size = found.points.shape[1:]
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
        _frame(prior, b, rounding, frames[0])
        _frame(answer, b, rounding, frames[1])
        _frame(images, b, rounding, frames[2])
        start = _place(answer, b, frames[1], 1.0, noises[0], space, found.points[b], 0)
        start = _place(answer, b, frames[1], 2.0, noises[1], space, found.points[b], start)
        start = _place(prior, b, frames[0], 1.0, noises[2], space, found.points[b], start)
        start = _place(images, b, frames[2], 1.0, noises[3], space, found.points[b], start)
        for start in range(0, count, BLOCK):
            some = min(BLOCK, count - start)
            _evaluate(found.points[b, start : start + some], frames, blocks, parts.values)
            for k in range(prior.means.shape[1]):
                kept, densities = found.prior_components[b, k, start : start + some], blocks[0].values[k]
                for p in range(some):
                    kept[p] = densities[p]
            for p in range(some):
                found.log_prior[b, start + p] = parts.values[2, p]
                found.answer[b, start + p] = parts.values[0, p]
            for part in range(4):
                for p in range(BLOCK):
                    parts.values[part, p] += shares[part]
            sum_components(parts, found.proposal[b, start : start + some])


@inner
def _new_frame(means: Array) -> Frame:
    count, size = means.shape[1:]
    squares = np.empty((2, count, size, size))
    return Frame(squares[0], squares[1], np.empty((count, size)), np.empty(count))


@borrowing
def _frame(mixture: Numbers, b: int, rounding: float, frame: Frame) -> None:
    for k in range(mixture.means.shape[1]):
        factorise(mixture.covariances[b, k], TINY, rounding, frame.factors[k])
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
    # a quarter of the exponent, and the constant of factors twice as large
    wide = blocks[1].values
    for k in range(len(wide)):
        peak = frames[1].peaks[k]
        if peak == -math.inf:
            continue
        for p in range(BLOCK):
            wide[k, p] = peak - size * LOG_2 + 0.25 * (wide[k, p] - peak)
    sum_components(blocks[1], values[1])


@native
def _quality(target: Array, proposal: Array, answer: Array, truncation: float, found: Array) -> None:
    count = target.shape[1]
    share = np.empty(count)
    for b in range(len(target)):
        highest = -math.inf
        for p in range(count):
            share[p] = target[b, p] - proposal[b, p]
            # a comparison that keeps what is not a number
            highest = highest if share[p] <= highest else share[p]
        if highest == -math.inf:
            found[0, b], found[1, b], found[2, b], found[3, b] = math.nan, highest, math.nan, math.nan
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
        found[0, b] = min(max(size, 0.0), 1.0) if size == size else math.nan
        found[1, b] = evidence
        found[2, b] = 0.0 if divergence < 0 else divergence
        found[3, b] = math.sqrt(squares)


@borrowing
def _ratio(target: float, answer: float, evidence: float, share: float) -> float:
    """Log of the exact posterior over the answer; it may be undefined at a point without weight."""
    return 0.0 if share == 0 else target - answer - evidence
