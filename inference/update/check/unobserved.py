"""The coordinates that no sensor touches: they follow the observed ones as the prior says.

Given the observed coordinates ``y = H x``, the state follows the prior's components k,

    p(x | y) = Σ_k r_k(y) N(x; m_k + G_k (y − H m_k), P_k − G_k H P_k),    G_k = P_k Hᵀ (H P_k Hᵀ)⁻¹,

with r_k their responsibilities (C. M. Bishop, "Pattern Recognition and Machine Learning", 2006, section 2.3). A
component of an answer is small beside the prior, so `extend` takes the average of r_k over it, and merges the Gaussians
that follow where one is enough. `unobserved_divergence` measures what an answer over the whole state loses by that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    LEAST_POWER,
    ROOT,
    Block,
    begin_sums,
    end_sums,
    fill,
    new_block,
    sum_components,
    sum_plane,
    whiten,
)
from beliefstream.inference.mixtures.native_exponential import (
    LOG2_E,
    UNDERFLOW,
    exponential,
    roughly_power_of_two,
)
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.update.check.importance import Seed, normal_points

Array = NDArray[np.float64]
Counts = NDArray[np.int64]

# least responsibility of a component of the prior; nats that merging may cost, as `UpdateSettings.merge_below`
LEAST_RESPONSIBILITY, MERGED_BELOW = 1e-3, 2e-3


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    two = torch.zeros(1, 1, 2, dtype=torch.float64)
    whole = GaussianMixture(two[..., 0], two, torch.eye(2).double()[None, None])
    extend(whole.marginal([0]), whole, [0])
    unobserved_divergence(whole, whole, [0], two[..., :1], two[..., 0])


class Regression(NamedTuple):
    """Of each component of the prior on the observed coordinates."""

    gain: Array  # (K, D, d)
    rest: Array  # (K, D, D), the remaining covariance
    inverse: Array  # (K, d, d), of the factor of the observed covariance
    peak: Array  # (K,), log of weight × highest density of the observed coordinates


class Extension(NamedTuple):
    """The regressions of one prior, and space to extend a component of an answer by them."""

    regression: Regression
    factor: Array  # (d, d)
    square: Array  # (d, d)
    across: Array  # (D, d)
    point: Array  # (d,)
    offset: Array  # (d,)
    logs: Array  # (K,)
    shares: Array  # (K,)
    order: Counts  # (K,)
    means: Array  # (K, D), of the extended sources
    covariances: Array  # (K, D, D)
    mean: Array  # (D,), of all of them
    covariance: Array  # (D, D)
    whole: Array  # (D, D), factor


@inner
def new_extension(sources: int, size: int, observed: int) -> Extension:
    """Space for a prior of so many components and coordinates, of which so many are observed."""
    regression = Regression(
        np.empty((sources, size, observed)), np.empty((sources, size, size)),
        np.zeros((sources, observed, observed)), np.empty(sources),
    )  # fmt: skip
    small, large, of_each = (
        np.empty((2, observed, observed)),
        np.empty((2, size, size)),
        np.empty((2, sources)),
    )
    return Extension(
        regression, small[0], small[1],
        np.empty((size, observed)), np.empty(observed), np.empty(observed),
        of_each[0], of_each[1], np.empty(sources, np.int64),
        np.empty((sources, size)), np.empty((sources, size, size)),
        np.empty(size), large[0], large[1],
    )  # fmt: skip


@borrowing
def regress(prior: Numbers, k: int, axes: Counts, work: Extension) -> None:
    """Fill the regression of one component of one prior."""
    size, observed = work.across.shape
    regression = work.regression
    covariance, gain = prior.covariances[k], regression.gain[k]
    for i in range(observed):
        for j in range(observed):
            work.square[i, j] = covariance[axes[i], axes[j]]
    factorise(work.square, TINY, ROUNDING, work.factor)
    regression.peak[k] = prior.log_weights[k]
    for i in range(observed):
        regression.peak[k] -= math.log(work.factor[i, i])
    invert_product(work.factor, regression.inverse[k], work.square)
    for i in range(size):
        for j in range(observed):
            gain[i, j] = 0.0
            for m in range(observed):
                gain[i, j] += covariance[i, axes[m]] * work.square[m, j]
    # observed coordinates follow exactly, so that rounding makes no variance negative
    for i in range(observed):
        for j in range(observed):
            gain[axes[i], j] = 1.0 if i == j else 0.0
    for i in range(size):
        for j in range(size):
            total = covariance[i, j]
            for m in range(observed):
                for n in range(observed):
                    total -= gain[i, m] * covariance[axes[m], axes[n]] * gain[j, n]
            regression.rest[k, i, j] = total
    for i in range(size):
        for j in range(i):
            mean = 0.5 * (regression.rest[k, i, j] + regression.rest[k, j, i])
            regression.rest[k, i, j] = regression.rest[k, j, i] = mean
    for i in range(observed):
        for j in range(size):
            regression.rest[k, axes[i], j] = regression.rest[k, j, axes[i]] = 0.0


@borrowing
def _find_sources(answer: Numbers, j: int, prior: Numbers, axes: Counts, work: Extension) -> int:
    """Fill the shares of the prior's components and their order; returns how many count.

    They are averages over the cubature points ``m ± √d L_i`` of a component of the answer.
    """
    count, observed = len(work.shares), len(work.point)
    factorise(answer.covariances[j], TINY, ROUNDING, work.factor)
    for k in range(count):
        work.shares[k] = 0.0
    step = math.sqrt(observed)
    for place in range(2 * observed if count > 1 else 0):
        side, column = (step, place) if place < observed else (-step, place - observed)
        for i in range(observed):
            work.point[i] = answer.means[j, i] + side * work.factor[i, column]
        _add_shares(prior, axes, work, 1 / (2 * observed))
    total = 0.0
    for k in range(count):
        work.shares[k] = 0.0 if work.shares[k] < LEAST_RESPONSIBILITY else work.shares[k]
        total += work.shares[k]
    used = 0
    for k in range(count):
        work.shares[k] = work.shares[k] / total if total > 0 else 1.0 / count
        work.order[k] = k
        used += 1 if work.shares[k] > 0 else 0
    for k in range(1, count):  # sorted by falling share; equal ones stay in order
        place = k
        while place > 0 and work.shares[work.order[place]] > work.shares[work.order[place - 1]]:
            work.order[place], work.order[place - 1] = work.order[place - 1], work.order[place]
            place -= 1
    return max(1, used)


@borrowing
def _add_shares(prior: Numbers, axes: Counts, work: Extension, part: float) -> None:
    """Add the responsibilities of the prior's components at `work.point`, times a part."""
    regression, highest, total = work.regression, -math.inf, 0.0
    for k in range(len(work.logs)):
        log = regression.peak[k]
        for i in range(len(work.point)):
            offset = 0.0
            for m in range(i + 1):
                offset += regression.inverse[k, i, m] * (work.point[m] - prior.means[k, axes[m]])
            log -= 0.5 * offset * offset
        work.logs[k] = log
        highest = max(highest, log)
    for k in range(len(work.logs)):
        work.logs[k] = math.exp(work.logs[k] - highest)
        total += work.logs[k]
    for k in range(len(work.logs)):
        work.shares[k] += part * work.logs[k] / total


