"""`inference.tracking.health.fits` for the processor, of channels with plain noise: without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import WIDE_OUTLIER, Seen, Space, linearise_at, new_space
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
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

WIDTH = len(Fit)
SCORE, LOG_ODDS, SHARE, DEVIATION = int(Fit.SCORE), int(Fit.LOG_ODDS), int(Fit.SHARE), int(Fit.DEVIATION)
PREDICTED, EXCESS, STATED = int(Fit.PREDICTED), int(Fit.EXCESS), int(Fit.STATED)
NODE = math.sqrt(3.0)  # Gauss-Hermite, three points: 0 and ± this, of weights 2/3 and 1/6
SQRT_HALF, ROOT_TWO_PI = math.sqrt(0.5), math.sqrt(2 * math.pi)
LARGEST = float(np.finfo(np.float64).max)


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
    found = np.empty((len(channels.entity), WIDTH))
    log_weights, means, covariances = numbers_of(prior)
    fill((log_weights, means, covariances), seen, channels, found)
    return found


@native
def fill(prior: tuple[Array, Array, Array], seen: Seen, channels: Channels, found: Array) -> None:
    """As `table`."""
    space = new_space_of_fits(prior[1].shape[1], seen)
    for n in range(len(found)):
        fill_one(prior, channels.entity[n], seen, n, channels, n, space, found[n])


@inner
def new_space_of_fits(count: int, seen: Seen) -> tuple[Work, Predictive]:
    """Space for the fit of a channel to a prior of `count` components."""
    size = seen.matrix.shape[3]
    matrices, vectors, parts = np.empty((3, size, size)), np.empty((2, size)), np.empty((4, count))
    work = Work(new_space(seen), matrices[0], matrices[1], matrices[2], vectors[0], vectors[1])
    return work, Predictive(parts[0], parts[1], parts[2], parts[3])


@borrowing
def fill_one(
    prior: tuple[Array, Array, Array],
    row: int,
    seen: Seen,
    n: int,
    channels: Channels,
    channel: int,
    space: tuple[Work, Predictive],
    found: Array,
) -> None:
    """Fill the fit of one channel to a row of the prior; the channel is the first observation of row `n` of `seen`."""
    work, each = space
    _predict(prior[0][row], prior[1][row], prior[2][row], seen, n, work, each)
    found[SCORE] = _score(each) * channels.sign[channel]
    _judge(seen, n, channels, channel, each, found)
    _make_finite(found)


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
def _judge(seen: Seen, n: int, channels: Channels, channel: int, each: Predictive, row: Array) -> None:
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
        channels.probability[channel],
        channels.log_scale[channel],
        math.exp(channels.log_scale[channel]),
    )
    if stated == 0 or seen.kind[n, 0] == LINEAR:
        outlier = _log_density(each, WIDE_OUTLIER**2 - 1.0)
    else:
        outlier = seen.outlier[n, 0] + log_scale
    probability = ASSUMED_OUTLIERS if stated == 0 else stated
    vague = seen.kind[n, 0] == ANGLE and spread * seen.deviation[n, 0] > WIDEST_ANGLE
    row[LOG_ODDS] = math.log1p(-probability) - math.log(probability) + density - outlier
    row[SHARE] = 0.0
    if channels.first[channel] and bent <= BENT and not vague:
        row[SHARE] = min(math.sqrt(noise) / spread, 1.0)
    row[DEVIATION] = spread * unit
    row[PREDICTED] = channels.value[channel] - middle * unit * channels.sign[channel]
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
def _score(each: Predictive) -> float:
    """Normal score, by the nearer tail."""
    below = above = 0.0
    for k in range(len(each.weights)):
        scaled = each.offsets[k] / math.sqrt(each.variances[k]) * SQRT_HALF
        below += each.weights[k] * 0.5 * math.erfc(-scaled)
        above += each.weights[k] * 0.5 * math.erfc(scaled)
    if math.isnan(below) or math.isnan(above):
        return math.nan
    tail = lower_quantile(min(max(min(below, above), SMALLEST), 0.5))
    return tail if below < above else -tail


@borrowing
def lower_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution, of a probability from `SMALLEST` to one half.

    Halley's method, from an approximation to 5e-4 (M. Abramowitz and I. A. Stegun, "Handbook of Mathematical
    Functions", 1964, 26.2.23).
    """
    t = math.sqrt(-2 * math.log(probability))
    numerator = 2.515517 + t * (0.802853 + t * 0.010328)
    point = numerator / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t
    for _ in range(2):
        error = 0.5 * math.erfc(-point * SQRT_HALF) - probability
        step = error * ROOT_TWO_PI * math.exp(0.5 * point * point)
        point -= step / (1 + 0.5 * point * step)
    return point


@borrowing
def _make_finite(row: Array) -> None:
    """As `numpy.nan_to_num`; a row with such a number was not judged."""
    for column in range(len(row)):
        if not math.isfinite(row[column]):
            row[SHARE] = 0.0
    for column in range(len(row)):
        if math.isnan(row[column]):
            row[column] = 0.0
        row[column] = min(max(row[column], -LARGEST), LARGEST)
