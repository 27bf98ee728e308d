"""Windows that divide a component's part of a posterior around one sensor, for `native_polar_parts`."""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.update.native_polar_lines import Sensor, mass_at
from beliefstream.inference.update.native_polar_space import MOST_WINDOWS, One, Space, Windows

Sums = tuple[float, float, float, float, float, float]  # mass, and first and second moments

LOSS = 0.002  # nats that windows may lose by their bend
STRAIGHT = 1.2  # as long as a component may be beside its windows, to have none
SPACING = 1.6  # of windows, in their standard deviations
TOO_LONG = 1.35  # times as long windows of a ring lose more than three times as much
MARGIN = 10.0  # nats below the highest panel of a component, within which its windows lie
LEAST_DISTANCE = 1e-3  # of a panel's centre, from which its logarithm is taken
BESIDE = 5  # windows on each side of the nearest one; the next ones have less than rounding beside it
EDGES = tuple(math.exp(-0.5 * (SPACING * steps) ** 2) for steps in range(BESIDE + 1))
FARTHEST = 40.0  # deviations from the nearest window, from where it has all


class Division(NamedTuple):
    """Windows of a component along the outer coordinate, for a beam along its logarithm."""

    windows: int
    low: float
    each: float
    deviation: float
    is_short: bool  # whether they are as short as they should be, or nearly


@borrowing
def windows_of(sensor: Sensor, one: One, start: int, end: int, space: Space) -> Division:
    """Windows that are short enough beside the bend: of a ring, beside its width; of a beam, beside the distance."""
    panels, highest = space.panels, -math.inf
    for i in range(start, end):
        highest = max(highest, panels.mass[i])
    low, high, mass, mean, square, width = math.inf, -math.inf, 0.0, 0.0, 0.0, 0.0
    for i in range(start, end):
        weight, centre, half = math.exp(panels.mass[i] - highest), panels.centre[i], panels.half[i]
        first, last = centre - half, centre + half
        width += weight * mass_at(sensor, one.part, centre)[1]
        if sensor.is_angle:
            first, last = math.log(max(first, LEAST_DISTANCE * centre)), math.log(last)
            half, centre = half / centre, math.log(centre)
        mass += weight
        mean += weight * centre
        square += weight * (centre * centre + half * half / 3)
        if panels.mass[i] > highest - MARGIN:
            low, high = min(low, first), max(high, last)
    spread = math.sqrt(max(square / mass - (mean / mass) ** 2, 0.0))
    deviation = math.sqrt(LOSS / one.share)
    if not sensor.is_angle:
        # an arc of standard deviation t on a ring of radius r and width s loses about (r t² / 2 s)² nats
        deviation = math.sqrt(2 * deviation * width / mass / sensor.value)
    if spread < STRAIGHT * deviation:
        return Division(1, low, high - low, math.inf, True)
    count = max(1, int(min(float(MOST_WINDOWS), math.ceil((high - low) / (SPACING * deviation)))))
    each = (high - low) / count
    return Division(count, low, each, each / SPACING, each < TOO_LONG * SPACING * deviation)


@borrowing
def share_out(place: float, sums: Sums, division: Division, windows: Windows) -> None:
    """Add a line to the windows of its component, by their densities there.

    Windows are `SPACING` apart, so that the density of the next one follows from that of one by multiplication.
    """
    count, shares = division.windows, windows.shares
    if count == 1:
        for i in range(6):
            windows.sums[0, i] += sums[i]
        return
    at = (place - division.low) / division.each - 0.5
    nearest = max(0, min(count - 1, int(max(-1.0, min(float(count), at)) + 0.5)))
    off = max(-FARTHEST, min(FARTHEST, SPACING * (at - nearest)))
    first, last = max(0, nearest - BESIDE), min(count, nearest + BESIDE + 1)
    ratio, shares[nearest], whole = math.exp(SPACING * off), 1.0, 1.0
    power = 1.0
    for j in range(nearest + 1, last):
        power *= ratio
        shares[j] = power * EDGES[j - nearest]
        whole += shares[j]
    power = 1.0
    for j in range(nearest - 1, first - 1, -1):
        power /= ratio
        shares[j] = power * EDGES[nearest - j]
        whole += shares[j]
    for j in range(first, last):
        share = shares[j] / whole
        for i in range(6):
            windows.sums[j, i] += share * sums[i]
