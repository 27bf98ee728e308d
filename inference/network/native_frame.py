"""Inputs of one layer of the network for the processor: `inference.network.features`, one entity at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen, Space, linearise_at
from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.mixtures.native_linear_algebra import invert_one

Array = NDArray[np.float64]
SMOOTH = 1e-8  # under the root of every norm, as in `linear_algebra.norm`


class Prior(NamedTuple):
    """Tokens of one entity, as `transformer.Tokens`, with the factors of their covariances."""

    log_weights: Array  # (K,)
    means: Array  # (K, d)
    source: NDArray[np.int64]  # (K,)
    spread: Array  # (K, d)
    factors: Array  # (K, d, d), as the next
    inverses: Array


class Estimates(NamedTuple):
    """Where the tokens of one entity are now."""

    means: Array  # (K, d)
    factors: Array  # (K, d, d)
    change: Array  # (K,) of the log weights
    states: Array  # (K, W)


class Frame(NamedTuple):
    """As `features.Frame`, of one entity."""

    gradient: Array  # (K, N, d), as the next
    slope: Array
    information: Array  # (K, N, d, d), as the next
    curvature: Array
    signed: Array  # (K, N), as the next five
    squared: Array
    odds: Array
    likelihood: Array
    trace: Array
    innovation: Array
    prior_offset: Array  # (K, d), as the next three
    prior_gradient: Array
    spread: Array
    siblings: Array
    prior_precision: Array  # (K, d, d)
    evidence: Array  # (K,), as the next
    volume: Array
    best: Array  # (N,)


class Square(NamedTuple):
    """Space for matrices ``(d, d)`` and vectors ``(d,)``."""

    inverse: Array
    to_prior: Array
    vector: Array
    other: Array


@borrowing
def clamp(value: float, low: float, high: float) -> float:
    """As `torch.clamp`: what is not a number stays so."""
    if value < low:
        return low
    return high if value > high else value


@borrowing
def signed_log(value: float) -> float:
    return math.copysign(math.log1p(abs(value)), value)


@borrowing
def norm(vector: Array) -> float:
    """As `linear_algebra.norm`."""
    return math.sqrt(dot(vector, vector) + SMOOTH)


@borrowing
def dot(left: Array, right: Array) -> float:
    total = 0.0
    for i in range(len(left)):
        total += left[i] * right[i]
    return total


@borrowing
def quadratic(matrix: Array, vector: Array) -> float:
    total = 0.0
    for i in range(len(vector)):
        for j in range(len(vector)):
            total += vector[i] * matrix[i, j] * vector[j]
    return total


@borrowing
def times(matrix: Array, vector: Array, found: Array) -> None:
    for i in range(len(found)):
        found[i] = 0.0
        for j in range(len(vector)):
            found[i] += matrix[i, j] * vector[j]


@borrowing
def log_diagonal(factor: Array) -> float:
    total = 0.0
    for i in range(len(factor)):
        total += math.log(factor[i, i])
    return total


@borrowing
def whiten(
    prior: Prior, now: Estimates, seen: Seen, b: int, frame: Frame, space: Space, square: Square
) -> None:
    """Linearise at each token's mean, and express the result in the token's whitened frame."""
    count, observations = frame.signed.shape
    for n in range(observations):
        frame.best[n] = -math.inf
    for k in range(count):
        fit = 0.0
        for n in range(observations):
            if seen.mask[b, n]:
                _linearise(now, seen, b, k, n, frame, space)
                fit += frame.likelihood[k, n] + seen.constant[b, n]
                frame.best[n] = max(frame.best[n], frame.likelihood[k, n])
        invert_one(now.factors[k], square.inverse)
        _relate_to_prior(prior, now, k, frame, square)
        _relate_to_siblings(prior, now, k, frame, square)
        offset = frame.prior_offset[k]
        frame.evidence[k] = -0.5 * dot(offset, offset) + clamp(fit, -200.0, math.inf)
        frame.volume[k] = log_diagonal(now.factors[k]) - log_diagonal(prior.factors[k])


@borrowing
def _linearise(now: Estimates, seen: Seen, b: int, k: int, n: int, frame: Frame, space: Space) -> None:
    information = frame.information[k, n]
    into = (frame.gradient[k, n], information, frame.curvature[k, n], frame.slope[k, n])
    found = linearise_at(seen, b, n, now.means[k], now.factors[k], space, into)
    frame.signed[k, n], squared, odds, frame.likelihood[k, n] = found
    trace = 0.0
    for i in range(len(information)):
        trace += information[i, i]
    shrunk = 0.5 * squared * trace / (1 + trace) - 0.5 * math.log1p(trace)
    frame.squared[k, n], frame.odds[k, n], frame.trace[k, n] = squared, odds, trace
    frame.innovation[k, n] = odds + shrunk


@borrowing
def _relate_to_prior(prior: Prior, now: Estimates, k: int, frame: Frame, square: Square) -> None:
    """Offset from the prior, its gradient and its precision."""
    size = prior.means.shape[1]
    for i in range(size):
        square.vector[i] = prior.means[k, i] - now.means[k, i]
        for j in range(size):
            square.to_prior[i, j] = 0.0
            for m in range(size):
                square.to_prior[i, j] += prior.inverses[k, i, m] * now.factors[k, m, j]
    times(prior.inverses[k], square.vector, frame.prior_offset[k])
    for i in range(size):
        frame.prior_gradient[k, i] = 0.0
        for m in range(size):
            frame.prior_gradient[k, i] += square.to_prior[m, i] * frame.prior_offset[k, m]
        for j in range(size):
            frame.prior_precision[k, i, j] = 0.0
            for m in range(size):
                frame.prior_precision[k, i, j] += square.to_prior[m, i] * square.to_prior[m, j]


@borrowing
def _relate_to_siblings(prior: Prior, now: Estimates, k: int, frame: Frame, square: Square) -> None:
    """The token's own offset among the copies of one component, and that from their centre; both bounded."""
    count, size = prior.means.shape
    times(prior.factors[k], prior.spread[k], square.vector)
    times(square.inverse, square.vector, frame.spread[k])
    alike = 0
    for i in range(size):
        square.vector[i] = 0.0
    for other in range(count):
        if prior.source[other] == prior.source[k]:
            alike += 1
            for i in range(size):
                square.vector[i] += now.means[other, i]
    for i in range(size):
        square.other[i] = now.means[k, i] - square.vector[i] / alike
    times(square.inverse, square.other, frame.siblings[k])
    own, far = norm(frame.spread[k]), norm(frame.siblings[k])
    for i in range(size):
        frame.spread[k, i] /= 1 + 0.2 * own
        frame.siblings[k, i] /= 1 + 0.2 * far