def extend(
    answer: GaussianMixture, whole: GaussianMixture, axes: Sequence[int], source: Tensor | None = None
) -> GaussianMixture:
    """Extend `answer` ``(B, J, d)`` over `axes` to all ``D`` coordinates of the prior `whole`, in the same units.

    `source` ``(B, J)`` is the component of the prior that each component of the answer follows, where it is known.
    """
    (batch, count, _), (_, sources, size) = answer.means.shape, whole.means.shape
    shape = batch, count, sources
    extended = np.full(shape, -math.inf), np.zeros((*shape, size)), np.zeros((*shape, size, size))
    known = np.full((batch, count), -1) if source is None else source.numpy()
    most = extend_all(answer.numbers, whole.numbers, np.array(axes, np.int64), known, extended)
    log_weights, means, covariances = (torch.from_numpy(part)[:, :, :most].flatten(1, 2) for part in extended)
    return GaussianMixture(log_weights, means, covariances)


@native
def extend_all(
    answer: Numbers,
    whole: Numbers,
    axes: Counts,
    known: Counts,
    extended: tuple[Array, Array, Array],
) -> int:
    """Fill the extended components; returns the largest number of places that one component of the answer takes."""
    batch, _, observed = answer[1].shape
    sources, size = whole[1].shape[1:]
    work, most = new_extension(sources, size, observed), 1
    for b in range(batch):
        one = Numbers(answer.log_weights[b], answer.means[b], answer.covariances[b])
        prior = Numbers(whole.log_weights[b], whole.means[b], whole.covariances[b])
        into = (extended[0][b], extended[1][b], extended[2][b])
        most = max(most, _extend_one(one, prior, axes, known[b], into, work))
    return most


