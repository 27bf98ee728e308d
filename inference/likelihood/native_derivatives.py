"""First and second derivatives of the kinds of sensors, for `native_observations`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing

Array = NDArray[np.float64]

SOFT, BENT = 1e-24, 1e9  # as in `observations`


@borrowing
def length(
    matrix: Array,
    relative: Array,
    distance: float,
    deviation: float,
    signed: float,
    into: tuple[Array, Array, Array, Array],
) -> None:
    """Effect of a distance, from the derivative `matrix` of the coordinates."""
    gradient, information, curvature, slope = into
    size = len(gradient)
    for j in range(size):
        slope[j] = 0.0
        for r in range(len(relative)):
            slope[j] += matrix[r, j] * (relative[r] / distance)
    for i in range(size):
        for j in range(i + 1):
            total = 0.0
            for r in range(len(relative)):
                total += matrix[r, i] * matrix[r, j]
            bent = (total - slope[i] * slope[j]) / (distance * deviation)
            curvature[i, j] = curvature[j, i] = bounded(bent)
    _scale(deviation, signed, gradient, information, slope)


@borrowing
def angle(
    matrix: Array,
    heading: Array,
    relative: Array,
    deviation: float,
    signed: float,
    into: tuple[Array, Array, Array, Array],
) -> None:
    """Effect of an angle in the plane of the first two rows."""
    gradient, information, curvature, slope = into
    size = len(gradient)
    first, second = relative[0], relative[1]
    squared = first * first + second * second + SOFT
    for j in range(size):
        slope[j] = (matrix[1, j] * first - matrix[0, j] * second) / squared
        gradient[j] = (matrix[0, j] * first + matrix[1, j] * second) / squared
    for i in range(size):
        for j in range(i + 1):
            bent = -(gradient[i] * slope[j] + gradient[j] * slope[i]) / deviation
            curvature[i, j] = curvature[j, i] = bounded(bent)
    for j in range(size):
        slope[j] -= heading[j]
    _scale(deviation, signed, gradient, information, slope)


@borrowing
def bounded(bent: float) -> float:
    """A curvature, limited close to a sensor; what is not a number stays so."""
    return min(max(bent, -BENT), BENT) if bent == bent else bent


@borrowing
def _scale(deviation: float, signed: float, gradient: Array, information: Array, slope: Array) -> None:
    """Divide a slope by the deviation, and fill gradient and information with it."""
    for j in range(len(slope)):
        slope[j] /= deviation
        gradient[j] = slope[j] * signed
    for i in range(len(slope)):
        for j in range(len(slope)):
            information[i, j] = slope[i] * slope[j]


@borrowing
def straight(matrix: Array, relative: Array, value: Array, into: tuple[Array, Array, Array, Array]) -> None:
    """Effect of a linear observation; the slope stays that of a distance."""
    gradient, information, curvature, _ = into
    for i in range(len(gradient)):
        gradient[i] = 0.0
        for r in range(len(relative)):
            gradient[i] += matrix[r, i] * (value[r] - relative[r])
        for j in range(len(gradient)):
            curvature[i, j] = information[i, j] = 0.0
            for r in range(len(relative)):
                information[i, j] += matrix[r, i] * matrix[r, j]
