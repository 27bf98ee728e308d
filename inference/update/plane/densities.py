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
from beliefstream.inference.mixtures.native_density import FAINTEST
from beliefstream.inference.mixtures.native_exponential import (
    arctangent,
    logarithm,
    roughly_exponential,
    within_half_a_turn,
)

LEVELS = 4  # of the first cells, which are the same for all problems: 16 × 16
REACH = 24.0  # half the side that they cover, in standard deviations of the prior
LOWEST = -1e150  # below every log of a density, in finite arithmetic
WIDEST = 0.3  # radians over a cell, beyond which a bearing is not linear


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
    return Framed(
        np.empty(number, np.int64),
        np.empty((number, 4)),
        np.empty((number, 2)),
        np.empty((number, 2)),
        np.empty((number, 2)),
        np.empty(number),
        np.empty(number),
        np.empty(number),
        np.empty(number),
    )


@inner
def new_prior(count: int) -> Prior:
    """Space for so many components."""
    return Prior(
        np.empty(count), np.empty(count), np.empty((count, 2)), np.empty((count, 3)), np.empty((count, 3))
    )


@inner
def in_frame(prior: Prior, frame: Frame, space: Prior) -> Prior:
    """The components of a prior in a frame; their densities are relative to the highest peak."""
    x, y, xx, yx, yy = frame
    count, highest, tilt = len(prior.peaks), -math.inf, yx / xx
    for k in range(count):
        highest = max(highest, prior.peaks[k])
    for k in range(count):
        mean, wide, precise = prior.means[k], prior.covariances[k], prior.precisions[k]
        space.peaks[k] = prior.peaks[k] - highest
        space.log_weights[k] = prior.log_weights[k] - highest - math.log(xx * yy)
        space.means[k, 0] = (mean[0] - x) / xx
        space.means[k, 1] = (mean[1] - y - tilt * (mean[0] - x)) / yy
        space.covariances[k, 0] = wide[0] / (xx * xx)
        space.covariances[k, 1] = (wide[1] - tilt * wide[0]) / (xx * yy)
        space.covariances[k, 2] = (wide[2] - 2 * tilt * wide[1] + tilt * tilt * wide[0]) / (yy * yy)
        space.precisions[k, 0] = xx * xx * precise[0] + 2 * xx * yx * precise[1] + yx * yx * precise[2]
        space.precisions[k, 1] = yy * (xx * precise[1] + yx * precise[2])
        space.precisions[k, 2] = yy * yy * precise[2]
    return first_of(space, count)


@borrowing
def fill_framed(seen: Seen, b: int, frame: Frame, framed: Framed) -> int:
    """Fill the observations of a problem; returns how many there are."""
    some = 0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            _fill_place(seen, b, n, frame, framed, some)
            _fill_heights(seen, b, n, framed, some)
            some += 1
    return some


@borrowing
def _fill_place(seen: Seen, b: int, n: int, frame: Frame, framed: Framed, into: int) -> None:
    x, y, xx, yx, yy = frame
    framed.kinds[into] = seen.kind[b, n]
    for r in range(2):
        first, second = seen.matrix[b, n, r, 0], seen.matrix[b, n, r, 1]
        framed.matrices[into, 2 * r] = first * xx + second * yx
        framed.matrices[into, 2 * r + 1] = second * yy
        framed.origins[into, r] = seen.origin[b, n, r] - first * x - second * y
        framed.values[into, r] = seen.value[b, n, r]
    first, second = seen.heading[b, n, 0], seen.heading[b, n, 1]
    framed.headings[into, 0], framed.headings[into, 1] = first * xx + second * yx, second * yy
    if seen.kind[b, n] == ANGLE:
        framed.values[into, 0] += first * x + second * y
    framed.scales[into] = 1 / seen.deviation[b, n]


@borrowing
def _fill_heights(seen: Seen, b: int, n: int, framed: Framed, into: int) -> None:
    inlier = seen.log_inlier[b, n] - seen.constant[b, n]
    outlier, slope = seen.log_outlier[b, n] + seen.outlier[b, n], 0.0
    if seen.kind[b, n] == LINEAR:
        outlier = seen.log_outlier[b, n] - seen.constant[b, n] - seen.rows[b, n] * LOG_WIDE
        slope = -0.5 / WIDE_OUTLIER**2
    top = log_sum(inlier, outlier)
    framed.inliers[into] = inlier - top
    framed.outliers[into] = max(outlier - top, LOWEST)
    framed.slopes[into] = slope


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
def fill_density(
    seen: Seen, b: int, prior: Prior, x: Array, y: Array, count: int, space: DensitySpace, into: Array
) -> None:
    """Fill the log of prior × likelihood at the first `count` points."""
    logs, highest, squared, product = space
    for p in range(count):
        highest[p], into[p], product[p] = LOWEST, 0.0, 1.0
    for k in range(len(prior.peaks)):
        _fill_component(prior.peaks[k], prior.means[k], prior.precisions[k], x, y, count, logs[k], highest)
    for k in range(len(prior.peaks)):
        _add_component(logs[k], highest, count, into)
    _take_logarithm(highest, count, into)
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            if seen.kind[b, n] == LINEAR:
                _see_linear(seen, b, n, x, y, count, squared)
            elif seen.kind[b, n] == ANGLE:
                _see_angle(seen, b, n, x, y, count, squared)
            else:
                _see_range(seen, b, n, x, y, count, squared)
            _add_observation(seen, b, n, squared, count, product, into)
    for p in range(count):
        into[p] += logarithm(product[p])


