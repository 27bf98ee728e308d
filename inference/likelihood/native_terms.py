"""One observation at one point: log likelihood and linearisation, compiled for the processor.

A reported value is ``z = h(x) + e``, in one of the forms that `observations` lists. Of a scalar one with an inlier's
noise ``Σ_c w_c N(b_c, (ρ_c σ(x))²)`` and ``σ(x) = σ₀ + s |h(x)|``, linearisation takes the Gaussian that has the slope
of the log density at the residual (see `noise`). All quantities are in units of its deviation.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_functions import (
    SOFT,
    derivatives_of,
    value_of,
)
from beliefstream.inference.likelihood.observation_data import ANGLE, FUNCTION, LINEAR
from beliefstream.inference.mixtures.native import borrowing, inner

Array = NDArray[np.float64]
Count = NDArray[np.int64]
Bits = NDArray[np.bool_]
Terms = tuple[float, float, float, float]
Triple = tuple[float, float, float]
Shapes = tuple[
    Array, Array, Array, Array
]  # gradient (D,), information (D, D), curvature (D, D) and slope (D,)

WIDE_OUTLIER = 10.0  # an outlier of a linear sensor has ten times the standard deviation
LOG_WIDE = math.log(WIDE_OUTLIER)
NEGLIGIBLE = 40.0  # nats; less than rounding beside the larger of two terms
# limits, in units of the noise: of a function's residual and slope, and of every curvature
FAR, STEEP, BENT = 1e6, 1e6, 1e9


class Product(NamedTuple):
    """The exact form of a report with an error e of its sensor that multiplies, beside the linearised one.

    It is ``z = h + slope (h − reference) (e − estimate) + shift + n``, in the unit of h.

    Attributes:
        coordinate: of e.
        estimate: of e, where it is linearised.
        slope: by which a unit of e changes a unit of h.
        reference: what is not multiplied.
        shift: of the linearised form.
        independent: share of n in the variance of the linearised form; the rest is that of the product of what h and e
            differ from their predictions.
    """

    coordinate: float
    estimate: float
    slope: float
    reference: float
    shift: float
    independent: float


NO_PRODUCT = Product(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
INDEPENDENT = 5  # its place


class Seen(NamedTuple):
    """Numbers of a batch of observations, ``(B, N, ...)``."""

    kind: Count
    mask: Bits
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
    slope: Array  # of the deviation by |h(x)|
    noise: Array  # (B, N, C, 3) log weight, bias and ratio of each component; C is 0 where all noise is one Gaussian
    wraps: Bits  # whether the value is an angle
    function: Count  # code of `native_functions`
    parameters: Array  # (B, N, Q) of the function
    hidden: Count  # how many of the last coordinates are errors of sensors
    product: Array  # (B, N, 6), a `Product` each


class Residual(NamedTuple):
    """Where a point is beside a sensor and what it reports."""

    distance: float  # to the sensor
    signed: float  # reported less expected value, in units of the deviation
    deviation: float  # of the noise


class Space(NamedTuple):
    """Space for the arithmetic of one observation."""

    relative: Array  # (R,) coordinates relative to the sensor
    matrix: Array  # (R, d) in the frame of a point
    heading: Array  # (d,)
    gradient: Array  # (R,) of a function
    hessian: Array  # (R, R)


def rows_of(seen: Seen, index: NDArray[np.int64]) -> Seen:
    """The observations of the entities at `index`."""
    return Seen._make(part[index] for part in seen)


def smallest() -> tuple[Seen, Tensor, Tensor]:
    """One observation, point and factor, to compile a function with."""
    ones, one = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, 1, dtype=torch.float64)
    kind = torch.zeros(1, 1, dtype=torch.int64)
    plain = (one, one[..., None], one, one, ones, ones, ones, ones, ones, ones, 0 * ones)
    rest = (torch.zeros(1, 1, 0, 3, dtype=torch.float64), kind > 0, kind, one, kind)
    product = torch.tensor([[NO_PRODUCT]], dtype=torch.float64)
    return Seen(*(part.numpy() for part in (kind, kind == 0, *plain, *rest, product))), one, one[..., None]


@inner
def new_space(seen: Seen) -> Space:
    """Space for the arithmetic of one observation."""
    rows, size = seen.matrix.shape[2:]
    return Space(
        np.empty(rows), np.empty((rows, size)), np.empty(size), np.empty(rows), np.empty((rows, rows))
    )


@borrowing
def linearise_at(
    seen: Seen, b: int, n: int, point: Array, factor: Array, space: Space, into: Shapes
) -> tuple[Terms, float]:
    """Fill gradient ``Jᵀe``, information ``JᵀJ``, curvature ``∇²h`` and slope ``J`` of one observation.

    They are in the frame ``x = point + factor · y``. Returns what `terms_and_deviation` does.
    """
    distance = relative_to(seen, b, n, point, space.relative)
    numbers, deviation = terms_and_deviation(seen, b, n, point, space.relative, distance)
    fill_shapes(seen, b, n, factor, Residual(distance, numbers[0], deviation), space, into)
    return numbers, deviation


@borrowing
def scalar_residual(seen: Seen, b: int, n: int, point: Array, space: Space) -> float:
    """Residual of one observation that is not linear, in units of its deviation σ₀."""
    distance = relative_to(seen, b, n, point, space.relative)
    off = difference(seen, b, n, point, space.relative, distance)
    scaled: float = off / seen.deviation[b, n]
    return scaled


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
def difference(seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float) -> float:
    """``z − h(x)`` of one observation that is not linear, wrapped, in the units of its value."""
    value, turn = seen.value[b, n, 0], 0.0
    if turns(seen, b, n, len(relative)):
        for j in range(len(point)):
            turn += seen.heading[b, n, j] * point[j]
    value += turn
    if seen.kind[b, n] == FUNCTION:
        predicted = value_of(seen.function[b, n], seen.parameters[b, n], relative)
        return of_function(seen, b, n, value - predicted)
    if seen.kind[b, n] == ANGLE and len(relative) > 1:
        return wrapped(value - math.atan2(relative[1], relative[0]))
    off: float = value - distance
    return off


@borrowing
def turns(seen: Seen, b: int, n: int, rows: int) -> bool:
    """Whether the heading of an observation may differ from zero."""
    return seen.hidden[b, n] > 0 or (seen.kind[b, n] == ANGLE and rows > 1)


@borrowing
def of_function(seen: Seen, b: int, n: int, off: float) -> float:
    """The difference to a function's value, wrapped and limited; what is not a number is as far off as can be."""
    off = wrapped(off) if seen.wraps[b, n] else off
    most: float = FAR * seen.deviation[b, n]
    return min(max(off, -most), most) if off == off else most


