"""The cells that a subdivision of the plane begins with, for `joint`."""

from __future__ import annotations

from beliefstream.inference.likelihood.native_terms import Array
from beliefstream.inference.mixtures.native import borrowing

Frame = tuple[float, float, float, float, float]  # a place, and a lower factor: x, y, xx, yx, yy

LEVELS = 4  # of the first cells, which are the same for all problems: 16 × 16
REACH = 24.0  # half the side that they cover, in standard deviations of the prior


@borrowing
def first_cells(places: Array, halves: Array) -> int:
    """Fill the first cells, in the order of a subdivision; how many there are."""
    side = 1 << LEVELS
    half = REACH / side
    for c in range(side * side):
        row, column = 0, 0
        for level in range(LEVELS):
            row |= ((c >> (2 * level + 1)) & 1) << level
            column |= ((c >> (2 * level)) & 1) << level
        places[c, 0], places[c, 1] = half * (2 * row + 1) - REACH, half * (2 * column + 1) - REACH
        halves[c, 0] = halves[c, 1] = half
    return side * side
