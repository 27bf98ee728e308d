"""`unseen_coordinates.unseen_divergence` for the processor: one problem after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.mixtures.native_density import BLOCK, fill, sum_components
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.update.native_curved_quadrature import Densities, new_densities, see
from beliefstream.inference.update.native_extension import Regression, new_work, regress

Array = NDArray[np.float64]
Places = NDArray[np.int64]


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
        found[b] = 0.0
        for start in range(0, points.shape[1], BLOCK):
            some = min(BLOCK, points.shape[1] - start)
            for i in range(seen):
                for p in range(some):
                    value = points[b, start + p, i]
                    frames[0].densities.block.points[i, p] = frames[2].densities.block.points[i, p] = value
            _evaluate(frames[0])
            for p in range(some):
                k = _chosen(frames[0], p, draws.uniform[start + p])
                state = points[b, start + p]
                _place(
                    whole, b, k, axes, regression, factors[k], state, draws.normal[start + p], frames[1], p
                )
            for i in range(size):
                for p in range(some):
                    frames[3].densities.block.points[i, p] = frames[1].densities.block.points[i, p]
            for number in range(1, 4):
                _evaluate(frames[number])
            logs = (frames[0].logs, frames[1].logs, frames[2].logs, frames[3].logs)
            found[b] += _sum(share[b, start : start + some], logs)


@inner
def _new_frame(axes: Places, count: int) -> Frame:
    size = len(axes)
    densities = new_densities(count, size)
    return Frame(axes, np.empty((count, size)), np.empty((size, size)), densities, np.empty(BLOCK))


@borrowing
def _evaluate(frame: Frame) -> None:
    found = frame.densities
    fill(found.inverse, found.shift, found.peaks, found.block)
    sum_components(found.block, frame.logs)


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
