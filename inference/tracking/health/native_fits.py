"""Fits of channels to their predictions, compiled for the processor: see `fits`.

Of a prior ``Σ_k w_k N(m_k, P_k)`` and noise ``Σ_c v_c N(b_c, (ρ_c σ)²)``, the prediction of a scalar observation z is
in units of the stated deviation σ₀,

    Σ_k Σ_c w_k v_c N(z − h(m_k) − ½ tr H_k − b_c, |J_k|² + ½ |H_k|² + (ρ_c σ(m_k))²),

with slope J and curvature H of h in the frame of a component's factor.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import (
    WIDE_OUTLIER,
    Residual,
    Seen,
    Space,
    difference,
    fill_shapes,
    new_space,
    relative_to,
    spread_at,
)
from beliefstream.inference.likelihood.observation_data import LIKELIHOOD, LINEAR
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.tracking.health.columns import ASSUMED_OUTLIERS, Array, Fit
from beliefstream.inference.update.closed.scaled_problem import example

Places = NDArray[np.int64]
Bits = NDArray[np.bool_]

WIDTH = len(Fit)
SCORE, LOG_ODDS, SHARE, DEVIATION = int(Fit.SCORE), int(Fit.LOG_ODDS), int(Fit.SHARE), int(Fit.DEVIATION)
PREDICTED, EXCESS, STATED = int(Fit.PREDICTED), int(Fit.EXCESS), int(Fit.STATED)
# limits within which a linearised prediction of a reading says something about its sensor
BENT = 0.05  # share of the variance by curvature above which it says nothing
WIDEST_ANGLE = 0.7  # radians; a direction predicted less exactly than this wraps around
# weight of all but the largest component, below which the prediction counts as one Gaussian
FEWEST_SHARED = 1e-3
SMALLEST = 1e-300  # of a tail probability, so that its normal score is finite
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
    """The predictive mixture of one channel, in units of the stated noise, and space to find it."""

    prior: Array  # weights of the prior's components, (K,) as the next four
    middles: Array  # reported value minus the component's mean, without that of the noise
    spreads: Array  # variance by slope and curvature
    curved: Array  # variance by curvature
    own: Array  # deviation of the noise there
    weights: Array  # (K C,), as the next two
    offsets: Array  # reported value minus the mean
    variances: Array


class Slopes(NamedTuple):
    """Space to linearise one observation over one component."""

    space: Space
    factor: Array  # (D, D), as the next two
    information: Array
    curvature: Array
    gradient: Array  # (D,), as the next
    slope: Array


class Row(NamedTuple):
    """Where the observation of a channel is: in row `first` of `Seen`; for component k in ``first + step · k``."""

    first: int
    step: int


def prepare() -> None:
    """Compile the fits, or load them from Numba's cache."""
    prior, observations = example()
    one, none = np.ones(1), np.zeros(1)
    table(prior, observations.numbers, Channels(np.zeros(1, np.int64), one == 1, one, one, none, none))


def table(prior: GaussianMixture, seen: Seen, channels: Channels) -> Array:
    """Fits ``(N, len(Fit))`` of the only observation of each row of `seen`.

    There may be one row for each channel and component of the prior, with the functions of the user at its mean.
    """
    fits = np.empty((len(channels.entity), WIDTH))
    log_weights, means, covariances = prior.numbers
    fill((log_weights, means, covariances), seen, len(seen.kind) > len(fits), channels, fits)
    return fits


@native
def fill(prior: tuple[Array, Array, Array], seen: Seen, each: bool, channels: Channels, fits: Array) -> None:
    """As `table`; `each` says whether `seen` has a row for each component."""
    log_weights, means, covariances = prior
    count = means.shape[1]
    space = new_space_of_fits(count, seen)
    for n in range(len(fits)):
        row = Row(n * count, 1) if each else Row(n, 0)
        b = channels.entity[n]
        fill_one((log_weights[b], means[b], covariances[b]), seen, row, channels, n, space, fits[n])


@inner
def new_space_of_fits(count: int, seen: Seen) -> tuple[Slopes, Predictive]:
    """Space for the fit of a channel to a prior of `count` components."""
    size = seen.matrix.shape[3]
    matrices, vectors, parts = np.empty((3, size, size)), np.empty((2, size)), np.empty((5, count))
    slopes = Slopes(new_space(seen), matrices[0], matrices[1], matrices[2], vectors[0], vectors[1])
    whole = np.empty((3, count * max(seen.noise.shape[2], 1)))
    return slopes, Predictive(parts[0], parts[1], parts[2], parts[3], parts[4], whole[0], whole[1], whole[2])


@borrowing
def fill_one(
    prior: tuple[Array, Array, Array],
    seen: Seen,
    row: Row,
    channels: Channels,
    channel: int,
    space: tuple[Slopes, Predictive],
    fit: Array,
) -> None:
    """Fill the fit of one channel to a prior, given as log weights ``(K,)``, means and covariances."""
    slopes, each = space
    n = row.first
    if seen.kind[n, 0] == LIKELIHOOD:  # a problem has no residual
        for column in range(WIDTH):
            fit[column] = 0.0
        return
    _predict(prior, seen, row, slopes, each)
    fit[SCORE] = _score(each) * channels.sign[channel]
    _judge(seen, n, channels, channel, each, fit)
    _make_finite(fit)