@borrowing
def _extend_one(
    answer: Numbers,
    prior: Numbers,
    axes: Counts,
    known: Counts,
    extended: tuple[Array, Array, Array],
    work: Extension,
) -> int:
    count, (sources, size), most = len(answer.means), prior.means.shape, 1
    log_weights, means, covariances = extended
    for k in range(sources):
        regress(prior, k, axes, work)
    for j in range(count):
        log_weight, used = answer.log_weights[j], 1
        if known[j] < 0:
            used = _find_sources(answer, j, prior, axes, work)
        else:
            work.order[0] = known[j]
        for s in range(used):
            _follow(answer, j, prior, axes, work, s)
        if used > 1 and _merge(math.exp(log_weight), used, work):
            used = 1
        most = max(most, used if log_weight > -math.inf else 1)
        for s in range(used):
            share = 1.0 if used == 1 else work.shares[work.order[s]]
            log_weights[j, s] = log_weight + math.log(share)
            for i in range(size):
                means[j, s, i] = work.means[s, i]
                for other in range(size):
                    covariances[j, s, i, other] = work.covariances[s, i, other]
        for s in range(used, sources):  # filler of places without weight
            put_vector(means[j, s], means[j, 0])
            put_matrix(covariances[j, s], covariances[j, 0])
    return most


@borrowing
def _follow(answer: Numbers, j: int, prior: Numbers, axes: Counts, work: Extension, s: int) -> None:
    """Fill the mean and covariance of a component of the answer as the s-th source of the prior extends it."""
    k = work.order[s]
    gain, rest, covariance = work.regression.gain[k], work.regression.rest[k], answer.covariances[j]
    size, observed = gain.shape
    for i in range(observed):
        work.offset[i] = answer.means[j, i] - prior.means[k, axes[i]]
    for i in range(size):
        work.means[s, i] = prior.means[k, i]
        for m in range(observed):
            work.means[s, i] += gain[i, m] * work.offset[m]
            work.across[i, m] = 0.0
            for n in range(observed):
                work.across[i, m] += gain[i, n] * covariance[n, m]
    for i in range(size):
        for other in range(i + 1):
            total = 0.0
            for m in range(observed):
                total += work.across[i, m] * gain[other, m] + work.across[other, m] * gain[i, m]
            entry = rest[i, other] + 0.5 * total
            work.covariances[s, i, other] = work.covariances[s, other, i] = entry


