"""Elementary functions for native loops: unlike those of the C library, they do not keep a loop from vectorising.

All are within a few units in the last place, sine and cosine of what the highest has there.
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
FEW_POWERS = tuple(math.log(2) ** power / math.factorial(power) for power in range(8, -1, -1))
LOGARITHM = tuple(2 / power for power in range(19, 0, -2))  # of the inverse hyperbolic tangent
TWO_OVER_PI = 2 / math.pi
QUARTER_HIGH, QUARTER_LOW = 1.57079632673412561417, 6.07710050650619224932e-11  # π / 2 in two parts
# series in the square of an angle; that of the sine is times the angle
SINE = tuple((-1) ** (power // 2) / math.factorial(power) for power in range(15, 0, -2))
COSINE = tuple((-1) ** (power // 2) / math.factorial(power) for power in range(16, -1, -2))
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
def roughly_power_of_two(power: float) -> float:
    """``2 ** power``, from −1020 to 1020, off by 3e-10 of it at most."""
    shifted = power + ROUND
    rest = power - (shifted - ROUND)
    series = FEW_POWERS[0]
    for coefficient in FEW_POWERS[1:]:
        series = series * rest + coefficient
    scale: float = np.int64((np.float64(shifted).view(np.int64) + 1023) << 52).view(np.float64)
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


@fusing
def cosine_and_sine(angle: float) -> tuple[float, float]:
    """``cos(angle)`` and ``sin(angle)``, of some thousand turns at most: series within an eighth of a turn."""
    power = angle * TWO_OVER_PI + ROUND
    quarters = power - ROUND
    rest = angle - quarters * QUARTER_HIGH - quarters * QUARTER_LOW
    square, odd, even = rest * rest, SINE[0], COSINE[0]
    for coefficient in SINE[1:]:
        odd = odd * square + coefficient
    for coefficient in COSINE[1:]:
        even = even * square + coefficient
    odd *= rest
    place = np.float64(power).view(np.int64)  # its lowest bits are those of the quarters
    across = place & 1
    cosine, sine = (odd if across else even), (even if across else odd)
    return (-cosine if (place + 1) & 2 else cosine), (-sine if place & 2 else sine)