@borrowing
def terms_and_deviation(
    seen: Seen, b: int, n: int, point: Array, relative: Array, distance: float
) -> tuple[Terms, float]:
    """Signed and squared residual, log likelihoods of an inlier and an outlier with their probabilities; the deviation.

    The signed residual is in units of that deviation.
    """
    constant = seen.constant[b, n]
    if seen.kind[b, n] == LINEAR:
        squared = 0.0
        for r in range(len(relative)):
            off = seen.value[b, n, r] - relative[r]
            squared += off * off
        signed = seen.value[b, n, 0] - relative[0] if seen.rows[b, n] == 1.0 else 0.0
        wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - seen.rows[b, n] * LOG_WIDE
        inlier = seen.log_inlier[b, n] - 0.5 * squared - constant
        return (signed, squared, inlier, seen.log_outlier[b, n] + wide), seen.deviation[b, n]
    off = difference(seen, b, n, point, relative, distance)
    signed, deviation, density = effective_noise(seen, b, n, off)
    inlier = seen.log_inlier[b, n] + density - constant
    outlier = seen.log_outlier[b, n] + seen.outlier[b, n]
    return (signed, signed * signed, inlier, outlier), deviation


@borrowing
def effective_noise(seen: Seen, b: int, n: int, off: float) -> Triple:
    """The Gaussian that replaces the noise at a residual, as `noise.effective`.

    Returns the residual over its own deviation, this deviation, and the log density over that of ``N(0, σ₀²)`` at zero.
    """
    deviation = spread_at(seen, b, n, off)
    if seen.noise.shape[2] == 0:
        signed = off / deviation
        if seen.slope[b, n] == 0:
            return signed, deviation, -0.5 * signed * signed
        return signed, deviation, -0.5 * signed * signed - math.log(deviation / seen.deviation[b, n])
    growth = math.log(deviation / seen.deviation[b, n])
    highest, total, precision, pull = -math.inf, 0.0, 0.0, 0.0
    for again in range(2):
        for c in range(seen.noise.shape[2]):
            ratio = seen.noise[b, n, c, 2]
            offset = off - seen.noise[b, n, c, 1]
            offset = wrapped(offset) if seen.wraps[b, n] else offset
            scaled = offset / (deviation * ratio)
            value = seen.noise[b, n, c, 0] - math.log(ratio) - 0.5 * scaled * scaled
            if again == 0:
                highest = value if value > highest else highest
            else:
                share = math.exp(value - highest)
                total += share
                precision += share / (ratio * ratio)
                pull += share * scaled / ratio
    root = 1 / math.sqrt(precision / total)
    return pull / total * root, deviation * root, highest + math.log(total) - growth