@borrowing
def _merge(weight: float, used: int, work: Extension) -> bool:
    """Merge the sources into the first place, if that costs little; returns whether it did."""
    mean, covariance, size = work.mean, work.covariance, len(work.mean)
    for i in range(size):
        mean[i] = 0.0
        for s in range(used):
            mean[i] += work.shares[work.order[s]] * work.means[s, i]
    apart = 0.0
    for s in range(used):
        apart += work.shares[work.order[s]] * _volume(work.covariances[s], work.whole)
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for s in range(used):
                spread = (work.means[s, i] - mean[i]) * (work.means[s, j] - mean[j])
                total += work.shares[work.order[s]] * (work.covariances[s, i, j] + spread)
            covariance[i, j] = covariance[j, i] = total
    # Runnalls' bound, as in `inference.mixtures.reduction`
    if not weight * (_volume(covariance, work.whole) - apart) < MERGED_BELOW:
        return False
    for i in range(size):
        work.means[0, i] = mean[i]
        for j in range(size):
            work.covariances[0, i, j] = covariance[i, j]
    return True


@borrowing
def _volume(covariance: Array, factor: Array) -> float:
    """Half the log determinant."""
    factorise(covariance, TINY, ROUNDING, factor)
    total = 0.0
    for i in range(len(factor)):
        total += math.log(factor[i, i])
    return total


class Densities(NamedTuple):
    """A mixture over the observed coordinates, as `whiten` fills it, and blocks of points."""

    factors: Array
    inverse: Array
    shift: Array
    peaks: Array
    block: Block


class Frame(NamedTuple):
    """A mixture's components in some coordinates, and a block of points."""

    axes: Counts  # (d,)
    means: Array  # (K, d)
    square: Array  # (d, d), space
    densities: Densities
    logs: Array  # (BLOCK,) log density of the points


class Chain(NamedTuple):
    """What the divergence of the unobserved coordinates needs of one problem."""

    extension: Extension
    factors: Array  # of the unobserved coordinates given the others, (K, D − d, D − d)
    square: Array  # (D − d, D − d), space
    prior_observed: Frame
    prior: Frame
    answer_observed: Frame
    answer: Frame


class Draws(NamedTuple):
    """Of each point: a uniform number that chooses a component, and normal ones for the unobserved coordinates."""

    uniform: Array  # (P,)
    normal: Array  # (P, D − d)


@lru_cache(maxsize=16)
def draws_of(points: int, unobserved: int) -> Draws:
    """Draws of so many unobserved coordinates, for so many points."""
    normal = normal_points(points, unobserved + 1, Seed.UNOBSERVED)
    return Draws(array(torch.special.ndtr(normal[:, 0])), array(normal[:, 1:]))


def unobserved_divergence(
    posterior: GaussianMixture, whole: GaussianMixture, axes: Sequence[int], points: Tensor, share: Tensor
) -> Tensor:
    """Divergence of the unobserved coordinates given the observed ones, nats ``(B,)``, at least 0.

    By the chain rule it adds to the divergence of the observed ones. At each point the unobserved coordinates are drawn
    once from the prior's components, which they follow exactly.

    Args:
        posterior: ``(B, J)`` over all ``D`` coordinates.
        whole: the prior, ``(B, K)``.
        axes: indices of the observed coordinates.
        points: of the observed coordinates, in the state's units, ``(B, P, d)``.
        share: of the exact posterior at each point, ``(B, P)``.
    """
    rest = [axis for axis in range(whole.dimension) if axis not in axes]
    draws = draws_of(points.shape[1], len(rest))
    places, divergences = (np.array(axes, np.int64), np.array(rest, np.int64)), np.empty(len(share))
    divergence_of_all(
        posterior.numbers, whole.numbers, places, array(points), array(share), draws, divergences
    )
    return torch.nan_to_num(torch.from_numpy(divergences), nan=math.inf).clamp_min(0)


@native
def divergence_of_all(
    posterior: Numbers,
    whole: Numbers,
    axes: tuple[Counts, Counts],
    points: Array,
    share: Array,
    draws: Draws,
    divergences: Array,
) -> None:
    """As `unobserved_divergence`, into `divergences`; `axes` are the observed and the unobserved coordinates."""
    sources, size = whole.means.shape[1:]
    observed, unobserved, count = len(axes[0]), len(axes[1]), posterior.means.shape[1]
    every = np.arange(size)
    chain = Chain(
        new_extension(sources, size, observed),
        np.zeros((sources, unobserved, unobserved)), np.empty((unobserved, unobserved)),
        _new_frame(axes[0], sources), _new_frame(every, sources),
        _new_frame(axes[0], count), _new_frame(every, count),
    )  # fmt: skip
    for b in range(len(divergences)):
        answer = Numbers(posterior.log_weights[b], posterior.means[b], posterior.covariances[b])
        prior = Numbers(whole.log_weights[b], whole.means[b], whole.covariances[b])
        divergences[b] = _divergence_of_one(answer, prior, axes, points[b], share[b], draws, chain)


