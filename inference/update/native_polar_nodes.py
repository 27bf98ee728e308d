"""Panels of one component along a ring or a beam, for `native_polar_quadrature`.

They divide the outer coordinate of the lines (`native_polar_lines`), as finely as the integrand asks for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_exponential import cosine_and_sine
from beliefstream.inference.update.native_polar_lines import (
    Component,
    Lines,
    Rule,
    Sensor,
    component_at,
    fill,
    mass_at,
    take,
)

Array = NDArray[np.float64]

FIRST = 16  # panels to begin with, at most `native_polar_lines.LINES`
MOST_PANELS = 4096  # of one problem
STACK = 256  # panels of one component that wait
HALF_WIDTH = 1.6  # of a panel, in the smallest standard deviation that the integrand may have there
DROPPED = 16.0  # nats below the highest panel of a component
DEEPEST = 2.0**-24  # of the whole, below which no panel is divided
REACH = 7.0  # standard deviations of a component within which its mass lies
NEAR = 0.02  # of a component's distance and width, within which a beam's width need not be resolved


class Panels(NamedTuple):
    """Space for panels: centre, half width and log mass."""

    centre: Array
    half: Array
    mass: Array


@inner
def new_panels(count: int) -> Panels:
    space = np.empty((3, count))
    return Panels(space[0], space[1], space[2])


class Waiting(NamedTuple):
    """Space for panels that may be divided, and the sharpness at both ends; not a number where it is not known."""

    panels: Panels
    left: Array
    right: Array


@inner
def new_waiting(count: int) -> Waiting:
    space = np.empty((2, count))
    return Waiting(new_panels(count), space[0], space[1])


@borrowing
def divide(
    sensor: Sensor,
    part: Component,
    rule: Rule,
    lines: Lines,
    waiting: Waiting,
    into: Panels,
    start: int,
    least: float,
) -> int:
    """Fill the panels of a component from `start`, where it has mass; their end, −1 if there is no space.

    The best of those that wait is divided first, so that the others can be dropped beside it. There are none where the
    log mass is below `least`, nor any panel of less. The rule is a single node at the peak.
    """
    low, each, near = _whole(sensor, part)
    panels, end, highest, enough = waiting.panels, start, -math.inf, least
    count = _begin(sensor, part, low, each, rule, lines, waiting)
    if not panels.mass[count - 1] > least:
        return start
    while count > 0:
        count -= 1
        centre, half, mass = panels.centre[count], panels.half[count], panels.mass[count]
        # negated, so that what is not a number is dropped
        if not mass > enough:
            continue
        left, right = waiting.left[count], waiting.right[count]
        left = _sharpness(sensor, part, centre - half, near) if math.isnan(left) else left
        right = _sharpness(sensor, part, centre + half, near) if math.isnan(right) else right
        middle = _sharpness(sensor, part, centre, near)
        if half < each * DEEPEST or max(left, middle, right) * half < HALF_WIDTH:
            if end == len(into.mass):
                return -1
            into.centre[end], into.half[end], into.mass[end] = centre, half, mass
            highest, end = max(highest, mass), end + 1
            enough = max(least, highest - DROPPED)
            continue
        if count + 2 > len(panels.mass):
            return -1
        half /= 2
        wide = _wider(sensor, part, half)
        first, second = mass_at(sensor, wide, centre - half)[0], mass_at(sensor, wide, centre + half)[0]
        one = 1 if first > second else 0  # the better one is last
        added = math.log(2 * half)
        for place, edge, other, at, found in (
            (count + one, left, middle, centre - half, first),
            (count + 1 - one, middle, right, centre + half, second),
        ):
            panels.centre[place], panels.half[place], panels.mass[place] = at, half, found + added
            waiting.left[place], waiting.right[place] = edge, other
        count += 2
    return kept(into, start, end, enough)


@borrowing
def _begin(
    sensor: Sensor, part: Component, low: float, each: float, rule: Rule, lines: Lines, waiting: Waiting
) -> int:
    """Fill the first panels, in rising order of mass; how many there are."""
    panels = waiting.panels
    for i in range(FIRST):
        lines.outer[i] = low + each * (i + 0.5)
    take(FIRST, lines)
    fill(sensor, _wider(sensor, part, each / 2), rule, lines)
    for i in range(FIRST):
        mass, place = lines.mass[i] + math.log(each), i
        while place > 0 and panels.mass[place - 1] > mass:
            _move(panels, place - 1, panels, place)
            place -= 1
        panels.centre[place], panels.half[place], panels.mass[place] = lines.outer[i], each / 2, mass
        waiting.left[i] = waiting.right[i] = math.nan
    return FIRST


@borrowing
def _wider(sensor: Sensor, part: Component, half: float) -> Component:
    """A component that is wider by a panel: its density at the centre is that of the whole panel."""
    step = half if sensor.is_angle else sensor.value * half
    added = step * step / 3
    return component_at(part.x, part.y, part.xx + added, part.xy, part.yy + added)


@borrowing
def _sharpness(sensor: Sensor, part: Component, outer: float, near: float) -> float:
    """One over the smallest standard deviation, along the outer coordinate, that the integrand may have here."""
    east, north = cosine_and_sine(sensor.value if sensor.is_angle else outer)
    # the observation adds its variance along the inner coordinate, before the derivative along the outer one
    x, y, scale = (
        (north, -east, outer * sensor.deviation) if sensor.is_angle else (east, north, sensor.deviation)
    )
    xx, xy, yy = part.xx + (scale * x) ** 2, part.xy + scale * scale * x * y, part.yy + (scale * y) ** 2
    squared = (yy * y * y + 2 * xy * x * y + xx * x * x) / (xx * yy - xy * xy)
    if sensor.is_angle:
        return math.sqrt(squared + 0.5 / (outer + near) ** 2)
    along_x = east * part.over_first
    along_y = (north - part.low * along_x) * part.over_second
    precision = along_x * along_x + along_y * along_y + 1 / (sensor.deviation * sensor.deviation)
    # a ray turns in the frame of the component, which a weak observation does not stop
    turning = part.over_first * part.over_second / precision
    apart = 1 + part.white_x * part.white_x + part.white_y * part.white_y
    return math.sqrt(sensor.value**2 * squared + apart * turning * turning)


@borrowing
def _whole(sensor: Sensor, part: Component) -> tuple[float, float, float]:
    """Where the panels begin, the width of the first ones, and the distance that counts as near."""
    reach, wide = math.hypot(part.x, part.y), math.sqrt(part.xx + part.yy)
    if not sensor.is_angle:
        return math.atan2(part.y, part.x) - math.pi, 2 * math.pi / FIRST, 0.0
    low, high = max(0.0, reach - REACH * wide), reach + REACH * wide
    return low, (high - low) / FIRST, NEAR * (reach + wide)


@borrowing
def kept(panels: Panels, start: int, end: int, least: float) -> int:
    """Close up the panels whose log mass is above `least`; their end."""
    left = start
    for i in range(start, end):
        if panels.mass[i] > least:
            _move(panels, i, panels, left)
            left += 1
    return left


@borrowing
def _move(panels: Panels, source: int, into: Panels, place: int) -> None:
    into.centre[place], into.half[place] = panels.centre[source], panels.half[source]
    into.mass[place] = panels.mass[source]