@borrowing
def spread_at(seen: Seen, b: int, n: int, off: float) -> float:
    """The deviation ``σ(x) = σ₀ + s |h(x)|`` where the residual is `off`."""
    deviation: float = seen.deviation[b, n]
    if seen.slope[b, n] == 0:
        return deviation
    expected = seen.value[b, n, 0] - off
    expected = wrapped(expected) if seen.wraps[b, n] else expected
    deviation += seen.slope[b, n] * abs(expected)
    return deviation


@borrowing
def fill_shapes(
    seen: Seen, b: int, n: int, factor: Array, residual: Residual, space: Space, into: Shapes
) -> None:
    """Fill gradient, information, curvature and slope in the frame of `factor`, after `relative_to`."""
    distance, signed, deviation = residual
    relative, matrix, heading = space.relative, space.matrix, space.heading
    rows, size = matrix.shape
    for j in range(size):
        for r in range(rows):
            matrix[r, j] = 0.0
            for i in range(size):
                matrix[r, j] += seen.matrix[b, n, r, i] * factor[i, j]
    turned = turns(seen, b, n, rows)
    for j in range(size):
        heading[j] = 0.0
        if turned:
            for i in range(size):
                heading[j] += seen.heading[b, n, i] * factor[i, j]
    if seen.kind[b, n] == FUNCTION:
        parameters = seen.parameters[b, n]
        derivatives_of(seen.function[b, n], parameters, relative, space.gradient, space.hessian)
        _function(matrix, heading, space.gradient, space.hessian, deviation, signed, into)
    elif seen.kind[b, n] == ANGLE and rows > 1:
        angle(matrix, heading, relative, deviation, signed, into)
    else:
        length(matrix, heading, relative, distance, deviation, signed, into)
    if seen.kind[b, n] == LINEAR:
        _straight(matrix, relative, seen.value[b, n], into)


@borrowing
def _function(
    matrix: Array,
    heading: Array,
    by_place: Array,
    hessian: Array,
    deviation: float,
    signed: float,
    into: Shapes,
) -> None:
    """Effect of a function, by the chain rule: ``J = ∇fᵀ A L − cᵀL`` and ``(A L)ᵀ ∇²f A L``."""
    gradient, information, curvature, slope = into
    for i in range(len(slope)):
        slope[i] = 0.0
        for r in range(len(by_place)):
            slope[i] += by_place[r] * matrix[r, i]
        slope[i] = limited(slope[i] - heading[i], STEEP * deviation)
        for j in range(i + 1):
            total = 0.0
            for r in range(len(by_place)):
                part = 0.0
                for q in range(len(by_place)):
                    part += hessian[r, q] * matrix[q, j]
                total += matrix[r, i] * part
            curvature[i, j] = curvature[j, i] = limited(total / deviation, BENT)
    _scale(deviation, signed, gradient, information, slope)


@borrowing
def length(
    matrix: Array,
    heading: Array,
    relative: Array,
    distance: float,
    deviation: float,
    signed: float,
    into: Shapes,
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
            curvature[i, j] = curvature[j, i] = limited(bent, BENT)
    for j in range(size):
        slope[j] -= heading[j]
    _scale(deviation, signed, gradient, information, slope)


@borrowing
def angle(
    matrix: Array, heading: Array, relative: Array, deviation: float, signed: float, into: Shapes
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
            curvature[i, j] = curvature[j, i] = limited(bent, BENT)
    for j in range(size):
        slope[j] -= heading[j]
    _scale(deviation, signed, gradient, information, slope)


@borrowing
def limited(value: float, most: float) -> float:
    """A number between ±`most`; what is not a number stays so."""
    return min(max(value, -most), most) if value == value else value


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
def _straight(matrix: Array, relative: Array, value: Array, into: Shapes) -> None:
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