@borrowing
def _divergence_of_one(
    answer: Numbers,
    prior: Numbers,
    axes: tuple[Counts, Counts],
    points: Array,
    share: Array,
    draws: Draws,
    chain: Chain,
) -> float:
    observed, total = len(axes[0]), 0.0
    _begin(answer, prior, axes, chain)
    seen, whole = chain.prior_observed.densities.block, chain.prior.densities.block
    answered_seen, answered = chain.answer_observed.densities.block, chain.answer.densities.block
    for start in range(0, len(points), BLOCK):
        some = min(BLOCK, len(points) - start)
        for i in range(observed):
            for p in range(some):
                seen.points[i, p] = answered_seen.points[i, p] = points[start + p, i]
        _evaluate_each(chain.prior_observed)
        for p in range(some):
            k = _chosen(chain.prior_observed, p, draws.uniform[start + p])
            _place(prior, k, axes, chain, points[start + p], draws.normal[start + p], p)
        for i in range(prior.means.shape[1]):
            for p in range(some):
                answered.points[i, p] = whole.points[i, p]
        _evaluate(chain.prior)
        _evaluate(chain.answer_observed)
        _evaluate(chain.answer)
        logs = (chain.prior_observed.logs, chain.prior.logs, chain.answer_observed.logs, chain.answer.logs)
        total += _sum(share[start : start + some], logs)
    return total


@borrowing
def _begin(answer: Numbers, prior: Numbers, axes: tuple[Counts, Counts], chain: Chain) -> None:
    """Fill the regressions, the factors of what they leave, and the densities of both mixtures."""
    (seen, rest), square = axes, chain.square
    for k in range(len(prior.means)):
        regress(prior, k, seen, chain.extension)
        for i in range(len(rest)):
            for j in range(len(rest)):
                square[i, j] = chain.extension.regression.rest[k, rest[i], rest[j]]
        factorise(square, TINY, ROUNDING, chain.factors[k])
    _see(prior, chain.prior_observed)
    _see(prior, chain.prior)
    _see(answer, chain.answer_observed)
    _see(answer, chain.answer)


@borrowing
def _see(mixture: Numbers, frame: Frame) -> None:
    one = (mixture.log_weights, mixture.means, mixture.covariances)
    see(one, frame.axes, len(frame.means), frame.means, frame.square, frame.densities)


@inner
def new_densities(count: int, observed: int) -> Densities:
    squares = np.empty((2, count, observed, observed))
    return Densities(
        squares[0], squares[1], np.empty((count, observed)), np.empty(count), new_block(count, observed)
    )


@borrowing
def see(
    mixture: tuple[Array, Array, Array],
    axes: Counts,
    count: int,
    observed: Array,
    square: Array,
    into: Densities,
) -> None:
    """Fill the densities of a mixture's first components over some coordinates, and their means there in `observed`."""
    log_weights, means, covariances = mixture
    for k in range(count):
        for i in range(len(axes)):
            observed[k, i] = means[k, axes[i]]
            for j in range(len(axes)):
                square[i, j] = covariances[k, axes[i], axes[j]]
        factorise(square, TINY, ROUNDING, into.factors[k])
    whiten(log_weights[:count], observed[:count], into.factors, into.inverse, into.shift, into.peaks)


@inner
def _new_frame(axes: Counts, count: int) -> Frame:
    size = len(axes)
    densities = new_densities(count, size)
    return Frame(axes, np.empty((count, size)), np.empty((size, size)), densities, np.empty(BLOCK))


