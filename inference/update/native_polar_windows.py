"""Windows that divide a component's part of a posterior around one sensor, for `native_polar_parts`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import adding, borrowing, fusing
from beliefstream.inference.mixtures.native_density import FAINTEST
from beliefstream.inference.mixtures.native_exponential import exponential, logarithm
from beliefstream.inference.update.native_polar_lines import Lines, Sensor, mass_at
from beliefstream.inference.update.native_polar_space import MOST_WINDOWS, One, Space, Windows

Array = NDArray[np.float64]
Sums = tuple[float, float, float, float, float, float]  # mass, and first and second moments

LOSS = 0.002  # nats that windows may lose by their bend
STRAIGHT = 1.2  # as long as a component may be beside its windows, to have none
SPACING = 1.6  # of windows, in their standard deviations
TOO_LONG = 1.35  # times as long windows of a ring lose more than three times as much
MARGIN = 10.0  # nats below the highest panel of a component, within which its windows lie
LEAST_DISTANCE = 1e-3  # of a panel's centre, from which its logarithm is taken
LEAST_OF_WIDTH = 1e-3  # of the highest panel, below which the width of one matters little
BESIDE = 5  # windows on each side of the nearest one; the next ones have less than rounding beside it
FARTHEST = 5.0  # windows from the first or last one, from where it has all


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
        if sensor.is_angle:
            first, last = math.log(max(first, LEAST_DISTANCE * centre)), math.log(last)
            half, centre = half / centre, math.log(centre)
        elif weight > LEAST_OF_WIDTH:
            width += weight * mass_at(sensor, one.part, centre)[1]
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


@fusing
def find_sums(share: float, lines: Lines, windows: Windows) -> None:
    """Turn shares of the lines into those of the posterior; shares and moments of each line."""
    total, sums, some = lines.total, windows.lines, lines.some[0]
    for p in range(some):
        total[p] *= share
    sums[:] = 0.0
    for i in range(len(lines.x)):
        x, y, shares = lines.x[i], lines.y[i], lines.shares[i]
        for p in range(some):
            shares[p] *= total[p]
        for p in range(some):
            sums[0, p] += shares[p]
            east, north = shares[p] * x[p], shares[p] * y[p]
            sums[1, p] += east
            sums[2, p] += north
            sums[3, p] += east * x[p]
            sums[4, p] += east * y[p]
            sums[5, p] += north * y[p]


@borrowing
def share_out(is_angle: bool, lines: Lines, division: Division, windows: Windows) -> None:
    """Add lines to the windows of their component, by their densities there."""
    if division.windows == 1:
        _add_all(lines.some[0], windows.lines, windows.sums[0])
        return
    low, high = _find_places(is_angle, lines, division, windows.places)
    first = max(0, int(low) - BESIDE)
    last = min(division.windows, int(high) + BESIDE + 2)
    _find_shares(first, last, lines.some[0], windows)
    for j in range(first, last):
        _add_part(lines.some[0], windows.shares[j], windows.scale, windows.lines, windows.sums[j])


@fusing
def _find_places(is_angle: bool, lines: Lines, division: Division, places: Array) -> tuple[float, float]:
    """Fill places in windows, as numbers of windows; the first and the last."""
    over, count = 1 / division.each, float(division.windows)
    outer, some = lines.outer, lines.some[0]
    for p in range(some):
        places[p] = outer[p]
    if is_angle:
        for p in range(some):
            places[p] = logarithm(places[p])
    low, high = math.inf, -math.inf
    for p in range(some):
        place = (places[p] - division.low) * over - 0.5
        place = place if place > -FARTHEST else -FARTHEST
        place = place if place < count - 1 + FARTHEST else count - 1 + FARTHEST
        places[p] = place
        low, high = min(low, place), max(high, place)
    return max(0.0, low), min(count - 1, high)


@fusing
def _find_shares(first: int, last: int, some: np.uint64, windows: Windows) -> None:
    places, scale = windows.places, windows.scale
    for p in range(some):
        scale[p] = 0.0
    for j in range(first, last):
        shares = windows.shares[j]
        for p in range(some):
            off = SPACING * (places[p] - j)
            below = -0.5 * off * off
            share = exponential(below if below > FAINTEST else FAINTEST)
            shares[p] = share
            scale[p] += share
    for p in range(some):
        scale[p] = 1 / scale[p]


@adding
def _add_all(some: np.uint64, lines: Array, sums: Array) -> None:
    for i in range(len(sums)):
        found, values = 0.0, lines[i]
        for p in range(some):
            found += values[p]
        sums[i] += found


@adding
def _add_part(some: np.uint64, shares: Array, scale: Array, lines: Array, sums: Array) -> None:
    mass, x, y, xx, xy, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for p in range(some):
        share = shares[p] * scale[p]
        mass += share * lines[0, p]
        x += share * lines[1, p]
        y += share * lines[2, p]
        xx += share * lines[3, p]
        xy += share * lines[4, p]
        yy += share * lines[5, p]
    for i, total in enumerate((mass, x, y, xx, xy, yy)):
        sums[i] += total
