"""`inference.tracking.health.fits` for the processor, of channels with plain noise: without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import WIDE_OUTLIER, Seen, Space, linearise_at, new_space
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.tracking.health.columns import ASSUMED_OUTLIERS, Array, Fit
from beliefstream.inference.tracking.health.limits import (
    BENT,
    FEWEST_SHARED,
    SMALLEST,
    WIDEST_ANGLE,
)
from beliefstream.inference.update.native_scaling import example

Places = NDArray[np.int64]
Bits = NDArray[np.bool_]

SCORE, LOG_ODDS, SHARE, DEVIATION = int(Fit.SCORE), int(Fit.LOG_ODDS), int(Fit.SHARE), int(Fit.DEVIATION)
PREDICTED, EXCESS, STATED = int(Fit.PREDICTED), int(Fit.EXCESS), int(Fit.STATED)
NODE = math.sqrt(3.0)  # Gauss-Hermite, three points: 0 and ± this, of weights 2/3 and 1/6
SQRT_HALF = math.sqrt(0.5)


class Channels(NamedTuple):
    """What the readings of ``N`` channels state, beside their `Seen`."""

    entity: Places  # row of the prior
    first: Bits  # whether it is the first of its sensor
    sign: Array  # of the calibration's scale
    value: Array  # as reported
    probability: Array  # of an outlier
    log_scale: Array


class Predictive(NamedTuple):
    """The predictive mixture of one channel, in units of the stated noise, and space to find it; each ``(K,)``."""

    weights: Array
    offsets: Array  # reported value minus the component's mean
    variances: Array
    curved: Array  # variance by curvature


class Work(NamedTuple):
    """Space to linearise one observation over one component."""

    space: Space
    factor: Array  # (D, D), as the next two
    information: Array
    curvature: Array
    gradient: Array  # (D,), as the next
    slope: Array


def prepare() -> None:
    """Compile the fits, or load them from Numba's cache."""
    prior, observations = example()
    one, none = np.ones(1), np.zeros(1)
    table(prior, observations.native, Channels(np.zeros(1, np.int64), one == 1, one, one, none, none))


def table(prior: GaussianMixture, seen: Seen, channels: Channels) -> Array:
    """Fits ``(N, len(Fit))`` of the only observation of each row of `seen`."""
    found = np.empty((len(channels.entity), len(Fit)))
    below, above = np.empty(len(found)), np.empty(len(found))
    _fill(numbers_of(prior), seen, channels, found, below, above)
    nearer = torch.from_numpy(np.minimum(below, above)).clamp(SMALLEST, 0.5)
    tail = torch.special.ndtri(nearer).numpy()
    found[:, SCORE] = np.where(below < above, tail, -tail) * channels.sign
    judged = (found[:, SHARE] > 0) & np.isfinite(found).all(1)
    found[:, SHARE] = np.where(judged, found[:, SHARE], 0.0)
    return np.nan_to_num(found)


@native
def _fill(
    prior: tuple[Array, Array, Array],
    seen: Seen,
    channels: Channels,
    found: Array,
    below: Array,
    above: Array,
) -> None:
    count, size = prior[1].shape[1:]
    matrices, vectors, parts = np.empty((3, size, size)), np.empty((2, size)), np.empty((4, count))
    work = Work(new_space(seen), matrices[0], matrices[1], matrices[2], vectors[0], vectors[1])
    each = Predictive(parts[0], parts[1], parts[2], parts[3])
    for n in range(len(found)):
        row = channels.entity[n]
        _predict(prior[0][row], prior[1][row], prior[2][row], seen, n, work, each)
        below[n], above[n] = _tails(each)
        _judge(seen, n, channels, each, found[n])


@borrowing
def _predict(
    log_weights: Array,
    means: Array,
    covariances: Array,
    seen: Seen,
    n: int,
    work: Work,
    each: Predictive,
) -> None:
    """Fill the predictive mixture of one channel."""
    into = (work.gradient, work.information, work.curvature, work.slope)
    for k in range(len(log_weights)):
        each.weights[k] = math.exp(log_weights[k])
        factorise(covariances[k], TINY, ROUNDING, work.factor)
        offset = linearise_at(seen, n, 0, means[k], work.factor, work.space, into)[0]
        slope = curved = 0.0
        for i in range(means.shape[1]):
            offset -= 0.5 * work.curvature[i, i]
            slope += work.information[i, i]
            for j in range(means.shape[1]):
                curved += 0.5 * work.curvature[i, j] * work.curvature[i, j]
        each.offsets[k], each.curved[k] = offset, curved
        each.variances[k] = slope + curved + 1.0


