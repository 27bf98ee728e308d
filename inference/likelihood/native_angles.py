"""Angles for native loops: unlike the C library's arctangent, they do not keep a loop from vectorising."""

from __future__ import annotations

import math

from beliefstream.inference.mixtures.native import fusing
from beliefstream.inference.mixtures.native_exponential import ROUND

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
    found = ratio + ratio * (square * series)
    found = 0.25 * math.pi + found if wide else found
    found = 0.5 * math.pi - found if flat < steep else found
    found = math.pi - found if x < 0 else found
    return math.copysign(found, y)


@fusing
def within_half_a_turn(angle: float) -> float:
    """The angle between −π and π, both of which may be found."""
    turns = angle * (0.5 / math.pi) + ROUND
    return angle - (turns - ROUND) * (2 * math.pi)
