"""Native functions for one observation at one point; `native_observations` loops over them."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_derivatives import SOFT, angle, length, straight
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing, inner

Array = NDArray[np.float64]
Count = NDArray[np.int64]

WIDE_OUTLIER = 10.0
LOG_WIDE = math.log(WIDE_OUTLIER)
NEGLIGIBLE = 40.0  # nats; less than rounding beside the larger of two terms


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


def smallest() -> tuple[Seen, Tensor, Tensor]:
    """One observation, point and factor, to compile a function with."""
    ones, one = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    kind = torch.zeros(1, 1, dtype=torch.int64)
    numbers = (one, one[..., None], one, one, ones, ones, ones, ones, ones)
    return Seen(*(part.numpy() for part in (kind, kind == 0, *numbers, ones))), one, one[..., None]


@inner
def new_space(seen: Seen) -> Space:
    """Space for the arithmetic of one observation."""
    rows, size = seen.matrix.shape[2:]
    return Space(np.empty(rows), np.empty((rows, size)), np.empty(size))


@borrowing
def linearise_at(
    seen: Seen,
    b: int,
    n: int,
    point: Array,
    factor: Array,
    space: Space,
    into: tuple[Array, Array, Array, Array],
) -> tuple[float, float, float, float]:
    """Fill gradient, information, curvature and slope of one observation.

    Returns the signed and squared residual, the log odds of an inlier, and the log likelihood.
    """
    signed, squared, inlier, outlier = parts_at(seen, b, n, point, factor, space, into)
    return signed, squared, inlier - outlier, log_sum(inlier, outlier)


@borrowing
def parts_at(
    seen: Seen,
    b: int,
    n: int,
    point: Array,
    factor: Array,
    space: Space,
    into: tuple[Array, Array, Array, Array],
) -> tuple[float, float, float, float]:
    """As `linearise_at`, but returns what `terms` does."""
    distance = relative_to(seen, b, n, point, space.relative)
    found = terms(seen, b, n, point, space.relative, distance)
    _fill_shapes(seen, b, n, factor, distance, found[0], space, into)
    return found


@borrowing
def scalar_residual(seen: Seen, b: int, n: int, point: Array, space: Space) -> float:
    """Signed residual of one observation that is not linear, in units of its noise."""
    return _scalar(seen, b, n, point, space.relative, relative_to(seen, b, n, point, space.relative))


@borrowing
def _scalar(seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float) -> float:
    """Residual of a distance or an angle, in units of its noise."""
    off = seen.value[b, n, 0] - distance
    if seen.kind[b, n] == ANGLE and len(relative) > 1:
        turn = 0.0
        for j in range(len(point)):
            turn += seen.heading[b, n, j] * point[j]
        off = wrapped(seen.value[b, n, 0] - (math.atan2(relative[1], relative[0]) - turn))
    signed: float = off / seen.deviation[b, n]
    return signed


@borrowing
def _fill_shapes(
    seen: Seen,
    b: int,
    n: int,
    factor: Array,
    distance: float,
    signed: float,
    space: Space,
    into: tuple[Array, Array, Array, Array],
) -> None:
    """Fill gradient, information, curvature and slope in the frame of `factor`, after `relative_to`."""
    relative, matrix, heading = space
    rows, size = matrix.shape
    for j in range(size):
        heading[j] = 0.0
        for i in range(size):
            heading[j] += seen.heading[b, n, i] * factor[i, j]
        for r in range(rows):
            matrix[r, j] = 0.0
            for i in range(size):
                matrix[r, j] += seen.matrix[b, n, r, i] * factor[i, j]
    if seen.kind[b, n] == ANGLE and rows > 1:
        angle(matrix, heading, relative, seen.deviation[b, n], signed, into)
    else:
        length(matrix, relative, distance, seen.deviation[b, n], signed, into)
    if seen.kind[b, n] == LINEAR:
        straight(matrix, relative, seen.value[b, n], into)


@borrowing
def relative_to(seen: Seen, b: int, n: int, point: Array, relative: Array) -> float:
    """Fill the coordinates relative to the sensor; returns the distance."""
    squared = 0.0
    for r in range(len(relative)):
        total = 0.0
        for j in range(len(point)):
            total += seen.matrix[b, n, r, j] * point[j]
        relative[r] = total - seen.origin[b, n, r]
        squared += relative[r] * relative[r]
    return math.sqrt(squared + SOFT)


@borrowing
def terms(
    seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float
) -> tuple[float, float, float, float]:
    """Signed and squared residual, and the log likelihood of an inlier and of an outlier with their probabilities."""
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
    return signed, squared, seen.log_inlier[b, n] - 0.5 * squared - constant, seen.log_outlier[b, n] + density


@borrowing
def wrapped(angle: float) -> float:
    """The angle between -π and π."""
    if -math.pi <= angle < math.pi:
        return angle
    return (angle + math.pi) % (2 * math.pi) - math.pi


@borrowing
def log_sum(inlier: float, outlier: float) -> float:
    """Log of the sum of two numbers, from their logs."""
    if outlier == -math.inf or inlier - outlier > NEGLIGIBLE:
        return inlier
    if outlier - inlier > NEGLIGIBLE:
        return outlier
    return max(inlier, outlier) + math.log1p(math.exp(-abs(inlier - outlier)))