@fusing
def _fill_component(
    peak: float, mean: Array, precision: Array, x: Array, y: Array, count: int, logs: Array, highest: Array
) -> None:
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
def _take_logarithm(highest: Array, count: int, into: Array) -> None:
    for p in range(count):
        into[p] = highest[p] + logarithm(into[p])


@fusing
def _see_linear(seen: Seen, b: int, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    one, other = seen.value[b, n, 0] + seen.origin[b, n, 0], seen.value[b, n, 1] + seen.origin[b, n, 1]
    matrix = seen.matrix[b, n]
    m00, m01, m10, m11 = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    for p in range(count):
        left, right = one - m00 * x[p] - m01 * y[p], other - m10 * x[p] - m11 * y[p]
        squared[p] = left * left + right * right


@fusing
def _see_range(seen: Seen, b: int, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    value, scale = seen.value[b, n, 0], 1 / seen.deviation[b, n]
    east, north, matrix = seen.origin[b, n, 0], seen.origin[b, n, 1], seen.matrix[b, n]
    m00, m01, m10, m11 = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    for p in range(count):
        first, second = m00 * x[p] + m01 * y[p] - east, m10 * x[p] + m11 * y[p] - north
        off = (value - math.sqrt(first * first + second * second + SOFT)) * scale
        squared[p] = off * off


@fusing
def _see_angle(seen: Seen, b: int, n: int, x: Array, y: Array, count: int, squared: Array) -> None:
    value, scale = seen.value[b, n, 0], 1 / seen.deviation[b, n]
    east, north, matrix = seen.origin[b, n, 0], seen.origin[b, n, 1], seen.matrix[b, n]
    m00, m01, m10, m11 = matrix[0, 0], matrix[0, 1], matrix[1, 0], matrix[1, 1]
    h0, h1 = seen.heading[b, n, 0], seen.heading[b, n, 1]
    for p in range(count):
        first, second = m00 * x[p] + m01 * y[p] - east, m10 * x[p] + m11 * y[p] - north
        off = within_half_a_turn(value + h0 * x[p] + h1 * y[p] - arctangent(second, first)) * scale
        squared[p] = off * off


@borrowing
def _add_observation(
    seen: Seen, b: int, n: int, squared: Array, count: int, product: Array, into: Array
) -> None:
    """Add the larger of an inlier's and an outlier's log density, and multiply the rest in."""
    best, constant, slope = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n], 0.0
    if constant == -math.inf:
        for p in range(count):
            into[p] += best - 0.5 * squared[p]
        return
    if seen.kind[b, n] == LINEAR:
        slope = -0.5 / WIDE_OUTLIER**2
        constant -= seen.constant[b, n] + seen.rows[b, n] * LOG_WIDE
    else:
        constant += seen.outlier[b, n]
    _add_either(best, constant, slope, squared, count, product, into)


@fusing
def _add_either(
    best: float, constant: float, slope: float, squared: Array, count: int, product: Array, into: Array
) -> None:
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
def take(mixtures: Numbers, b: int, axes: NDArray[np.int64], centre: Array, prior: Prior) -> int:
    """Fill the components that are present, over the coordinates `axes` less `centre`; returns their number."""
    some, (one, two) = 0, (axes[0], axes[1])
    for k in range(mixtures.log_weights.shape[1]):
        weight, covariance = mixtures.log_weights[b, k], mixtures.covariances[b, k]
        if weight == -math.inf:
            continue
        xx, xy, yy = covariance[one, one], covariance[two, one], covariance[two, two]
        determinant = xx * yy - xy * xy
        prior.log_weights[some] = weight - LOG_TWO_PI
        prior.peaks[some] = weight - LOG_TWO_PI - 0.5 * math.log(determinant)
        prior.means[some, 0] = mixtures.means[b, k, one] - centre[0]
        prior.means[some, 1] = mixtures.means[b, k, two] - centre[1]
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
