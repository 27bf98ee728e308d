"""Native linearisation of one observation in the plane, in numbers instead of small arrays.

Most problems have two coordinates. This takes a fraction of the time of the loops in `native_terms`.
"""

from __future__ import annotations

import math

from beliefstream.inference.likelihood.native_derivatives import SOFT, bounded
from beliefstream.inference.likelihood.native_terms import LOG_WIDE, WIDE_OUTLIER, Seen, wrapped
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing

Terms = tuple[float, float, float, float]
Pair = tuple[float, float]
Triple = tuple[float, float, float]


@borrowing
def terms_in_plane(seen: Seen, b: int, n: int, x: float, y: float) -> Terms:
    """What `terms` finds at ``(x, y)``."""
    first, second = _relative(seen, b, n, x, y)
    constant = seen.constant[b, n]
    if seen.kind[b, n] == LINEAR:
        left, right = seen.value[b, n, 0] - first, seen.value[b, n, 1] - second
        squared = left * left + right * right
        signed = left if seen.rows[b, n] == 1.0 else 0.0
        outlier = -0.5 * squared / WIDE_OUTLIER**2 - constant - seen.rows[b, n] * LOG_WIDE
    else:
        if seen.kind[b, n] == ANGLE:
            turn = seen.heading[b, n, 0] * x + seen.heading[b, n, 1] * y
            off = wrapped(seen.value[b, n, 0] - (math.atan2(second, first) - turn))
        else:
            off = seen.value[b, n, 0] - math.sqrt(first * first + second * second + SOFT)
        signed = off / seen.deviation[b, n]
        squared = signed * signed
        outlier = seen.outlier[b, n]
    inlier = seen.log_inlier[b, n] - 0.5 * squared - constant
    return signed, squared, inlier, seen.log_outlier[b, n] + outlier


@borrowing
def _relative(seen: Seen, b: int, n: int, x: float, y: float) -> Pair:
    """Coordinates relative to the sensor."""
    first = seen.matrix[b, n, 0, 0] * x + seen.matrix[b, n, 0, 1] * y - seen.origin[b, n, 0]
    second = seen.matrix[b, n, 1, 0] * x + seen.matrix[b, n, 1, 1] * y - seen.origin[b, n, 1]
    return first, second


@borrowing
def in_plane(
    seen: Seen, b: int, n: int, x: float, y: float, f: tuple[float, float, float, float]
) -> tuple[Terms, Pair, Triple, Triple, Pair]:
    """What `parts_at` finds at ``(x, y)``, in the frame ``((f0, f1), (f2, f3))``.

    Returns residuals and log likelihoods, the gradient, the information and the curvature as ``(xx, xy, yy)``, and the
    slope.
    """
    numbers = terms_in_plane(seen, b, n, x, y)
    signed, kind, deviation = numbers[0], seen.kind[b, n], seen.deviation[b, n]
    first, second = _relative(seen, b, n, x, y)
    # derivatives of both by the coordinates of the frame
    m00, m01 = seen.matrix[b, n, 0, 0], seen.matrix[b, n, 0, 1]
    m10, m11 = seen.matrix[b, n, 1, 0], seen.matrix[b, n, 1, 1]
    a0, a1 = m00 * f[0] + m01 * f[2], m00 * f[1] + m01 * f[3]
    b0, b1 = m10 * f[0] + m11 * f[2], m10 * f[1] + m11 * f[3]
    squared_distance = first * first + second * second + SOFT
    if kind == ANGLE:
        across = (
            (b0 * first - a0 * second) / squared_distance,
            (b1 * first - a1 * second) / squared_distance,
        )
        along = ((a0 * first + b0 * second) / squared_distance, (a1 * first + b1 * second) / squared_distance)
        bent = (
            bounded(-2 * along[0] * across[0] / deviation),
            bounded(-(along[1] * across[0] + along[0] * across[1]) / deviation),
            bounded(-2 * along[1] * across[1] / deviation),
        )
        h0 = seen.heading[b, n, 0] * f[0] + seen.heading[b, n, 1] * f[2]
        h1 = seen.heading[b, n, 0] * f[1] + seen.heading[b, n, 1] * f[3]
        slope = ((across[0] - h0) / deviation, (across[1] - h1) / deviation)
    else:
        distance = math.sqrt(squared_distance)
        s0, s1 = (a0 * first + b0 * second) / distance, (a1 * first + b1 * second) / distance
        narrow = distance * deviation
        bent = (
            bounded((a0 * a0 + b0 * b0 - s0 * s0) / narrow),
            bounded((a0 * a1 + b0 * b1 - s0 * s1) / narrow),
            bounded((a1 * a1 + b1 * b1 - s1 * s1) / narrow),
        )
        slope = (s0 / deviation, s1 / deviation)
    if kind == LINEAR:
        left, right = seen.value[b, n, 0] - first, seen.value[b, n, 1] - second
        gradient = (a0 * left + b0 * right, a1 * left + b1 * right)
        information = (a0 * a0 + b0 * b0, a0 * a1 + b0 * b1, a1 * a1 + b1 * b1)
        bent = (0.0, 0.0, 0.0)
    else:
        gradient = (slope[0] * signed, slope[1] * signed)
        information = (slope[0] * slope[0], slope[0] * slope[1], slope[1] * slope[1])
    return numbers, gradient, information, bent, slope
