"""Update with one scalar observation whose sensor has errors that last, as any update of the state alone.

The errors are hidden coordinates, the last ones, that change the observation ``z = h(x) + v + n`` by v; n is the
noise. Those that add are a sum, and one that multiplies has a slope that follows from h(x). A sheet of ``h(x) + v`` as
thin as the noise is hard to fit, but its marginal over the state x is not: given x, each component of the prior has a
Gaussian v, so that it counts as noise. So of every component

1. v is regressed on h(x), ``v = α + β (h − h₀) + r``; then ``h₀ + (z − h₀ − α) / (1 + β)`` observes h(x) alone, with
   the noise ``(r + n) / (1 + β)``. What x tells of v along other lines than h counts as noise here, and the variance of
   r is its mean over x: these are the only approximations, and they are counted as lost.
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

from beliefstream.inference.likelihood.native_terms import Seen, rows_of
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.mixtures.native import borrowing, native
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


class StateAnswer(NamedTuple):
    """What they become; an infinite loss, nats, is none."""

    posterior: Numbers  # (R, J)
    log_evidence: Array  # (R,)
    lost: Array  # (R,)
    method: Places  # (R,)


class Solution(NamedTuple):
    """Every component by each hypothesis, not normalised, by falling weight; what is lost, nats, and the methods."""

    joint: Numbers  # (B, J)
    lost: Array  # (B,)
    method: Places  # (B,)


Differences = Callable[[Places, Array], Array]
Solve = Callable[[Alone], StateAnswer]


class _Split(NamedTuple):
    """``R`` Gaussians over the state and hidden coordinates, with what they say of the state x and of `_sums` u."""

    mean: Array  # (R, D + m)
    covariance: Array  # (R, D + m, D + m)
    centre: Array  # (R, D + 2) of x and u
    spread: Array  # (R, D + 2, D + 2)
    gain: Array  # (R, D + m, D + 2) of all coordinates given x and u
    slope: Array  # (R, D, 2) of u given x
    rest: Array  # (R, 2, 2) covariance of u given x

    def rows(self, index: Places) -> _Split:
        return _Split(*(part[index] for part in self))


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = np.ones((1, 2, 2))
    split = _split(one[0, :1], np.eye(2)[None], one, 1)
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
    split = _split(belief.means[row, place], belief.covariances[row, place], _sums(seen, state)[row], state)
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
        np.add.at(lost, of, np.exp(mass - total[of]) * (answer.lost + beside[kept]))
        methods[of] = answer.method
    return Solution(_together(parts, len(best)), lost, methods)


class _Error(NamedTuple):
    """The error v of an observation at ``P`` points x of each of ``R`` Gaussians, where it is Gaussian."""

    hidden: Array  # (R, P, 2), mean of u
    slope: Array  # (R, P, 2) of v by u
    mean: Array  # (R, P)
    covariance: Array  # (R, P, 2) of v and u
    variance: Array  # (R, P)
    noise: Array  # (R, 1), variance of the noise


def _sums(seen: Seen, state: int) -> Array:
    """Two combinations u of the hidden coordinates enter a report: the errors that add, and the one that multiplies.

    Their coefficients are ``(B, D + m, 2)``.
    """
    is_linear, (coordinate, _, slope, *_) = (seen.kind[:, 0] == LINEAR)[:, None], seen.product[:, 0].T
    adding = np.where(is_linear, seen.matrix[:, 0, 0], -seen.heading[:, 0])
    adding[:, :state] = 0.0
    at = np.nonzero(slope)[0], coordinate[slope != 0].astype(np.int64)
    factor = np.zeros_like(adding)
    adding[at], factor[at] = 0.0, 1.0
    return np.stack([adding, factor], 2)


def _error(split: _Split, at: Places, points: Array, off: Array, seen: Seen) -> _Error:
    """The error at `points` ``(J, P, D)`` of the splits `at` ``(J,)``, which differ from what is `seen` by `off`."""
    state = split.slope.shape[1]
    _, estimate, factor, reference, shift, independent = seen.product[:, 0].T[..., None]
    hidden = split.centre[at, None, state:] + (points - split.centre[at, None, :state]) @ split.slope[at]
    slope = np.ones_like(hidden)
    slope[..., 1] = factor * (seen.value[:, 0, :1] - off - reference)
    mean = hidden[..., 0] + slope[..., 1] * (hidden[..., 1] - estimate) + shift
    covariance = slope @ split.rest[at]
    noise = seen.deviation**2 * independent
    return _Error(hidden, slope, mean, covariance, (slope * covariance).sum(2), noise)


def _alone(split: _Split, row: Places, seen: Seen, differences: Differences) -> tuple[Alone, Array, Array]:
    """Observations of the state alone; nats lost, and rough squared distances, each ``(R,)``."""
    state = split.slope.shape[1]
    mean = np.ascontiguousarray(split.centre[:, :state])
    covariance = np.ascontiguousarray(split.spread[:, :state, :state])
    points = np.concatenate([_cubature(mean, covariance), mean[:, None]], 1)
    seen, off = rows_of(seen, row), differences(row, points)
    middle, off, turns = off[:, -1], off[:, :-1], seen.wraps[:, 0]
    error = _error(split, np.arange(len(row)), points[:, :-1], off, seen)
    height = _wrapped(middle[:, None] - off, turns[:, None])  # of h, beside that at the mean
    level, centre, own = height.mean(1), error.mean.mean(1), error.variance.mean(1)
    above, along = height - level[:, None], error.mean - centre[:, None]
    variance = np.maximum(np.square(above).mean(1), 1e-300)
    beta = (above * along).mean(1) / variance
    beside = np.maximum(np.square(along).mean(1) - beta**2 * variance, 0)
    less = np.where(np.abs(1 + beta) < LEAST, LEAST, 1 + beta)
    noise = own + error.noise[:, 0]
    rest = noise + beside
    left = _wrapped(middle - level - centre, turns)
    value = seen.value[:, 0, 0] + left / less - (middle - level)
    one = Numbers(np.zeros((len(row), 1)), mean[:, None], covariance[:, None])
    growth = 0.5 * np.log(rest) - np.log(seen.deviation[:, 0])
    alone = Alone(row, one, value, np.sqrt(rest) / np.abs(less), growth)
    lost = 0.5 * np.log1p(beside / noise) + 0.25 * error.variance.var(1) / rest**2
    return alone, lost, left**2 / (less**2 * variance + rest)


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
    seen, off = rows_of(seen, of), differences(of, points)
    error = _error(split, at, points, off, seen)
    gain = error.covariance / (error.variance + error.noise)[..., None]
    hidden = error.hidden + gain * _wrapped(off - error.mean, seen.wraps)[..., None]
    level = hidden.mean(1)
    beside, above = points - mean[:, None], hidden - level[:, None]
    centre, size = np.concatenate([mean, level], 1), split.centre.shape[1]
    spread = np.empty((len(at), size, size))
    spread[:, :state, :state] = covariance
    spread[:, :state, state:] = beside.transpose(0, 2, 1) @ above / points.shape[1]
    spread[:, state:, :state] = spread[:, :state, state:].transpose(0, 2, 1)
    left = split.rest[at] - gain.transpose(0, 2, 1) @ error.covariance / points.shape[1]
    spread[:, state:, state:] = above.transpose(0, 2, 1) @ above / points.shape[1] + left
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


def _split(mean: Array, covariance: Array, sums: Array, state: int) -> _Split:
    """Gaussians ``(R, D + m)`` with the `sums` ``(R, D + m, 2)`` of their hidden coordinates."""
    (count, size, own), empty = sums.shape, np.empty
    both = state + own
    split = _Split(
        mean, covariance, empty((count, both)), empty((count, both, both)), empty((count, size, both)),
        empty((count, state, own)), empty((count, own, own)),
    )  # fmt: skip
    _fill_split(split, sums)
    return split


@native
def _fill_split(split: _Split, sums: Array) -> None:
    state, size, both = split.slope.shape[1], split.mean.shape[1], split.centre.shape[1]
    factor = np.empty((both, both))
    for r in range(len(sums)):
        mean, covariance, centre = split.mean[r], split.covariance[r], split.centre[r]
        spread, gain = split.spread[r], split.gain[r]
        for i in range(state):
            centre[i] = mean[i]
            for j in range(size):
                gain[j, i] = covariance[j, i]
        for q in range(state, both):
            centre[q] = 0.0
            for j in range(state, size):
                centre[q] += sums[r, j, q - state] * mean[j]
            for i in range(size):
                gain[i, q] = 0.0
                for j in range(state, size):
                    gain[i, q] += covariance[i, j] * sums[r, j, q - state]
        for q in range(both):
            for i in range(state):
                spread[i, q] = spread[q, i] = gain[i, q]
            for p in range(state, both):
                total = 0.0
                for j in range(state, size):
                    total += sums[r, j, p - state] * gain[j, q]
                spread[p, q] = spread[q, p] = total
        factorise(spread, TINY, ROUNDING, factor)
        _fill_rest(split, r, factor)
        for i in range(size):
            for j in range(both):
                total = gain[i, j]
                for k in range(j):
                    total -= factor[j, k] * gain[i, k]
                gain[i, j] = total / factor[j, j]
            for j in range(both - 1, -1, -1):
                total = gain[i, j]
                for k in range(j + 1, both):
                    total -= factor[k, j] * gain[i, k]
                gain[i, j] = total / factor[j, j]


@borrowing
def _fill_rest(split: _Split, r: int, factor: Array) -> None:
    """Regress the sums on the state."""
    slope, state = split.slope[r], split.slope.shape[1]
    for q in range(slope.shape[1]):
        for i in range(state - 1, -1, -1):
            total = factor[state + q, i]
            for j in range(i + 1, state):
                total -= factor[j, i] * slope[j, q]
            slope[i, q] = total / factor[i, i]
        for p in range(q + 1):
            total = 0.0
            for j in range(p + 1):
                total += factor[state + q, state + j] * factor[state + p, state + j]
            split.rest[r, q, p] = split.rest[r, p, q] = total


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
