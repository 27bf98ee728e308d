"""`mode_search.Climb.walk` for the processor: one start after another, without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import (
    WIDE_OUTLIER,
    Array,
    Seen,
    Space,
    in_plane,
    log_sum,
    new_space,
    parts_at,
    relative_to,
    smallest,
    terms,
    terms_in_plane,
)
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_one

HUBER = 1.5  # standard deviations
LEVEL = 1e-7  # nats; a step that changes less is accepted, as rounding decides at the peak
FIRST, LEAST, MOST = 1e-3, 1e-12, 1e6  # damping
WIDE = WIDE_OUTLIER**-2  # information of an outlier of a linear sensor


class Frames(NamedTuple):
    """The prior component of each start, ``(B, S, ...)``, and the observations that its robust steps use."""

    means: Array
    factors: Array
    whitening: Array
    used: Array


class Work(NamedTuple):
    """Space for one start."""

    moved: Array  # (d,)
    offset: Array
    step: Array
    pull: Array
    total: Array  # (d, d)
    factor: Array
    inverse: Array
    space: Space  # of one observation, as the next
    shapes: tuple[Array, Array, Array, Array]


def prepare() -> None:
    """Compile the walk, or load it from Numba's cache."""
    seen, point, factor = smallest()
    walk(seen, point, (point, factor, factor, point), 1, True)


def walk(
    observations: Seen,
    points: Tensor,
    frames: tuple[Tensor, Tensor, Tensor, Tensor],
    rounds: int,
    robust: bool,
) -> Tensor:
    """As `Climb.walk`, from points ``(B, S, d)``; `frames` has the means, factors, whitening and used observations."""
    found = points.contiguous().numpy().copy()
    _walk(observations, found, Frames(*map(array, frames)), rounds, robust)
    return torch.from_numpy(found)


@native
def _walk(seen: Seen, points: Array, frames: Frames, rounds: int, robust: bool) -> None:
    size = points.shape[2]
    work = Work(
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty(size),
        np.empty((size, size)),
        np.empty((size, size)),
        np.empty((size, size)),
        new_space(seen),
        (np.empty(size), np.empty((size, size)), np.empty((size, size)), np.empty(size)),
    )
    for b in range(len(points)):
        for s in range(points.shape[1]):
            point, damping = points[b, s], FIRST
            now = _cost(seen, frames, b, s, point, robust, work)
            for _ in range(rounds):
                _find_step(seen, frames, b, s, point, robust, damping, work)
                for i in range(size):
                    work.moved[i] = point[i]
                    for j in range(size):
                        work.moved[i] += frames.factors[b, s, i, j] * work.step[j]
                then = _cost(seen, frames, b, s, work.moved, robust, work)
                better = then < now + LEVEL
                if better:
                    now = then
                    for i in range(size):
                        point[i] = work.moved[i]
                damping = min(max(damping * (0.1 if better else 10.0), LEAST), MOST)


@borrowing
def _cost(seen: Seen, frames: Frames, b: int, s: int, point: Array, robust: bool, work: Work) -> float:
    """As `Climb._cost`, of one point."""
    total = 0.0
    for n in range(seen.kind.shape[1]):
        if not seen.mask[b, n] or (robust and frames.used[b, s, n] == 0.0):
            continue
        if seen.matrix.shape[2] == 2 and len(point) == 2:
            _, squared, inlier, outlier = terms_in_plane(seen, b, n, point[0], point[1])
        else:
            distance = relative_to(seen, b, n, point, work.space.relative)
            _, squared, inlier, outlier = terms(seen, b, n, point, work.space.relative, distance)
        if not robust:
            total -= log_sum(inlier, outlier)
        elif squared < HUBER * HUBER:
            total += 0.5 * squared
        else:
            total += HUBER * (math.sqrt(squared) - 0.5 * HUBER)
    for i in range(len(point)):
        offset = 0.0
        for j in range(len(point)):
            offset += frames.whitening[b, s, i, j] * (point[j] - frames.means[b, s, j])
        total += 0.5 * offset * offset
    return total


@borrowing
def _find_step(
    seen: Seen, frames: Frames, b: int, s: int, point: Array, robust: bool, damping: float, work: Work
) -> None:
    """Fill `work.step`, the damped Gauss-Newton step in the frame of the prior's component."""
    size = len(point)
    total, pull = work.total, work.pull
    for i in range(size):
        pull[i] = 0.0
        for j in range(size):
            pull[i] += frames.whitening[b, s, i, j] * (frames.means[b, s, j] - point[j])
            total[i, j] = 1.0 if i == j else 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n] and not (robust and frames.used[b, s, n] == 0.0):
            _add(seen, frames, b, s, n, point, robust, work)
    trace = 0.0
    for i in range(size):
        trace += total[i, i]
    for i in range(size):
        total[i, i] += damping * trace
    factorise(total, TINY, ROUNDING, work.factor)
    invert_one(work.factor, work.inverse)
    for i in range(size):
        work.offset[i] = 0.0
        for j in range(i + 1):
            work.offset[i] += work.inverse[i, j] * pull[j]
    for i in range(size):
        work.step[i] = 0.0
        for j in range(i, size):
            work.step[i] += work.inverse[j, i] * work.offset[j]


@borrowing
def _add(seen: Seen, frames: Frames, b: int, s: int, n: int, point: Array, robust: bool, work: Work) -> None:
    """Add the information and the pull of one observation."""
    factor, total, pull = frames.factors[b, s], work.total, work.pull
    if seen.matrix.shape[2] == 2 and len(point) == 2:
        frame = (factor[0, 0], factor[0, 1], factor[1, 0], factor[1, 1])
        numbers, gradient, information, _, _ = in_plane(seen, b, n, point[0], point[1], frame)
        weight = _weight(seen.kind[b, n], numbers, robust)
        pull[0] += gradient[0] * weight
        pull[1] += gradient[1] * weight
        total[0, 0] += information[0] * weight
        total[0, 1] += information[1] * weight
        total[1, 0] += information[1] * weight
        total[1, 1] += information[2] * weight
        return
    numbers = parts_at(seen, b, n, point, factor, work.space, work.shapes)
    weight = _weight(seen.kind[b, n], numbers, robust)
    for i in range(len(point)):
        pull[i] += work.shapes[0][i] * weight
        for j in range(len(point)):
            total[i, j] += work.shapes[1][i, j] * weight


@borrowing
def _weight(kind: int, numbers: tuple[float, float, float, float], robust: bool) -> float:
    """The share of an observation's information that counts."""
    _, squared, inlier, outlier = numbers
    if robust:
        return HUBER / max(math.sqrt(squared), HUBER)
    share = 1 / (1 + math.exp(outlier - inlier))
    return share + (1 - share) * WIDE if kind == LINEAR else share
