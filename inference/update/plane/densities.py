"""Prior × likelihood of one problem at points in the plane, and the problem in the frame of its cells.

Each loop over the points does all of one component or observation, so that little leaves the registers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_functions import SOFT
from beliefstream.inference.likelihood.native_terms import LOG_WIDE, WIDE_OUTLIER, Array, Seen, log_sum
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, fusing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_density import ABSENT, FAINTEST
from beliefstream.inference.mixtures.native_exponential import (
    arctangent,
    logarithm,
    roughly_exponential,
    within_half_a_turn,
)

LEVELS = 4  # of the first cells, which are the same for all problems: 16 × 16
REACH = 24.0  # half the side that they cover, in standard deviations of the prior
WIDEST = 0.3  # radians over a cell, or of a beam, beyond which it bends across
UNOBSERVED_POINTS = 256  # that measure the coordinates that no sensor touches


class Framed(NamedTuple):
    """Observations of one problem in its frame; of a density, the highest value is left out."""

    kinds: NDArray[np.int64]  # (N,)
    matrices: Array  # (N, 4) as first and second row
    origins: Array  # (N, 2)
    headings: Array  # (N, 2)
    values: Array  # (N, 2); the first less the turn at the centre of the frame
    scales: Array  # (N,) one over the deviation
    inliers: Array  # (N,) log of an inlier's peak
    outliers: Array  # (N,) log of an outlier's
    slopes: Array  # (N,) of an outlier's log in the squared residual


@inner
def new_framed(number: int) -> Framed:
    """Space for so many observations."""
    pairs, numbers = np.empty((3, number, 2)), np.empty((4, number))
    return Framed(
        np.empty(number, np.int64), np.empty((number, 4)), pairs[0], pairs[1], pairs[2],
        numbers[0], numbers[1], numbers[2], numbers[3],
    )  # fmt: skip


@inner
def new_prior(count: int) -> Prior:
    """Space for so many components."""
    return Prior(
        np.empty(count), np.empty(count), np.empty((count, 2)), np.empty((count, 3)), np.empty((count, 3))
    )


@borrowing
def fill_framed(
    seen: Seen, b: int, axes: NDArray[np.int64], frame: Frame, framed: Framed
) -> tuple[int, float]:
    """Fill the observations of a problem in a frame of the coordinates `axes`; how many, and the sum of their peaks."""
    some, height = 0, 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            _fill_place(seen, b, n, axes, frame, framed, some)
            height += _fill_heights(seen, b, n, framed, some)
            some += 1
    return some, height


@borrowing
def _fill_place(
    seen: Seen, b: int, n: int, axes: NDArray[np.int64], frame: Frame, framed: Framed, into: int
) -> None:
    (x, y, xx, yx, yy), one, two = frame, axes[0], axes[1]
    framed.kinds[into] = seen.kind[b, n]
    for r in range(2):
        first, second = seen.matrix[b, n, r, one], seen.matrix[b, n, r, two]
        framed.matrices[into, 2 * r] = first * xx + second * yx
        framed.matrices[into, 2 * r + 1] = second * yy
        framed.origins[into, r] = seen.origin[b, n, r] - first * x - second * y
        framed.values[into, r] = seen.value[b, n, r]
    first, second = seen.heading[b, n, one], seen.heading[b, n, two]
    framed.headings[into, 0], framed.headings[into, 1] = first * xx + second * yx, second * yy
    if seen.kind[b, n] == ANGLE:
        framed.values[into, 0] += first * x + second * y
    framed.scales[into] = 1 / seen.deviation[b, n]


@borrowing
def _fill_heights(seen: Seen, b: int, n: int, framed: Framed, into: int) -> float:
    """Fill the peaks of an inlier and an outlier, beside the log of their sum that it returns."""
    inlier = seen.log_inlier[b, n] - seen.constant[b, n]
    outlier, slope = seen.log_outlier[b, n] + seen.outlier[b, n], 0.0
    if seen.kind[b, n] == LINEAR:
        outlier = seen.log_outlier[b, n] - seen.constant[b, n] - seen.rows[b, n] * LOG_WIDE
        slope = -0.5 / WIDE_OUTLIER**2
    top = log_sum(inlier, outlier)
    framed.inliers[into] = inlier - top
    framed.outliers[into] = max(outlier - top, ABSENT)
    framed.slopes[into] = slope
    return top


Frame = tuple[float, float, float, float, float]  # a place, and a lower factor: x, y, xx, yx, yy


@borrowing
def first_cells(places: Array, halves: Array) -> int:
    """Fill the first cells, in the order of a subdivision; how many there are."""
    side = 1 << LEVELS
    half = REACH / side
    for c in range(side * side):
        row, column = 0, 0
        for level in range(LEVELS):
            row |= ((c >> (2 * level + 1)) & 1) << level
            column |= ((c >> (2 * level)) & 1) << level
        places[c, 0], places[c, 1] = half * (2 * row + 1) - REACH, half * (2 * column + 1) - REACH
        halves[c, 0] = halves[c, 1] = half
    return side * side


class DensitySpace(NamedTuple):
    """Space for the densities of points."""

    logs: Array  # (K, P) of the prior's components
    highest: Array  # (P,) of these
    squared: Array  # (P,) residuals
    product: Array  # (P,) of what outliers add to the larger of two terms


@inner
def new_density_space(components: int, points: int) -> DensitySpace:
    """Space for a prior of at most so many components, at so many points."""
    return DensitySpace(np.empty((components, points)), np.empty(points), np.empty(points), np.empty(points))


@borrowing
def fill_density(problem: Problem, x: Array, y: Array, count: int, space: DensitySpace, into: Array) -> None:
    """Fill the log of prior × likelihood at the first `count` points, in the frame of the problem."""
    (prior, framed, number, height), (logs, highest, squared, product) = problem, space
    for p in range(count):
        highest[p], into[p], product[p] = ABSENT, 0.0, 1.0
    for k in range(len(prior.peaks)):
        _fill_component(prior, k, x, y, count, logs[k], highest)
    for k in range(len(prior.peaks)):
        _add_component(logs[k], highest, count, into)
    _take_logarithm(height, highest, count, into)
    for n in range(number):
        if framed.kinds[n] == LINEAR:
            _see_linear(framed, n, x, y, count, squared)
        elif framed.kinds[n] == ANGLE:
            _see_angle(framed, n, x, y, count, squared)
        else:
            _see_range(framed, n, x, y, count, squared)
        _add_observation(
            framed.inliers[n], framed.outliers[n], framed.slopes[n], squared, count, product, into
        )
    for p in range(count):
        into[p] += logarithm(product[p])


@fusing
def _fill_component(
    prior: Prior, k: int, x: Array, y: Array, count: int, logs: Array, highest: Array
) -> None:
    peak, mean, precision = prior.peaks[k], prior.means[k], prior.precisions[k]
    east, north, xx, xy, yy = mean[0], mean[1], precision[0], precision[1], precision[2]
    for p in range(count):
        dx, dy = x[p] - east, y[p] - north
        logs[p] = peak - 0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)
        highest[p] = max(highest[p], logs[p])


@fusing
def _add_component(logs: Array, highest: Array, count: int, into: Array) -> None:
    for p in range(count):
        into[p] += roughly_exponential(max(logs[p] - highest[p], FAINTEST))


@fusing
def _take_logarithm(height: float, highest: Array, count: int, into: Array) -> None:
    for p in range(count):
        into[p] = height + highest[p] + logarithm(into[p])


@fusing
def _see_linear(framed: Framed, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    one, other = framed.values[n, 0] + framed.origins[n, 0], framed.values[n, 1] + framed.origins[n, 1]
    matrix = framed.matrices[n]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    for p in range(count):
        left, right = one - m00 * x[p] - m01 * y[p], other - m10 * x[p] - m11 * y[p]
        squared[p] = left * left + right * right


@fusing
def _see_range(framed: Framed, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    value, scale, matrix = framed.values[n, 0], framed.scales[n], framed.matrices[n]
    east, north = framed.origins[n, 0], framed.origins[n, 1]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    for p in range(count):
        first, second = m00 * x[p] + m01 * y[p] - east, m10 * x[p] + m11 * y[p] - north
        off = (value - math.sqrt(first * first + second * second + SOFT)) * scale
        squared[p] = off * off


@fusing
def _see_angle(framed: Framed, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    value, scale, matrix = framed.values[n, 0], framed.scales[n], framed.matrices[n]
    east, north = framed.origins[n, 0], framed.origins[n, 1]
    m00, m01, m10, m11 = matrix[0], matrix[1], matrix[2], matrix[3]
    h0, h1 = framed.headings[n, 0], framed.headings[n, 1]
    for p in range(count):
        first, second = m00 * x[p] + m01 * y[p] - east, m10 * x[p] + m11 * y[p] - north
        off = within_half_a_turn(value + h0 * x[p] + h1 * y[p] - arctangent(second, first)) * scale
        squared[p] = off * off


@fusing
def _add_observation(
    best: float, constant: float, slope: float, squared: Array, count: int, product: Array, into: Array
) -> None:
    """Add the larger of an inlier's and an outlier's log density, and multiply the rest in."""
    if constant == ABSENT:
        for p in range(count):
            into[p] += best - 0.5 * squared[p]
        return
    for p in range(count):
        inlier, outlier = best - 0.5 * squared[p], constant + slope * squared[p]
        into[p] += max(inlier, outlier)
        product[p] *= 1 + roughly_exponential(max(-abs(inlier - outlier), FAINTEST))


class Prior(NamedTuple):
    """Components of one problem's prior, in the plane."""

    peaks: Array  # (K,) log of weight × peak density
    log_weights: Array  # (K,)
    means: Array  # (K, 2)
    covariances: Array  # (K, 3) as xx, xy, yy
    precisions: Array  # (K, 3)


