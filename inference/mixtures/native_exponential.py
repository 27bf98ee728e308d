"""Elementary functions for compiled loops: unlike those of the C library, they do not keep a loop from vectorising.

All but the rough ones are within a few units in the last place.
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
    log: float = power * LN2_HIGH + (series * ratio + power * LN2_LOW)
    log = log if value < math.inf else value
    return -math.inf if value == 0 else log


SMALLEST = 1e-300
EIGHTH = math.sqrt(2) - 1  # tangent of an eighth of half a turn
# (atan r / r − 1) / r² by powers of r², for r between zero and `EIGHTH`; Chebyshev's fit, off by 5e-18
ARCTANGENT = (
    -0.0191768861892540461,
    0.0392316574565930607,
    -0.0508544970548886196,
    0.0585814890577566669,
    -0.0666451144644889591,
    0.076921831907478266,
    -0.0909090457811978597,
    0.111111110152562315,
    -0.142857142846665407,
    0.199999999999955207,
    -0.333333333333333302,
)


@fusing
def arctangent(y: float, x: float) -> float:
    """``atan2(y, x)`` of finite numbers, within a few units in the last place."""
    flat, steep = abs(x), abs(y)
    small, large = (flat, steep) if flat < steep else (steep, flat)
    large = SMALLEST if large < SMALLEST else large
    # atan t = π/4 + atan((t − 1) / (t + 1))
    wide = small > EIGHTH * large
    above, below = (small - large, small + large) if wide else (small, large)
    ratio = above / below
    square, series = ratio * ratio, ARCTANGENT[0]
    for coefficient in ARCTANGENT[1:]:
        series = series * square + coefficient
    angle = ratio + ratio * (square * series)
    angle = 0.25 * math.pi + angle if wide else angle
    angle = 0.5 * math.pi - angle if flat < steep else angle
    angle = math.pi - angle if x < 0 else angle
    return math.copysign(angle, y)


@fusing
def within_half_a_turn(angle: float) -> float:
    """The angle between −π and π, both of which may be found."""
    turns = angle * (0.5 / math.pi) + ROUND
    return angle - (turns - ROUND) * (2 * math.pi)
