"""Nodes of one component along a ring or a beam, for `native_polar_quadrature`.

Places are relative to the sensor. Of a range, the outer coordinate is the direction and the inner one the distance; of
a bearing, they are the other way round. So the observation is a narrow function of the inner coordinate, whatever the
outer one is. The inner integral is a Gauss-Hermite rule at its peak. Panels divide the outer coordinate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.update.polar_rules import TRUNCATED

Array = NDArray[np.float64]

FIRST = 16  # panels to begin with
MOST_PANELS = 4096  # of one problem
STACK = 256  # panels of one component that wait
HALF_WIDTH = 1.6  # of a panel, in the smallest standard deviation that the integrand may have there
DROPPED = 16.0  # nats below the highest panel of a component
DEEPEST = 2.0**-24  # of the whole, below which no panel is divided
REACH = 7.0  # standard deviations of a component within which its mass lies
NEAR = 0.02  # of a component's distance and width, within which a beam's width need not be resolved
STEPS, MOST_STEP = 3, 0.5  # Gauss-Newton steps to a peak, rad
SHARPEST = 0.25  # of the Gauss-Newton precision, below which a peak's own is not used
MOST_TURNED = 2.5  # rad; beyond it, a direction may wrap


class Sensor(NamedTuple):
    """A range or a bearing in the plane."""

    is_angle: bool
    value: float
    deviation: float


class Component(NamedTuple):
    """A Gaussian in the plane, relative to the sensor."""

    x: float
    y: float
    xx: float  # covariance
    xy: float
    yy: float
    first: float  # its lower factor: first 0; low second
    low: float
    second: float


class Line(NamedTuple):
    """Space for the inner nodes."""

    x: Array
    y: Array
    shares: Array  # of the line's mass
    off: Array  # residuals, in standard deviations of the noise


class Rule(NamedTuple):
    """Inner nodes in standard deviations, and their weights."""

    steps: Array
    weights: Array


class Panels(NamedTuple):
    """Space for panels: centre, half width and log mass."""

    centre: Array
    half: Array
    mass: Array


@inner
def new_panels(count: int) -> Panels:
    space = np.empty((3, count))
    return Panels(space[0], space[1], space[2])


@borrowing
def component_at(x: float, y: float, xx: float, xy: float, yy: float) -> Component:
    """A Gaussian with its factor."""
    first = math.sqrt(xx)
    low = xy / first
    return Component(x, y, xx, xy, yy, first, low, math.sqrt(max(yy - low * low, 1e-14 * yy)))


@borrowing
def line(sensor: Sensor, part: Component, outer: float, rule: Rule, into: Line) -> tuple[float, float, bool]:
    """Fill the inner nodes; the log of their mass, their standard deviation, and whether to trust them."""
    if sensor.is_angle:
        return _across_beam(sensor, part, outer, rule, into)
    return _across_ring(sensor, part, outer, rule, into)


@borrowing
def _across_ring(
    sensor: Sensor, part: Component, turn: float, rule: Rule, into: Line
) -> tuple[float, float, bool]:
    """Along a ray, component times likelihood is a Gaussian: the rule is exact, but for what lies behind the sensor."""
    east, north, precision = math.cos(turn), math.sin(turn), 1 / (sensor.deviation * sensor.deviation)
    along_x = east / part.first
    along_y = (north - part.low * along_x) / part.second
    off_x = (sensor.value * east - part.x) / part.first
    off_y = (sensor.value * north - part.y - part.low * off_x) / part.second
    total = along_x * along_x + along_y * along_y + precision
    across = along_x * off_y - along_y * off_x
    # the squared distance at the peak, without a difference of large numbers
    squared = (across * across + precision * (off_x * off_x + off_y * off_y)) / total
    middle, width = sensor.value - (along_x * off_x + along_y * off_y) / total, 1 / math.sqrt(total)
    found = 0.0
    for i in range(len(rule.steps)):
        distance = middle + width * rule.steps[i]
        into.x[i], into.y[i] = distance * east, distance * north
        into.off[i] = (distance - sensor.value) / sensor.deviation
        into.shares[i] = rule.weights[i] * max(distance, 0.0)
        found += into.shares[i]
    if not found > 0:
        return -math.inf, width, False
    for i in range(len(rule.steps)):
        into.shares[i] /= found
    log_mass = math.log(found * width / (part.first * part.second)) - 0.5 * LOG_TWO_PI - 0.5 * squared
    return log_mass, width, middle > TRUNCATED * width


@borrowing
def _across_beam(
    sensor: Sensor, part: Component, distance: float, rule: Rule, into: Line
) -> tuple[float, float, bool]:
    """On a circle around the sensor, the product has one peak, found by Gauss-Newton steps."""
    precision, peak, total = 1 / (sensor.deviation * sensor.deviation), sensor.value, 0.0
    mean_x = part.x / part.first
    mean_y = (part.y - part.low * mean_x) / part.second
    for step in range(STEPS + 1):
        x, y, along_x, along_y = _whitened(part, distance, peak)
        off_x, off_y = x - mean_x, y - mean_y
        total = precision + along_x * along_x + along_y * along_y
        if step < STEPS:
            move = -(precision * (peak - sensor.value) + off_x * along_x + off_y * along_y) / total
            peak += max(-MOST_STEP, min(MOST_STEP, move))
        else:
            total = max(SHARPEST * total, total - off_x * x - off_y * y)
    width = 1 / math.sqrt(total)
    least, found = math.inf, 0.0
    for i in range(len(rule.steps)):
        turn = peak + width * rule.steps[i]
        into.x[i], into.y[i] = distance * math.cos(turn), distance * math.sin(turn)
        off, off_x = (turn - sensor.value) / sensor.deviation, (into.x[i] - part.x) / part.first
        off_y = (into.y[i] - part.y - part.low * off_x) / part.second
        squared = off * off + off_x * off_x + off_y * off_y - rule.steps[i] * rule.steps[i]
        into.shares[i], into.off[i] = squared, off
        least = min(least, squared)
    for i in range(len(rule.steps)):
        into.shares[i] = rule.weights[i] * math.exp(0.5 * (least - into.shares[i]))
        found += into.shares[i]
    for i in range(len(rule.steps)):
        into.shares[i] /= found
    log_mass = (
        math.log(found * distance * width / (part.first * part.second)) - 0.5 * LOG_TWO_PI - 0.5 * least
    )
    return log_mass, width, abs(peak - sensor.value) + 3 * width < MOST_TURNED


@borrowing
def _whitened(part: Component, distance: float, turn: float) -> tuple[float, float, float, float]:
    """A place on a circle, and its derivative by the direction, in the frame of a component."""
    east, north = distance * math.cos(turn), distance * math.sin(turn)
    x, along_x = east / part.first, -north / part.first
    return x, (north - part.low * x) / part.second, along_x, (east - part.low * along_x) / part.second


@borrowing
def _sharpness(sensor: Sensor, part: Component, outer: float, near: float) -> float:
    """One over the smallest standard deviation, along the outer coordinate, that the integrand may have here."""
    turn = sensor.value if sensor.is_angle else outer
    east, north = math.cos(turn), math.sin(turn)
    # the observation adds its variance along the inner coordinate, before the derivative along the outer one
    x, y, scale = (
        (north, -east, outer * sensor.deviation) if sensor.is_angle else (east, north, sensor.deviation)
    )
    xx, xy, yy = part.xx + (scale * x) ** 2, part.xy + scale * scale * x * y, part.yy + (scale * y) ** 2
    squared = (yy * y * y + 2 * xy * x * y + xx * x * x) / (xx * yy - xy * xy)
    if sensor.is_angle:
        return math.sqrt(squared + 0.5 / (outer + near) ** 2)
    mean_x = part.x / part.first
    mean_y = (part.y - part.low * mean_x) / part.second
    along_x = east / part.first
    along_y = (north - part.low * along_x) / part.second
    precision = along_x * along_x + along_y * along_y + 1 / (sensor.deviation * sensor.deviation)
    # a ray turns in the frame of the component, which a weak observation does not stop
    turning = 1 / (part.first * part.second * precision)
    return math.sqrt(sensor.value**2 * squared + (1 + mean_x * mean_x + mean_y * mean_y) * turning * turning)


@borrowing
def _smoothed(sensor: Sensor, part: Component, centre: float, half: float, rule: Rule, space: Line) -> float:
    """Log mass of a panel: that at its centre, of a component that is wider by the panel."""
    step = half if sensor.is_angle else sensor.value * half
    added = step * step / 3
    wide = component_at(part.x, part.y, part.xx + added, part.xy, part.yy + added)
    return line(sensor, wide, centre, rule, space)[0] + math.log(2 * half)


@borrowing
def divide(
    sensor: Sensor,
    part: Component,
    rule: Rule,
    space: Line,
    waiting: Panels,
    into: Panels,
    start: int,
    least: float,
) -> int:
    """Fill the panels of a component from `start`, where it has mass; their end, −1 if there is no space.

    The best of those that wait is divided first, so that the others can be dropped beside it. There are none where the
    log mass is below `least`.
    """
    low, each, near = _whole(sensor, part)
    count, end, highest = 0, start, -math.inf
    for i in range(FIRST):
        centre = low + each * (i + 0.5)
        mass = _smoothed(sensor, part, centre, each / 2, rule, space)
        place = count
        while place > 0 and waiting.mass[place - 1] > mass:
            _move(waiting, place - 1, waiting, place)
            place -= 1
        waiting.centre[place], waiting.half[place], waiting.mass[place] = centre, each / 2, mass
        count += 1
    if not waiting.mass[count - 1] > least:
        return start
    while count > 0:
        count -= 1
        centre, half, mass = waiting.centre[count], waiting.half[count], waiting.mass[count]
        # negated, so that what is not a number is dropped
        if not mass > highest - DROPPED:
            continue
        if half < each * DEEPEST or _is_smooth(sensor, part, centre, half, near):
            if end == len(into.mass):
                return -1
            into.centre[end], into.half[end], into.mass[end] = centre, half, mass
            highest, end = max(highest, mass), end + 1
            continue
        if count + 2 > len(waiting.mass):
            return -1
        half /= 2
        first = _smoothed(sensor, part, centre - half, half, rule, space)
        second = _smoothed(sensor, part, centre + half, half, rule, space)
        side = 1.0 if first < second else -1.0
        for place, sign, found in ((count, -side, min(first, second)), (count + 1, side, max(first, second))):
            waiting.centre[place], waiting.half[place], waiting.mass[place] = (
                centre + sign * half,
                half,
                found,
            )
        count += 2
    return _kept(into, start, end, highest - DROPPED)


@borrowing
def _whole(sensor: Sensor, part: Component) -> tuple[float, float, float]:
    """Where the panels begin, the width of the first ones, and the distance that counts as near."""
    reach, wide = math.hypot(part.x, part.y), math.sqrt(part.xx + part.yy)
    if not sensor.is_angle:
        return math.atan2(part.y, part.x) - math.pi, 2 * math.pi / FIRST, 0.0
    low, high = max(0.0, reach - REACH * wide), reach + REACH * wide
    return low, (high - low) / FIRST, NEAR * (reach + wide)


@borrowing
def _is_smooth(sensor: Sensor, part: Component, centre: float, half: float, near: float) -> bool:
    highest = _sharpness(sensor, part, centre, near)
    highest = max(highest, _sharpness(sensor, part, centre - half, near))
    return max(highest, _sharpness(sensor, part, centre + half, near)) * half < HALF_WIDTH


@borrowing
def _kept(panels: Panels, start: int, end: int, least: float) -> int:
    """Close up the panels that have mass; their end."""
    kept = start
    for i in range(start, end):
        if panels.mass[i] > least:
            _move(panels, i, panels, kept)
            kept += 1
    return kept


@borrowing
def _move(panels: Panels, source: int, into: Panels, place: int) -> None:
    into.centre[place], into.half[place] = panels.centre[source], panels.half[source]
    into.mass[place] = panels.mass[source]
