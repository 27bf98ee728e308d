"""A problem in the frame of its prior, whose axes are those of the cells, for `cells`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import LOG_WIDE, WIDE_OUTLIER, Array, Seen, log_sum
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.update.plane.densities import Prior, first_of

LOWEST = -1e150  # log of nothing, in finite arithmetic


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

LEVELS = 4  # of the first cells, which are the same for all problems: 16 × 16
REACH = 24.0  # half the side that they cover, in standard deviations of the prior


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