@borrowing
def fill_pair(seen: Seen, b: int, k: int, n: int, inverse: Array, frame: Frame, found: Array) -> None:
    """As `features.pair_features`, of one pair; `inverse` of the token's Hessian."""
    gradient, information, curvature = frame.gradient[k, n], frame.information[k, n], frame.curvature[k, n]
    share = traced = bent = turned = 0.0
    for i in range(len(gradient)):
        traced += curvature[i, i]
        for j in range(len(gradient)):
            share += inverse[i, j] * information[i, j]
            bent += curvature[i, j] * curvature[i, j]
            turned += inverse[i, j] * curvature[i, j]
    probability = math.exp(seen.log_outlier[b, n])
    spread, siblings = frame.spread[k], frame.siblings[k]
    found[0] = 1.0 if seen.rows[b, n] > 1 else 0.0
    found[1] = signed_log(frame.signed[k, n])
    found[2] = signed_log(math.sqrt(frame.squared[k, n] + SMOOTH))
    found[3] = math.log(frame.trace[k, n] + 1e-9) * 0.3
    found[4] = signed_log(quadratic(inverse, gradient))
    found[5] = share
    found[6] = signed_log(traced)
    found[7] = math.log1p(math.sqrt(bent + SMOOTH))
    found[8] = signed_log(turned)
    found[9] = signed_log(dot(spread, gradient))
    found[10] = math.log1p(clamp(quadratic(information, spread), 0.0, math.inf))
    found[11] = signed_log(dot(siblings, gradient))
    found[12] = math.log1p(clamp(quadratic(information, siblings), 0.0, math.inf))
    found[13] = signed_log(quadratic(curvature, spread))
    found[14] = probability * 3
    found[15] = 1.0 if probability > 0 else 0.0
    found[16] = clamp(frame.odds[k, n], -15.0, 15.0) * 0.2
    found[17] = clamp(frame.innovation[k, n], -15.0, 15.0) * 0.2
    found[18] = clamp(frame.likelihood[k, n] - frame.best[n], -30.0, math.inf) * 0.1


@borrowing
def fill_token(
    frame: Frame,
    k: int,
    step: Array,
    total: Array,
    inverse: Array,
    determinant: float,
    change: float,
    found: Array,
) -> None:
    """As `features.token_features`, of one token; `determinant` is the log of the Hessian's, with its sign changed."""
    spread, siblings, top, traced = frame.spread[k], frame.siblings[k], frame.evidence[0], 0.0
    for other in range(len(frame.evidence)):
        top = max(top, frame.evidence[other])
    for i in range(len(step)):
        traced += inverse[i, i]
    found[0] = signed_log(norm(step))
    found[1] = signed_log(dot(step, total))
    found[2] = signed_log(norm(frame.prior_offset[k]))
    found[3] = determinant * 0.3
    found[4] = frame.volume[k] * 0.3
    found[5] = signed_log(frame.evidence[k]) * 0.3
    found[6] = change * 0.3
    found[7] = clamp(frame.evidence[k] - top, -30.0, math.inf) * 0.1
    found[8], found[9] = norm(spread), norm(siblings)
    found[10], found[11] = signed_log(dot(spread, step)), signed_log(dot(siblings, step))
    found[12] = math.sqrt(clamp(quadratic(inverse, spread), SMOOTH, math.inf))
    found[13] = math.sqrt(clamp(quadratic(inverse, siblings), SMOOTH, math.inf))
    found[14] = dot(spread, siblings)
    found[15] = signed_log(norm(frame.prior_gradient[k]))
    found[16] = signed_log(dot(frame.prior_gradient[k], spread))
    found[17] = traced / len(step)
