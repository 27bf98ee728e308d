"""`inference.likelihood.observations` for the processor: one point and observation after another, without operators.

It takes observations with plain noise and without functions. Everything is computed in double precision, and returned
in the precision of the points.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_derivatives import SOFT, angle, length, straight
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR, ObservationData
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import inner, native

Array = NDArray[np.float64]
Count = NDArray[np.int64]

WIDE_OUTLIER = 10.0
LOG_WIDE = math.log(WIDE_OUTLIER)


class Seen(NamedTuple):
    """Numbers of a batch of observations, ``(B, N, ...)``."""

    kind: Count
    mask: NDArray[np.bool_]
    value: Array
    matrix: Array
    origin: Array
    heading: Array
    deviation: Array
    rows: Array
    constant: Array  # log normaliser
    log_inlier: Array  # log probability of an inlier
    log_outlier: Array
    outlier: Array  # log density


class Space(NamedTuple):
    """Space for the arithmetic of one observation."""

    relative: Array  # (R,) coordinates relative to the sensor
    matrix: Array  # (R, d) in the frame of a point
    heading: Array  # (d,)


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    ones, one = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    kind = torch.zeros(1, 1, dtype=torch.int64)
    numbers = (one, one[..., None], one, one, ones, ones, ones, ones, ones)
    seen = Seen(*(part.numpy() for part in (kind, kind == 0, *numbers, ones)))
    linearise(seen, one, one[..., None])
    residuals(seen, one)
    log_likelihood(seen, one)


def seen(observations: ObservationData) -> Seen:
    """The numbers of observations, in double precision."""
    rows, probability = observations.rows.double(), observations.outlier_probability.double()
    numbers = (
        observations.value,
        observations.matrix,
        observations.origin,
        observations.heading,
        observations.standard_deviation,
        rows,
        observations.log_scale.double() + 0.5 * rows * LOG_TWO_PI,
        torch.log1p(-probability),
        probability.log(),
        observations.outlier_log_density,
    )
    return Seen(
        observations.kind.contiguous().numpy(),
        observations.mask.contiguous().numpy(),
        *(_array(number) for number in numbers),
    )


def linearise(observations: Seen, points: Tensor, factors: Tensor) -> tuple[Tensor, ...]:
    """Gradient, information, curvature, slope, and what `residuals` returns, as `Observations.linearise`."""
    shape = (*points.shape[:2], observations.kind.shape[1])
    vector = (*shape, points.shape[2])
    matrix = (*vector, points.shape[2])
    shapes = np.empty(vector), np.empty(matrix), np.empty(matrix), np.empty(vector)
    numbers = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    _linearise(observations, _array(points), _array(factors), shapes, numbers)
    return tuple(torch.from_numpy(part).to(points.dtype) for part in (*shapes, *numbers))


def residuals(observations: Seen, points: Tensor) -> tuple[Tensor, ...]:
    """Signed and squared residuals, log odds and log likelihood ``(B, P, N)``, as `Observations.residuals`."""
    shape = (*points.shape[:2], observations.kind.shape[1])
    found = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape)
    _residuals(observations, _array(points), found)
    return tuple(torch.from_numpy(part).to(points.dtype) for part in found)


def log_likelihood(observations: Seen, points: Tensor) -> Tensor:
    """Joint log likelihood ``(B, P)``, as `Observations.log_likelihood`."""
    found = np.zeros(points.shape[:2])
    _log_likelihood(observations, _array(points), found)
    return torch.from_numpy(found).to(points.dtype)


def _array(tensor: Tensor) -> Array:
    double = tensor if tensor.dtype == torch.float64 else tensor.double()
    array: Array = double.contiguous().numpy()
    return array


@native
def _linearise(
    seen: Seen,
    points: Array,
    factors: Array,
    shapes: tuple[Array, Array, Array, Array],
    numbers: tuple[Array, Array, Array, Array],
) -> None:
    gradient, information, curvature, slope = shapes
    space = new_space(seen)
    for b in range(len(points)):
        for k in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                into = (gradient[b, k, n], information[b, k, n], curvature[b, k, n], slope[b, k, n])
                found = linearise_at(seen, b, n, points[b, k], factors[b, k], space, into)
                for part in range(4):
                    numbers[part][b, k, n] = found[part]


@inner
def new_space(seen: Seen) -> Space:
    """Space for the arithmetic of one observation."""
    rows, size = seen.matrix.shape[2:]
    return Space(np.empty(rows), np.empty((rows, size)), np.empty(size))


@inner
def linearise_at(
    seen: Seen,
    b: int,
    n: int,
    point: Array,
    factor: Array,
    space: Space,
    into: tuple[Array, Array, Array, Array],
) -> tuple[float, float, float, float]:
    """Fill gradient, information, curvature and slope of one observation; returns the numbers of `_residual`."""
    relative, matrix, heading = space
    rows, size = matrix.shape
    distance = _relative(seen, b, n, point, relative)
    found = _residual(seen, b, n, point, relative, distance)
    for j in range(size):
        heading[j] = 0.0
        for i in range(size):
            heading[j] += seen.heading[b, n, i] * factor[i, j]
        for r in range(rows):
            matrix[r, j] = 0.0
            for i in range(size):
                matrix[r, j] += seen.matrix[b, n, r, i] * factor[i, j]
    if seen.kind[b, n] == ANGLE and rows > 1:
        angle(matrix, heading, relative, seen.deviation[b, n], found[0], into)
    else:
        length(matrix, relative, distance, seen.deviation[b, n], found[0], into)
    if seen.kind[b, n] == LINEAR:
        straight(matrix, relative, seen.value[b, n], into)
    return found


@inner
def scalar_residual(seen: Seen, b: int, n: int, point: Array, space: Space) -> float:
    """Signed residual of one observation that is not linear, in units of its noise."""
    distance = _relative(seen, b, n, point, space.relative)
    return _scalar(seen, b, n, point, space.relative, distance)


@inner
def _relative(seen: Seen, b: int, n: int, point: Array, relative: Array) -> float:
    """Fill the coordinates relative to the sensor; returns the distance."""
    squared = 0.0
    for r in range(len(relative)):
        total = 0.0
        for j in range(len(point)):
            total += seen.matrix[b, n, r, j] * point[j]
        relative[r] = total - seen.origin[b, n, r]
        squared += relative[r] * relative[r]
    return math.sqrt(squared + SOFT)


@inner
def _scalar(seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float) -> float:
    """Residual of a distance or an angle, in units of its noise."""
    off = seen.value[b, n, 0] - distance
    if seen.kind[b, n] == ANGLE and len(relative) > 1:
        turn = 0.0
        for j in range(len(point)):
            turn += seen.heading[b, n, j] * point[j]
        off = seen.value[b, n, 0] - (math.atan2(relative[1], relative[0]) - turn)
        off = (off + math.pi) % (2 * math.pi) - math.pi
    signed: float = off / seen.deviation[b, n]
    return signed


@inner
def _residual(
    seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float
) -> tuple[float, float, float, float]:
    """Signed and squared residual, log odds of an inlier, and log likelihood."""
    constant = seen.constant[b, n]
    if seen.kind[b, n] == LINEAR:
        squared = 0.0
        for r in range(len(relative)):
            off = seen.value[b, n, r] - relative[r]
            squared += off * off
        signed = seen.value[b, n, 0] - relative[0] if seen.rows[b, n] == 1.0 else 0.0
        density = -0.5 * squared / WIDE_OUTLIER**2 - constant - seen.rows[b, n] * LOG_WIDE
    else:
        signed = _scalar(seen, b, n, point, relative, distance)
        squared = signed * signed
        density = seen.outlier[b, n]
    inlier = seen.log_inlier[b, n] - 0.5 * squared - constant
    outlier = seen.log_outlier[b, n] + density
    odds, likelihood = inlier - outlier, inlier
    if outlier != -math.inf:
        likelihood = max(inlier, outlier) + math.log1p(math.exp(-abs(odds)))
    return signed, squared, odds, likelihood


@native
def _residuals(seen: Seen, points: Array, found: tuple[Array, Array, Array, Array]) -> None:
    relative = np.empty(seen.matrix.shape[2])
    for b in range(len(points)):
        for p in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                distance = _relative(seen, b, n, points[b, p], relative)
                numbers = _residual(seen, b, n, points[b, p], relative, distance)
                for part in range(4):
                    found[part][b, p, n] = numbers[part]


@native
def _log_likelihood(seen: Seen, points: Array, found: Array) -> None:
    relative = np.empty(seen.matrix.shape[2])
    for b in range(len(points)):
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n]:
                for p in range(points.shape[1]):
                    distance = _relative(seen, b, n, points[b, p], relative)
                    found[b, p] += _residual(seen, b, n, points[b, p], relative, distance)[3]
