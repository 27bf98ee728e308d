"""`unseen_coordinates.unseen_divergence` for the processor: one problem after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
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
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.update.native_followed import Regression, Work, new_work, regress

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Densities(NamedTuple):
    """A mixture over the seen coordinates, as `whiten` fills it, and blocks of points."""

    factors: Array
    inverse: Array
    shift: Array
    peaks: Array
    block: Block


class Frame(NamedTuple):
    """A mixture's components in some coordinates, and a block of points."""

    axes: Places  # (d,)
    means: Array  # (K, d)
    square: Array  # (d, d), space
    densities: Densities
    logs: Array  # (BLOCK,) log density of the points


class Draws(NamedTuple):
    """Of each point: a uniform number that chooses a component, and normal ones for the unseen coordinates."""

    uniform: Array  # (P,)
    normal: Array  # (P, D − d)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    two = torch.zeros(1, 1, 2, dtype=torch.float64)
    mixture = GaussianMixture(two[..., 0], two, torch.eye(2).double()[None, None])
    draws = two[0, :, 0], two[0, :, :1]
    divergence(mixture, mixture, [0], two[..., :1], two[..., 0], *draws)


def divergence(
    posterior: GaussianMixture,
    whole: GaussianMixture,
    axes: Sequence[int],
    points: Tensor,
    share: Tensor,
    uniform: Tensor,
    normal: Tensor,
) -> Tensor:
    """As `unseen_coordinates.unseen_divergence`, with its draws, ``(P,)`` and ``(P, D − d)``; it may be negative."""
    rest = [axis for axis in range(whole.dimension) if axis not in axes]
    found, draws = np.empty(len(share)), Draws(array(uniform), array(normal))
    places = np.array(axes, np.int64), np.array(rest, np.int64)
    divergence_of_all(
        numbers_of(posterior), numbers_of(whole), places, array(points), array(share), draws, found
    )
    return torch.from_numpy(found)


@native
def divergence_of_all(
    posterior: Numbers,
    whole: Numbers,
    axes: tuple[Places, Places],
    points: Array,
    share: Array,
    draws: Draws,
    found: Array,
) -> None:
    """As `divergence`, into `found`; `axes` are the seen and the unseen coordinates."""
    sources, size = whole.means.shape[1:]
    seen, unseen = len(axes[0]), len(axes[1])
    regression, work = new_work(sources, size, seen)
    factors, square = np.zeros((sources, unseen, unseen)), np.empty((unseen, unseen))
    every = np.arange(size)
    frames = (
        _new_frame(axes[0], sources), _new_frame(every, sources),
        _new_frame(axes[0], posterior.means.shape[1]), _new_frame(every, posterior.means.shape[1]),
    )  # fmt: skip
    for b in range(len(found)):
        found[b] = _divergence_of_one(
            posterior, whole, b, axes, points[b], share[b], draws, regression, work, factors, square, frames
        )


@borrowing
def _divergence_of_one(
    posterior: Numbers,
    whole: Numbers,
    b: int,
    axes: tuple[Places, Places],
    points: Array,
    share: Array,
    draws: Draws,
    regression: Regression,
    work: Work,
    factors: Array,
    square: Array,
    frames: tuple[Frame, Frame, Frame, Frame],
) -> float:
    (sources, size), seen, unseen, found = whole.means.shape[1:], len(axes[0]), len(axes[1]), 0.0
    for k in range(sources):
        regress(whole, b, k, axes[0], regression, work)
        for i in range(unseen):
            for j in range(unseen):
                square[i, j] = regression.rest[k, axes[1][i], axes[1][j]]
        factorise(square, TINY, ROUNDING, factors[k])
    for number in range(4):
        given, frame = whole if number < 2 else posterior, frames[number]
        one = (given.log_weights[b], given.means[b], given.covariances[b])
        see(one, frame.axes, len(frame.means), frame.means, frame.square, frame.densities)
    for start in range(0, len(points), BLOCK):
        some = min(BLOCK, len(points) - start)
        for i in range(seen):
            for p in range(some):
                value = points[start + p, i]
                frames[0].densities.block.points[i, p] = frames[2].densities.block.points[i, p] = value
        _evaluate_each(frames[0])
        for p in range(some):
            k = _chosen(frames[0], p, draws.uniform[start + p])
            state = points[start + p]
            _place(whole, b, k, axes, regression, factors[k], state, draws.normal[start + p], frames[1], p)
        for i in range(size):
            for p in range(some):
                frames[3].densities.block.points[i, p] = frames[1].densities.block.points[i, p]
        for number in range(1, 4):
            _evaluate(frames[number])
        logs = (frames[0].logs, frames[1].logs, frames[2].logs, frames[3].logs)
        found += _sum(share[start : start + some], logs)
    return found


@inner
def new_densities(count: int, seen: int) -> Densities:
    squares = np.empty((2, count, seen, seen))
    return Densities(squares[0], squares[1], np.empty((count, seen)), np.empty(count), new_block(count, seen))


@borrowing
def see(
    mixture: tuple[Array, Array, Array],
    axes: Places,
    count: int,
    seen: Array,
    square: Array,
    into: Densities,
) -> None:
    """Fill the densities of a mixture's first components over some coordinates, and their means there in `seen`."""
    log_weights, means, covariances = mixture
    for k in range(count):
        for i in range(len(axes)):
            seen[k, i] = means[k, axes[i]]
            for j in range(len(axes)):
                square[i, j] = covariances[k, axes[i], axes[j]]
        factorise(square, TINY, ROUNDING, into.factors[k])
    whiten(log_weights[:count], seen[:count], into.factors, into.inverse, into.shift, into.peaks)


@inner
def _new_frame(axes: Places, count: int) -> Frame:
    size = len(axes)
    densities = new_densities(count, size)
    return Frame(axes, np.empty((count, size)), np.empty((size, size)), densities, np.empty(BLOCK))


@borrowing
def _evaluate(frame: Frame) -> None:
    """Fill the log density of the points; not that of each component."""
    found, size = frame.densities, len(frame.axes)
    if size == 2:
        sum_plane(found.inverse, found.shift, found.peaks, found.block, frame.logs)
    elif size == 4:
        _sum_four(found.inverse, found.shift, found.peaks, found.block, frame.logs)
    else:
        _evaluate_each(frame)


@borrowing
def _evaluate_each(frame: Frame) -> None:
    """Fill the log density of the points, and that of each component."""
    found = frame.densities
    fill(found.inverse, found.shift, found.peaks, found.block)
    sum_components(found.block, frame.logs)


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
    whole: Numbers,
    b: int,
    k: int,
    axes: tuple[Places, Places],
    regression: Regression,
    factor: Array,
    seen: Array,
    normal: Array,
    frame: Frame,
    p: int,
) -> None:
    """Put a point with the seen coordinates, and others that follow them in a component, into a frame's block."""
    points, mean, gain = frame.densities.block.points, whole.means[b, k], regression.gain[k]
    for i in range(len(mean)):
        points[i, p] = mean[i]
        for m in range(len(seen)):
            points[i, p] += gain[i, m] * (seen[m] - mean[axes[0][m]])
    for i in range(len(normal)):
        for j in range(i + 1):
            points[axes[1][i], p] += factor[i, j] * normal[j]


@adding
def _sum(share: Array, logs: tuple[Array, Array, Array, Array]) -> float:
    found, (seen, whole, answered_seen, answered) = 0.0, logs
    for p in range(len(share)):
        off = (whole[p] - seen[p]) - (answered[p] - answered_seen[p])
        found += share[p] * off if share[p] > 0 else 0.0
    return found