@borrowing
def _judge(seen: Seen, n: int, channels: Channels, each: Predictive, row: Array) -> None:
    """Fill a row but its score."""
    middle = variance = bent = plain = noise = 0.0
    for k in range(len(each.weights)):
        noise += each.weights[k]
        middle += each.weights[k] * each.offsets[k]
        bent += each.weights[k] * each.curved[k]
        plain += each.weights[k] * (each.variances[k] - each.curved[k])
    for k in range(len(each.weights)):
        off = each.offsets[k] - middle
        variance += each.weights[k] * (each.variances[k] + off * off)
    bent, spread, density = bent / plain, math.sqrt(variance), _log_density(each, 0.0)
    stated, log_scale, unit = (
        channels.probability[n],
        channels.log_scale[n],
        math.exp(channels.log_scale[n]),
    )
    if stated == 0 or seen.kind[n, 0] == LINEAR:
        outlier = _log_density(each, WIDE_OUTLIER**2 - 1.0)
    else:
        outlier = seen.outlier[n, 0] + log_scale
    probability = ASSUMED_OUTLIERS if stated == 0 else stated
    vague = seen.kind[n, 0] == ANGLE and spread * seen.deviation[n, 0] > WIDEST_ANGLE
    row[LOG_ODDS] = math.log1p(-probability) - math.log(probability) + density - outlier
    row[SHARE] = 0.0
    if channels.first[n] and bent <= BENT and not vague:
        row[SHARE] = min(math.sqrt(noise) / spread, 1.0)
    row[DEVIATION] = spread * unit
    row[PREDICTED] = channels.value[n] - middle * unit * channels.sign[n]
    row[EXCESS] = density - _expected_log_density(each)
    row[STATED] = probability


@borrowing
def _log_density(each: Predictive, wider: float) -> float:
    """Log density of the value, with variances larger by `wider`."""
    return _log_density_at(each, 0.0, wider)


@borrowing
def _log_density_at(each: Predictive, shift: float, wider: float) -> float:
    highest, total = -math.inf, 0.0
    for again in range(2):
        for k in range(len(each.weights)):
            if each.weights[k] > 0:
                variance, off = each.variances[k] + wider, each.offsets[k] + shift
                value = math.log(each.weights[k]) - 0.5 * (
                    off * off / variance + math.log(variance) + LOG_TWO_PI
                )
                if again:
                    total += math.exp(value - highest)
                elif not value <= highest:  # also what is not a number
                    highest = value
    found: float = highest + math.log(total)
    return found


@borrowing
def _expected_log_density(each: Predictive) -> float:
    """Expectation of the log density over the prediction; by quadrature where it is no Gaussian."""
    largest = 0
    for k in range(len(each.weights)):
        largest = k if each.weights[k] > each.weights[largest] else largest
    if each.weights[largest] >= 1 - FEWEST_SHARED:
        one: float = -0.5 * (LOG_TWO_PI + math.log(each.variances[largest]) + 1.0)
        return one
    total = 0.0
    for k in range(len(each.weights)):
        if each.weights[k] > 0:
            step = NODE * math.sqrt(each.variances[k])
            low = _log_density_at(each, -each.offsets[k] - step, 0.0)
            middle = _log_density_at(each, -each.offsets[k], 0.0)
            high = _log_density_at(each, -each.offsets[k] + step, 0.0)
            total += each.weights[k] * (2 / 3 * middle + (low + high) / 6)
    return total


@borrowing
def _tails(each: Predictive) -> tuple[float, float]:
    """Probabilities of a lower and of a higher value."""
    below = above = 0.0
    for k in range(len(each.weights)):
        scaled = each.offsets[k] / math.sqrt(each.variances[k]) * SQRT_HALF
        below += each.weights[k] * 0.5 * math.erfc(-scaled)
        above += each.weights[k] * 0.5 * math.erfc(scaled)
    return below, above
