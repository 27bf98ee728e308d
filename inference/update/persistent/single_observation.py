"""Update with one scalar observation whose sensor has errors that last, as any update of the state alone.

The errors are hidden coordinates, the last ones, that add to the observation ``z = h(x) + v + n``, as a sum v of them;
n is the noise. A sheet of ``h(x) + v`` as thin as the noise is hard to fit, but its marginal over the state x is not:
given x, each component of the prior has a Gaussian v, so that it counts as noise. So of every component

1. v is regressed on h(x), ``v = α + β (h − h₀) + r``; then ``h₀ + (z − h₀ − α) / (1 + β)`` observes h(x) alone, with
   the noise ``(r + n) / (1 + β)``. What x tells of v along other lines than h counts as noise here: that is the only
   approximation, and it is counted as lost.
2. The state is updated with that, by the usual ways.
3. v follows: given x and z it is Gaussian. Its moments over each part of the posterior are taken at cubature points.
4. All other coordinates follow from x and v by regression.

Hypotheses that the observation is an outlier leave their component as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.mixtures.native import native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise

Array = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST = 1e-3  # of 1 + β; an observation that says less of h says nothing
# nats below the likeliest hypothesis by the moments of h, where a component does not matter: these are rough far out
UNLIKELY = 40.0


class Alone(NamedTuple):
    """Components over the state, each with an observation of it alone; none is an outlier."""

    row: Places  # (R,) of the batch
    prior: Numbers  # (R, 1)
    value: Array  # (R,)
    deviation: Array  # (R,)
    growth: Array  # (R,), log of the deviation of ``r + n`` over that of n


class Answer(NamedTuple):
    """What they become; an infinite divergence, nats, is none."""

    posterior: Numbers  # (R, J)
    log_evidence: Array  # (R,)
    divergence: Array  # (R,)
    method: Places  # (R,)


class Solution(NamedTuple):
    """Every component by each hypothesis, not normalised, by falling weight; what is lost, nats, and the methods."""

    joint: Numbers  # (B, J)
    lost: Array  # (B,)
    method: Places  # (B,)


Differences = Callable[[Places, Array], Array]
Solve = Callable[[Alone], Answer]


class _Split(NamedTuple):
    """``R`` Gaussians over the state and hidden coordinates, with what they say of the state x and the sum v."""

    mean: Array  # (R, D + m)
    covariance: Array  # (R, D + m, D + m)
    centre: Array  # (R, D + 1) of x and v
    spread: Array  # (R, D + 1, D + 1)
    gain: Array  # (R, D + m, D + 1) of all coordinates given x and v
    slope: Array  # (R, D) of v given x
    rest: Array  # (R,) variance of v given x

    def rows(self, index: Places) -> _Split:
        return _Split(*(part[index] for part in self))


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = np.ones((1, 2, 2))
    split = _split(one[0, :1], np.eye(2)[None], one[0, :1], 1)
    _followed(split, split.centre, split.spread, np.zeros(1, np.int64))
    _cubature(one[0, :1], np.eye(2)[None])


def solved(
    belief: Numbers, seen: Seen, state: int, differences: Differences, solve: Solve, method: int
) -> Solution:
    """Update `belief` ``(B, K, D + m)`` with one scalar observation of each entity.

    Args:
        belief: over the `state` coordinates and the hidden ones.
        seen: observations, ``(B, 1)``, with Gaussian noise.
        state: how many coordinates come before the hidden ones.
        differences: ``z − h(x)`` of the observations of some rows ``(R,)`` at points ``(R, P, D)``, ``(R, P)``.
        solve: updates components over the state.
        method: of an entity none of whose components matters as an inlier.
    """
    row, place = np.nonzero(belief.log_weights > -math.inf)
    weight, outlier = belief.log_weights[row, place], (seen.log_outlier + seen.outlier)[row, 0]
    given = belief.means[row, place], belief.covariances[row, place], seen.heading[row, 0]
    split = _split(*given, state)
    alone, beside, distance = _alone(split, row, seen, differences)
    inlier = weight + (seen.log_inlier - seen.constant)[row, 0] - 0.5 * distance
    best = np.full(len(belief.log_weights), -math.inf)
    np.maximum.at(best, row, np.maximum(inlier, weight + outlier))
    kept = np.nonzero(~(inlier < best[row] - UNLIKELY))[0]
    parts = [(row, weight + outlier, split.mean, split.covariance)]
    lost, methods = np.zeros(len(best)), np.full(len(best), method)
    if len(kept):
        split, of = split.rows(kept), row[kept]
        alone = Alone(of, Numbers(*(part[kept] for part in alone.prior)), *(part[kept] for part in alone[2:]))
        answer = solve(alone)
        mass = weight[kept] + seen.log_inlier[of, 0] + answer.log_evidence
        at, parts_of = np.nonzero(answer.posterior.log_weights > -math.inf)
        log_weights = mass[at] + answer.posterior.log_weights[at, parts_of]
        moments = answer.posterior.means[at, parts_of], answer.posterior.covariances[at, parts_of]
        parts.insert(0, (of[at], log_weights, *_recovered(split, at, moments, of, seen, differences)))
        total = np.full(len(best), -math.inf)
        np.logaddexp.at(total, np.concatenate([of, row]), np.concatenate([mass, weight + outlier]))
        np.add.at(lost, of, np.exp(mass - total[of]) * (answer.divergence + beside[kept]))
        methods[of] = answer.method
    return Solution(_together(parts, len(best)), lost, methods)


def _alone(split: _Split, row: Places, seen: Seen, differences: Differences) -> tuple[Alone, Array, Array]:
    """Observations of the state alone; nats lost, and rough squared distances, each ``(R,)``."""
    state = split.slope.shape[1]
    mean = np.ascontiguousarray(split.centre[:, :state])
    covariance = np.ascontiguousarray(split.spread[:, :state, :state])
    points = np.concatenate([_cubature(mean, covariance), mean[:, None]], 1)
    off, turns = differences(row, points), seen.wraps[row, 0]
    middle, off = off[:, -1], off[:, :-1]
    height = _wrapped(middle[:, None] - off, turns[:, None])  # of h, beside that at the mean
    along = ((points[:, :-1] - mean[:, None]) * split.slope[:, None]).sum(2)
    level = height.mean(1)
    above = height - level[:, None]
    variance = np.maximum(np.square(above).mean(1), 1e-300)
    beta = (above * along).mean(1) / variance
    explained = (split.slope * (covariance * split.slope[:, None]).sum(2)).sum(1)
    beside = np.maximum(explained - beta**2 * variance, 0)
    less = np.where(np.abs(1 + beta) < LEAST, LEAST, 1 + beta)
    noise = seen.deviation[row, 0] ** 2
    rest = split.rest + beside + noise
    left = _wrapped(middle - level - split.centre[:, state], turns)
    value = seen.value[row, 0, 0] + left / less - (middle - level)
    one = Numbers(np.zeros((len(row), 1)), mean[:, None], covariance[:, None])
    alone = Alone(row, one, value, np.sqrt(rest) / np.abs(less), 0.5 * np.log(rest / noise))
    return alone, 0.5 * np.log1p(beside / (split.rest + noise)), left**2 / (less**2 * variance + rest)


def _recovered(
    split: _Split,
    at: Places,
    moments: tuple[Array, Array],
    row: Places,
    seen: Seen,
    differences: Differences,
) -> tuple[Array, Array]:
    """Means ``(J, D + m)`` and covariances of all coordinates, where the state has `moments`, of the splits `at`."""
    (mean, covariance), state, of = moments, split.slope.shape[1], row[at]
    points = _cubature(mean, covariance)
    off = differences(of, points)
    given = split.centre[at, state, None] + (
        (points - split.centre[at, None, :state]) * split.slope[at, None]
    ).sum(2)
    gain = (split.rest / (split.rest + seen.deviation[row, 0] ** 2))[at, None]
    error = given + gain * _wrapped(off - given, seen.wraps[of])
    level = error.mean(1)
    beside, above = points - mean[:, None], error - level[:, None]
    centre = np.concatenate([mean, level[:, None]], 1)
    spread = np.empty((len(at), state + 1, state + 1))
    spread[:, :state, :state] = covariance
    spread[:, state, :state] = spread[:, :state, state] = (beside * above[..., None]).mean(1)
    spread[:, state, state] = np.square(above).mean(1) + split.rest[at] * (1 - gain[:, 0])
    return _followed(split, centre, spread, at)


def _wrapped(angle: Array, turns: NDArray[np.bool_]) -> Array:
    """The angles between −π and π where they turn."""
    if not turns.any():
        return angle
    found: Array = np.where(turns, (angle + math.pi) % (2 * math.pi) - math.pi, angle)
    return found


def _together(parts: list[tuple[Places, Array, Array, Array]], batch: int) -> Numbers:
    """A mixture of each entity from components of `parts`, by falling weight; absent ones are last."""
    row, weight, means, covariances = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.lexsort((-weight, row))
    order = order[weight[order] != -math.inf]  # what is not a number stays
    row, counts = row[order], np.bincount(row[order], minlength=batch)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape, size = (batch, max(1, int(counts.max()))), means.shape[1]
    joint = Numbers(
        np.full(shape, -math.inf), np.zeros((*shape, size)), np.zeros((*shape, size, size)) + np.eye(size)
    )
    joint.log_weights[row, place], joint.means[row, place] = weight[order], means[order]
    joint.covariances[row, place] = covariances[order]
    return joint


def _split(mean: Array, covariance: Array, heading: Array, state: int) -> _Split:
    """Gaussians ``(R, D + m)`` by `heading` ``(R, D + m)`` of their observations."""
    (count, size), empty = mean.shape, np.empty
    both = state + 1
    split = _Split(
        mean, covariance, empty((count, both)), empty((count, both, both)), empty((count, size, both)),
        empty((count, state)), empty(count),
    )  # fmt: skip
    _fill_split(split, heading)
    return split


@native
def _fill_split(split: _Split, heading: Array) -> None:
    state, size = split.slope.shape[1], split.mean.shape[1]
    factor = np.empty((state + 1, state + 1))
    for r in range(len(heading)):
        mean, covariance, centre = split.mean[r], split.covariance[r], split.centre[r]
        spread, gain, slope = split.spread[r], split.gain[r], split.slope[r]
        for i in range(size):
            gain[i, state] = 0.0
            for j in range(state):
                gain[i, j] = covariance[i, j]
            for j in range(state, size):
                gain[i, state] -= covariance[i, j] * heading[r, j]
        centre[state] = spread[state, state] = 0.0
        for i in range(state):
            centre[i] = mean[i]
            spread[i, state] = spread[state, i] = gain[i, state]
            for j in range(state):
                spread[i, j] = covariance[i, j]
        for j in range(state, size):
            centre[state] -= heading[r, j] * mean[j]
            spread[state, state] -= heading[r, j] * gain[j, state]
        factorise(spread, TINY, ROUNDING, factor)
        split.rest[r] = factor[state, state] * factor[state, state]
        for i in range(state - 1, -1, -1):
            total = factor[state, i]
            for j in range(i + 1, state):
                total -= factor[j, i] * slope[j]
            slope[i] = total / factor[i, i]
        for i in range(size):
            for j in range(state + 1):
                total = gain[i, j]
                for k in range(j):
                    total -= factor[j, k] * gain[i, k]
                gain[i, j] = total / factor[j, j]
            for j in range(state, -1, -1):
                total = gain[i, j]
                for k in range(j + 1, state + 1):
                    total -= factor[k, j] * gain[i, k]
                gain[i, j] = total / factor[j, j]


def _followed(split: _Split, centre: Array, spread: Array, at: Places) -> tuple[Array, Array]:
    """All coordinates of the splits `at` ``(J,)`` where x and v have that mean and covariance."""
    size = split.mean.shape[1]
    found = np.empty((len(at), size)), np.empty((len(at), size, size))
    _follow(split, centre, spread, at, found)
    return found


@native
def _follow(split: _Split, centre: Array, spread: Array, at: Places, found: tuple[Array, Array]) -> None:
    both, size = centre.shape[1], split.mean.shape[1]
    half = np.empty(both)
    for j in range(len(at)):
        r = at[j]
        gain = split.gain[r]
        for i in range(size):
            found[0][j, i] = split.mean[r, i]
            for q in range(both):
                found[0][j, i] += gain[i, q] * (centre[j, q] - split.centre[r, q])
                half[q] = 0.0
                for p in range(both):
                    half[q] += gain[i, p] * (spread[j, p, q] - split.spread[r, p, q])
            for k in range(i + 1):
                total = 0.5 * (split.covariance[r, i, k] + split.covariance[r, k, i])
                for q in range(both):
                    total += half[q] * gain[k, q]
                found[1][j, i, k] = found[1][j, k, i] = total


def _cubature(mean: Array, covariance: Array) -> Array:
    """Points ``(R, 2 D, D)`` of equal weight with the mean and the covariance of Gaussians."""
    count, size = mean.shape
    points = np.empty((count, 2 * size, size))
    _fill_cubature(mean, covariance, points)
    return points


@native
def _fill_cubature(mean: Array, covariance: Array, points: Array) -> None:
    size = mean.shape[1]
    factor, far = np.empty((size, size)), math.sqrt(size)
    for r in range(len(mean)):
        factorise(covariance[r], TINY, ROUNDING, factor)
        for j in range(size):
            for i in range(size):
                points[r, j, i] = mean[r, i] + far * factor[i, j]
                points[r, size + j, i] = mean[r, i] - far * factor[i, j]