@borrowing
def take(mixture: Numbers, axes: NDArray[np.int64], frame: Frame, prior: Prior) -> int:
    """Fill the components of one mixture that are present, in a frame of the coordinates `axes`; how many they are."""
    some, (one, two), (x, y, first, low, second) = 0, (axes[0], axes[1]), frame
    tilt = low / first
    for k in range(len(mixture.log_weights)):
        weight, covariance = mixture.log_weights[k], mixture.covariances[k]
        if weight == -math.inf:
            continue
        east, north = mixture.means[k, one] - x, mixture.means[k, two] - y
        xx, xy, yy = covariance[one, one], covariance[two, one], covariance[two, two]
        # along the second axis less what the first one has of it
        yy, xy = yy - 2 * tilt * xy + tilt * tilt * xx, xy - tilt * xx
        xx, xy, yy = xx / (first * first), xy / (first * second), yy / (second * second)
        determinant = xx * yy - xy * xy
        prior.log_weights[some] = weight - LOG_TWO_PI
        prior.peaks[some] = weight - LOG_TWO_PI - 0.5 * math.log(determinant)
        prior.means[some, 0], prior.means[some, 1] = east / first, (north - tilt * east) / second
        prior.covariances[some, 0], prior.covariances[some, 1], prior.covariances[some, 2] = xx, xy, yy
        prior.precisions[some, 0] = yy / determinant
        prior.precisions[some, 1] = -xy / determinant
        prior.precisions[some, 2] = xx / determinant
        some += 1
    return some


@inner
def first_of(prior: Prior, count: int) -> Prior:
    """The components that were taken."""
    return Prior(
        prior.peaks[:count],
        prior.log_weights[:count],
        prior.means[:count],
        prior.covariances[:count],
        prior.precisions[:count],
    )


@borrowing
def lower(prior: Prior) -> float:
    """Make the densities relative to the highest peak, whose log it returns."""
    highest = -math.inf
    for k in range(len(prior.peaks)):
        highest = max(highest, prior.peaks[k])
    for k in range(len(prior.peaks)):
        prior.peaks[k] -= highest
        prior.log_weights[k] -= highest
    return highest


class Problem(NamedTuple):
    """One problem in a frame."""

    prior: Prior
    framed: Framed
    number: int  # of observations
    height: float  # log of what the densities are relative to