@borrowing
def _evaluate(frame: Frame) -> None:
    """Fill the log density of the points; not that of each component."""
    densities, size = frame.densities, len(frame.axes)
    if size == 2:
        sum_plane(densities.inverse, densities.shift, densities.peaks, densities.block, frame.logs)
    elif size == 4:
        _sum_four(densities.inverse, densities.shift, densities.peaks, densities.block, frame.logs)
    else:
        _evaluate_each(frame)


@borrowing
def _evaluate_each(frame: Frame) -> None:
    """Fill the log density of the points, and that of each component."""
    densities = frame.densities
    fill(densities.inverse, densities.shift, densities.peaks, densities.block)
    sum_components(densities.block, frame.logs)


@borrowing
def _sum_four(inverse: Array, shift: Array, peaks: Array, block: Block, total: Array) -> None:
    """As `native_density.sum_plane`, in four coordinates."""
    highest = begin_sums(peaks, block)
    for k in range(len(peaks)):
        _add_four(inverse[k], shift[k], (peaks[k] - highest) * LOG2_E, block.points, block.total)
    end_sums(highest, inverse, shift, peaks, block, total)


@fusing
def _add_four(inverse: Array, shift: Array, peak: float, points: Array, sums: Array) -> None:
    """Add the densities of one component, two to the power of what is computed."""
    x, y, z, t = ROOT * shift[0], ROOT * shift[1], ROOT * shift[2], ROOT * shift[3]
    xx, yx, yy = ROOT * inverse[0, 0], ROOT * inverse[1, 0], ROOT * inverse[1, 1]
    zx, zy, zz = ROOT * inverse[2, 0], ROOT * inverse[2, 1], ROOT * inverse[2, 2]
    tx, ty, tz, tt = ROOT * inverse[3, 0], ROOT * inverse[3, 1], ROOT * inverse[3, 2], ROOT * inverse[3, 3]
    for p in range(BLOCK):
        first = x + xx * points[0, p]
        second = y + yx * points[0, p] + yy * points[1, p]
        third = z + zx * points[0, p] + zy * points[1, p] + zz * points[2, p]
        last = t + tx * points[0, p] + ty * points[1, p] + tz * points[2, p] + tt * points[3, p]
        below = peak - first * first - second * second - third * third - last * last
        # what is not a number stays so
        sums[p] += roughly_power_of_two(LEAST_POWER if below < LEAST_POWER else below)


@borrowing
def _chosen(frame: Frame, p: int, uniform: float) -> int:
    """The component that a point is drawn from: the first, up to which they have so much of its density."""
    values, whole, last = frame.densities.block.values, 0.0, len(frame.means) - 1
    for k in range(last):
        log = values[k, p] - frame.logs[p]
        whole += exponential(log) if log > UNDERFLOW else 0.0
        if whole >= uniform:
            return k
    return last


@borrowing
def _place(
    prior: Numbers,
    k: int,
    axes: tuple[Counts, Counts],
    chain: Chain,
    observed: Array,
    normal: Array,
    p: int,
) -> None:
    """Put a point with the observed coordinates, and others that follow them in a component, into the prior's block."""
    points, factor = chain.prior.densities.block.points, chain.factors[k]
    mean, gain = prior.means[k], chain.extension.regression.gain[k]
    for i in range(len(mean)):
        points[i, p] = mean[i]
        for m in range(len(observed)):
            points[i, p] += gain[i, m] * (observed[m] - mean[axes[0][m]])
    for i in range(len(normal)):
        for j in range(i + 1):
            points[axes[1][i], p] += factor[i, j] * normal[j]


@adding
def _sum(share: Array, logs: tuple[Array, Array, Array, Array]) -> float:
    total, (observed, whole, answered_seen, answered) = 0.0, logs
    for p in range(len(share)):
        off = (whole[p] - observed[p]) - (answered[p] - answered_seen[p])
        total += share[p] * off if share[p] > 0 else 0.0
    return total
