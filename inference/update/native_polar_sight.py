"""One observation and its prior in the plane around the sensor, for `native_polar_quadrature`."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import ANGLE, RANGE
from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.update.native_polar_answers import Plane, put_moments, see
from beliefstream.inference.update.native_polar_lines import Sensor
from beliefstream.inference.update.native_polar_space import Sight
from beliefstream.inference.update.native_polar_work import Work
from beliefstream.inference.update.polar_rules import TRUNCATED

Places = NDArray[np.int64]

FLAT = 1e-9  # of a matrix: its determinant, beside its largest entry squared


@borrowing
def sight_of(seen: Seen, b: int, axes: Places, plane: Plane) -> tuple[Sight, bool]:
    """The only observation of a problem, and whether it is a range or a bearing in the plane; fills the plane."""
    n = 0
    while not seen.mask[b, n]:
        n += 1
    inlier, outlier = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n] + seen.outlier[b, n]
    kind = seen.kind[b, n]
    sensor = Sensor(kind == ANGLE, seen.value[b, n, 0], seen.deviation[b, n])
    sight = Sight(sensor, inlier, outlier)
    fits = kind == ANGLE or (kind == RANGE and sensor.value > TRUNCATED * sensor.deviation)
    matrix, largest = seen.matrix[b, n], 0.0
    if len(matrix) < 2:
        return sight, False
    for i in range(matrix.shape[1]):
        fits = fits and seen.heading[b, n, i] == 0
        for r in range(len(matrix)):
            largest = max(largest, abs(matrix[r, i]))
            fits = fits and (r < 2 or (matrix[r, i] == 0 and seen.origin[b, n, r] == 0))
        for r in range(2):
            plane.matrix[r, i] = matrix[r, i]
    one, other = matrix[0, axes[0]], matrix[0, axes[1]]
    low, last = matrix[1, axes[0]], matrix[1, axes[1]]
    determinant = one * last - other * low
    for r in range(2):
        plane.origin[r], plane.axes[r] = seen.origin[b, n, r], axes[r]
    plane.inverse[0, 0], plane.inverse[0, 1] = last / determinant, -other / determinant
    plane.inverse[1, 0], plane.inverse[1, 1] = -low / determinant, one / determinant
    return sight, fits and abs(determinant) > FLAT * largest * largest


@borrowing
def see_prior(prior: Numbers, b: int, work: Work) -> int:
    """Fill the prior in the plane; how many components it has."""
    count = 0
    while count < prior.means.shape[1] and prior.log_weights[b, count] > -math.inf:
        put_moments(work.plane, prior.means[b, count], prior.covariances[b, count], work.moments[count])
        count += 1  # absent components are last
    see(prior.log_weights[b], work.moments, count, work.answer, work.answer.prior)
    return count