@borrowing
def _predict(
    prior: tuple[Array, Array, Array], seen: Seen, row: Row, slopes: Slopes, each: Predictive
) -> None:
    """Fill the predictive mixture of one channel."""
    log_weights, means, covariances = prior
    into, space = (slopes.gradient, slopes.information, slopes.curvature, slopes.slope), slopes.space
    for k in range(len(log_weights)):
        b, mean = row.first + row.step * k, means[k]
        base = seen.deviation[b, 0]
        factorise(covariances[k], TINY, ROUNDING, slopes.factor)
        distance = relative_to(seen, b, 0, mean, space.relative)
        if seen.kind[b, 0] == LINEAR:
            off, own = seen.value[b, 0, 0] - space.relative[0], base
        else:
            off = difference(seen, b, 0, mean, space.relative, distance)
            own = spread_at(seen, b, 0, off)
        fill_shapes(seen, b, 0, slopes.factor, Residual(distance, off / base, base), space, into)
        middle, slope, curved = off / base, 0.0, 0.0
        for i in range(means.shape[1]):
            middle -= 0.5 * slopes.curvature[i, i]
            slope += slopes.information[i, i]
            for j in range(means.shape[1]):
                curved += 0.5 * slopes.curvature[i, j] * slopes.curvature[i, j]
        each.prior[k], each.middles[k] = math.exp(log_weights[k]), middle
        each.spreads[k], each.curved[k], each.own[k] = slope + curved, curved, own / base
    _spread_noise(seen, row.first, each)


@borrowing
def _spread_noise(seen: Seen, n: int, each: Predictive) -> None:
    """Fill the components: each of the prior with each of the noise."""
    several = seen.noise.shape[2]
    for k in range(len(each.prior)):
        variance = each.spreads[k]
        if several == 0:
            each.weights[k], each.offsets[k] = each.prior[k], each.middles[k]
            each.variances[k] = variance + each.own[k] * each.own[k]
        for c in range(several):
            place, wide = k * several + c, each.own[k] * seen.noise[n, 0, c, 2]
            each.weights[place] = each.prior[k] * math.exp(seen.noise[n, 0, c, 0])
            each.offsets[place] = each.middles[k] - seen.noise[n, 0, c, 1] / seen.deviation[n, 0]
            each.variances[place] = variance + wide * wide


@borrowing
def _moments(seen: Seen, n: int, each: Predictive) -> tuple[float, float, float, float]:
    """Mean and variance of the mixture, the variance of the noise in it, and that by curvature over the other one."""
    middle = variance = bent = plain = noise = 0.0
    for place in range(len(each.weights)):
        middle += each.weights[place] * each.offsets[place]
    several = seen.noise.shape[2]
    for k in range(len(each.prior)):
        mean, square = 0.0, each.own[k] * each.own[k]
        if several > 0:
            square = 0.0
        for c in range(several):
            share, bias = math.exp(seen.noise[n, 0, c, 0]), seen.noise[n, 0, c, 1] / seen.deviation[n, 0]
            wide = each.own[k] * seen.noise[n, 0, c, 2]
            mean += share * bias
            square += share * (wide * wide + bias * bias)
        square -= mean * mean
        off = each.middles[k] - mean - middle
        noise += each.prior[k] * square
        bent += each.prior[k] * each.curved[k]
        plain += each.prior[k] * (each.spreads[k] - each.curved[k] + each.own[k] * each.own[k])
        variance += each.prior[k] * (each.spreads[k] + square + off * off)
    return middle, variance, noise, bent / plain


@borrowing
def _judge(seen: Seen, n: int, channels: Channels, channel: int, each: Predictive, row: Array) -> None:
    """Fill a row but its score."""
    middle, variance, noise, bent = _moments(seen, n, each)
    spread, density = math.sqrt(variance), _log_density_at(each, 0.0)
    stated, log_scale, unit = (
        channels.probability[channel],
        channels.log_scale[channel],
        math.exp(channels.log_scale[channel]),
    )
    outlier = (
        _log_density(
            each.prior, each.middles, each.spreads, 0.0, WIDE_OUTLIER**2
        )  # ten times as wide as the noise
        if stated == 0 or seen.kind[n, 0] == LINEAR
        else seen.outlier[n, 0] + log_scale
    )
    probability = ASSUMED_OUTLIERS if stated == 0 else stated
    vague = seen.wraps[n, 0] and spread * seen.deviation[n, 0] > WIDEST_ANGLE
    row[LOG_ODDS] = math.log1p(-probability) - math.log(probability) + density - outlier
    row[SHARE] = 0.0
    if channels.first[channel] and bent <= BENT and not vague:
        row[SHARE] = min(math.sqrt(noise) / spread, 1.0)
    row[DEVIATION] = spread * unit
    row[PREDICTED] = channels.value[channel] - middle * unit * channels.sign[channel]
    row[EXCESS] = density - _expected_log_density(each)
    row[STATED] = probability


@borrowing
def _log_part(weight: float, off: float, variance: float) -> float:
    """Log of weight × density of one component."""
    return math.log(weight) - 0.5 * (off * off / variance + math.log(variance) + LOG_TWO_PI)


@borrowing
def _log_density(weights: Array, offsets: Array, variances: Array, shift: float, more: float) -> float:
    """Log density of a value that is lower by `shift`, with `more` variance in every component."""
    highest, total = -math.inf, 0.0
    for again in range(2):
        for k in range(len(weights)):
            if weights[k] > 0:
                value = _log_part(weights[k], offsets[k] + shift, variances[k] + more)
                if again:
                    total += math.exp(value - highest)
                elif not value <= highest:  # also what is not a number
                    highest = value
    log_density: float = highest + math.log(total)
    return log_density


@borrowing
def _log_density_at(each: Predictive, shift: float) -> float:
    """Log density of the value, or of one that is lower by `shift`."""
    return _log_density(each.weights, each.offsets, each.variances, shift, 0.0)


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
            low = _log_density_at(each, -each.offsets[k] - step)
            middle = _log_density_at(each, -each.offsets[k])
            high = _log_density_at(each, -each.offsets[k] + step)
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
