"""Exponential and logarithm for native loops: unlike those of the C library, they do not keep a loop from vectorising.

Both are within a few units in the last place.
"""

from __future__ import annotations

import math

import numpy as np

from beliefstream.inference.mixtures.native import fusing

UNDERFLOW = -708.0  # the exponential of less is no normal number
LOG2_E = 1 / math.log(2)
LN2 = math.log(2)
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10  # ln 2 in two parts
ROUND = 1.5 * 2.0**52  # once added, the lowest bits are the nearest integer
EXPONENTIAL = tuple(1 / math.factorial(power) for power in range(12, -1, -1))
FEW_EXPONENTIAL = EXPONENTIAL[-7:]
LOGARITHM = tuple(2 / power for power in range(19, 0, -2))  # of the inverse hyperbolic tangent
ROOT_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))


@fusing
def exponential(value: float) -> float:
    """``exp(value)``, from `UNDERFLOW` to 709: two to a whole power, times a series."""
    power = value * LOG2_E + ROUND
    whole = power - ROUND
    rest = value - whole * LN2_HIGH - whole * LN2_LOW
    series = EXPONENTIAL[0]
    for coefficient in EXPONENTIAL[1:]:
        series = series * rest + coefficient
    # the bits of a number, and the number of these bits
    scale: float = np.int64((np.float64(power).view(np.int64) + 1023) << 52).view(np.float64)
    return series * scale


@fusing
def roughly_exponential(value: float) -> float:
    """As `exponential`, off by a ten-millionth of it at most."""
    power = value * LOG2_E + ROUND
    rest = value - (power - ROUND) * LN2
    series = FEW_EXPONENTIAL[0]
    for coefficient in FEW_EXPONENTIAL[1:]:
        series = series * rest + coefficient
    scale: float = np.int64((np.float64(power).view(np.int64) + 1023) << 52).view(np.float64)
    return series * scale


@fusing
def logarithm(value: float) -> float:
    """``log(value)`` of a normal number; −∞ of zero, and what is infinite or not a number stays so."""
    bits = np.float64(value).view(np.int64)
    power = (bits - ROOT_BITS) >> 52
    # from the root of a half to that of two
    part = np.int64(bits - (power << 52)).view(np.float64)
    ratio = (part - 1) / (part + 1)
    square, series = ratio * ratio, LOGARITHM[0]
    for coefficient in LOGARITHM[1:]:
        series = series * square + coefficient
    found: float = power * LN2_HIGH + (series * ratio + power * LN2_LOW)
    found = found if value < math.inf else value
    return -math.inf if value == 0 else found
