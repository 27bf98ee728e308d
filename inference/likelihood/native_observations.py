"""`inference.likelihood.observations` for the processor: one point and observation after another, without operators.

It takes observations with plain noise and without functions. Everything is computed in double precision, and returned
in the precision of the points. Places that the mask leaves out are zero.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_plane import in_plane, terms_in_plane
from beliefstream.inference.likelihood.native_terms import (
    Array,
    Seen,
    linearise_at,
    log_sum,
    new_space,
    relative_to,
    smallest,
    terms,
)
from beliefstream.inference.likelihood.observation_data import ObservationData
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    seen, point, factor = smallest()
    linearise(seen, point, factor)
    residuals(seen, point)


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
        *(array(number) for number in numbers),
    )


def linearise(observations: Seen, points: Tensor, factors: Tensor) -> tuple[Tensor, ...]:
    """Gradient, information, curvature, slope, and what `residuals` returns, as `Observations.linearise`."""
    shape = (*points.shape[:2], observations.kind.shape[1])
    vector = (*shape, points.shape[2])
    matrix = (*vector, points.shape[2])
    shapes = np.zeros(vector), np.zeros(matrix), np.zeros(matrix), np.zeros(vector)
    numbers = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    _linearise(observations, array(points), array(factors), shapes, numbers)
    return tuple(torch.from_numpy(part).to(points.dtype) for part in (*shapes, *numbers))


def residuals(observations: Seen, points: Tensor) -> tuple[Tensor, ...]:
    """Signed and squared residuals, log odds and log likelihood ``(B, P, N)``, as `Observations.residuals`."""
    shape = (*points.shape[:2], observations.kind.shape[1])
    found = np.zeros(shape), np.zeros(shape), np.zeros(shape), np.zeros(shape)
    _residuals(observations, array(points), found)
    return tuple(torch.from_numpy(part).to(points.dtype) for part in found)


@native
def _linearise(
    seen: Seen,
    points: Array,
    factors: Array,
    shapes: tuple[Array, Array, Array, Array],
    numbers: tuple[Array, Array, Array, Array],
) -> None:
    gradient, information, curvature, slope = shapes
    rows, size = seen.matrix.shape[2:]
    space = new_space(seen)
    for b in range(len(points)):
        for k in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                if not seen.mask[b, n]:
                    continue
                if rows == 2 and size == 2:
                    _put_in_plane(seen, (b, k, n), points, factors, shapes, numbers)
                    continue
                into = (gradient[b, k, n], information[b, k, n], curvature[b, k, n], slope[b, k, n])
                found = linearise_at(seen, b, n, points[b, k], factors[b, k], space, into)
                for part in range(4):
                    numbers[part][b, k, n] = found[part]


@borrowing
def _put_in_plane(
    seen: Seen,
    place: tuple[int, int, int],
    points: Array,
    factors: Array,
    shapes: tuple[Array, Array, Array, Array],
    numbers: tuple[Array, Array, Array, Array],
) -> None:
    gradient, information, curvature, slope = shapes
    b, k, n = place
    f = (factors[b, k, 0, 0], factors[b, k, 0, 1], factors[b, k, 1, 0], factors[b, k, 1, 1])
    found, pull, some, bent, steep = in_plane(seen, b, n, points[b, k, 0], points[b, k, 1], f)
    numbers[0][b, k, n], numbers[1][b, k, n] = found[0], found[1]
    numbers[2][b, k, n], numbers[3][b, k, n] = found[2] - found[3], log_sum(found[2], found[3])
    gradient[b, k, n, 0], gradient[b, k, n, 1] = pull
    slope[b, k, n, 0], slope[b, k, n, 1] = steep
    for filled, three in ((information, some), (curvature, bent)):
        filled[b, k, n, 0, 0], filled[b, k, n, 1, 1] = three[0], three[2]
        filled[b, k, n, 0, 1] = filled[b, k, n, 1, 0] = three[1]


@native
def _residuals(seen: Seen, points: Array, found: tuple[Array, Array, Array, Array]) -> None:
    relative = np.empty(seen.matrix.shape[2])
    for b in range(len(points)):
        for p in range(points.shape[1]):
            for n in range(seen.kind.shape[1]):
                if seen.mask[b, n]:
                    signed, squared, inlier, outlier = _terms(seen, b, n, points, p, relative)
                    found[0][b, p, n], found[1][b, p, n] = signed, squared
                    found[2][b, p, n], found[3][b, p, n] = inlier - outlier, log_sum(inlier, outlier)


@borrowing
def _terms(
    seen: Seen, b: int, n: int, points: Array, p: int, relative: Array
) -> tuple[float, float, float, float]:
    """As `terms`, at one of the points, and without arrays in the plane."""
    if len(relative) == 2 and points.shape[2] == 2:
        return terms_in_plane(seen, b, n, points[b, p, 0], points[b, p, 1])
    return terms(seen, b, n, points[b, p], relative, relative_to(seen, b, n, points[b, p], relative))
