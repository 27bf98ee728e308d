"""Lines around a sensor, for `native_polar_nodes`: the inner integral along a ray, or along a circle.

Places are relative to the sensor. Of a range, the outer coordinate is the direction and the inner one the distance; of
a bearing, they are the other way round. So the observation is a narrow function of the inner coordinate, whatever the
outer one is. The inner integral is a Gauss-Hermite rule at its peak.

Many lines are taken at once, one number of each in a row, so that the compiler vectorises all loops over them. A loop
touches few arrays, as the compiler compares the places of each two of them first.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, fusing, inner
from beliefstream.inference.mixtures.native_exponential import (
    UNDERFLOW,
    cosine_and_sine,
    exponential,
    logarithm,
)
from beliefstream.inference.update.polar_rules import TRUNCATED

Array = NDArray[np.float64]

LINES, STEP = (
    64,
    16,
)  # at once, at most; and of which multiples are taken, so that no loop over them has a rest
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
    low: float  # its lower factor: first 0; low second
    over_first: float  # one over these
    over_second: float
    white_x: float  # mean in the frame of the factor
    white_y: float


class Rule(NamedTuple):
    """Inner nodes in standard deviations, and their weights."""

    steps: Array
    weights: Array


class Lines(NamedTuple):
    """Space for lines, and for their inner nodes."""

    some: NDArray[np.uint64]  # (1,) how many are taken; a place without a sign needs no look at each time
    outer: Array  # (LINES,), as all below
    step: Array  # of the outer coordinate that a line stands for
    east: Array
    north: Array
    peak: Array  # inner coordinate
    width: Array  # standard deviation there
    mass: Array  # log
    trusted: Array  # 1, or 0 where a line is not what the rule takes it for
    total: Array
    x: Array  # (I, LINES) of the nodes, as all below
    y: Array
    shares: Array  # of the line's mass
    off: Array  # residuals, in standard deviations of the noise


@inner
def new_lines(nodes: int) -> Lines:
    of_lines, of_nodes = np.ones((9, LINES)), np.ones((4, nodes, LINES))
    return Lines(
        np.full(1, LINES, np.uint64),
        of_lines[0], of_lines[1], of_lines[2], of_lines[3], of_lines[4], of_lines[5], of_lines[6], of_lines[7],
        of_lines[8], of_nodes[0], of_nodes[1], of_nodes[2], of_nodes[3],
    )  # fmt: skip


@borrowing
def component_at(x: float, y: float, xx: float, xy: float, yy: float) -> Component:
    """A Gaussian with its factor."""
    first = math.sqrt(xx)
    low = xy / first
    second = math.sqrt(max(yy - low * low, 1e-14 * yy))
    white_x = x / first
    return Component(
        x, y, xx, xy, yy, low, 1 / first, 1 / second, white_x, (y - low * white_x) / second
    )  # fmt: skip


@borrowing
def mass_at(sensor: Sensor, part: Component, outer: float) -> tuple[float, float]:
    """The log mass of one line by its peak alone, and its standard deviation."""
    scale = part.over_first * part.over_second
    if sensor.is_angle:
        peak = _nearer(sensor, part, outer, sensor.value)
        for _ in range(STEPS - 1):
            peak = _nearer(sensor, part, outer, peak)
        width, squared = _at_turn(sensor, part, outer, peak)
        return math.log(outer * width * scale) - 0.5 * LOG_TWO_PI - 0.5 * squared, width
    east, north = cosine_and_sine(outer)
    peak, width, squared = _along_ray(sensor, part, east, north)
    if not peak > 0:
        return -math.inf, width
    return math.log(peak * width * scale) - 0.5 * LOG_TWO_PI - 0.5 * squared, width


@borrowing
def take(count: int, lines: Lines) -> None:
    """Take the first lines, and some more that stand for nothing."""
    some = (count + STEP - 1) // STEP * STEP
    lines.some[0] = np.uint64(some)
    for p in range(count, some):
        lines.outer[p], lines.step[p] = lines.outer[count - 1], 0.0


@borrowing
def fill(sensor: Sensor, part: Component, rule: Rule, lines: Lines) -> None:
    """Fill the lines that are taken, at their outer coordinates."""
    if sensor.is_angle:
        _cross_beam(sensor, part, rule, lines)
    else:
        _cross_ring(sensor, part, rule, lines)


@fusing
def _along_ray(sensor: Sensor, part: Component, east: float, north: float) -> tuple[float, float, float]:
    """Peak and width of component times likelihood, a Gaussian along a ray, and its squared distance from both."""
    precision = 1 / (sensor.deviation * sensor.deviation)
    along_x = east * part.over_first
    along_y = (north - part.low * along_x) * part.over_second
    off_x = (sensor.value * east - part.x) * part.over_first
    off_y = (sensor.value * north - part.y - part.low * off_x) * part.over_second
    total = along_x * along_x + along_y * along_y + precision
    across = along_x * off_y - along_y * off_x
    # without a difference of large numbers
    squared = (across * across + precision * (off_x * off_x + off_y * off_y)) / total
    return sensor.value - (along_x * off_x + along_y * off_y) / total, 1 / math.sqrt(total), squared


@fusing
def _cross_ring(sensor: Sensor, part: Component, rule: Rule, lines: Lines) -> None:
    """Along a ray, component times likelihood is a Gaussian: the rule is exact, but for what lies behind the sensor."""
    some = lines.some[0]
    outer, east, north, peak, width = lines.outer, lines.east, lines.north, lines.peak, lines.width
    mass, total, trusted = lines.mass, lines.total, lines.trusted
    for p in range(some):
        east[p], north[p] = cosine_and_sine(outer[p])
    for p in range(some):
        peak[p], width[p], _ = _along_ray(sensor, part, east[p], north[p])
    for p in range(some):
        _, _, mass[p] = _along_ray(sensor, part, east[p], north[p])
        total[p] = 0.0
    precision, scale = 1 / sensor.deviation, part.over_first * part.over_second
    for i in range(len(rule.steps)):
        step, weight, x, y, shares, off = (
            rule.steps[i], rule.weights[i], lines.x[i], lines.y[i], lines.shares[i], lines.off[i],
        )  # fmt: skip
        for p in range(some):
            off[p] = peak[p] + width[p] * step
        for p in range(some):
            x[p] = off[p] * east[p]
            y[p] = off[p] * north[p]
        for p in range(some):
            share = weight * (off[p] if off[p] > 0 else 0.0)
            shares[p] = share
            total[p] += share
            off[p] = (off[p] - sensor.value) * precision
    for p in range(some):
        mass[p] = logarithm(total[p] * width[p] * scale) - 0.5 * LOG_TWO_PI - 0.5 * mass[p]
    for p in range(some):
        trusted[p] = 1.0 if peak[p] > TRUNCATED * width[p] else 0.0
    _normalise(lines, len(rule.steps))


@fusing
def _nearer(sensor: Sensor, part: Component, distance: float, turn: float) -> float:
    """A direction after one Gauss-Newton step to the peak on a circle."""
    precision = 1 / (sensor.deviation * sensor.deviation)
    x, y, along_x, along_y = _whitened(part, distance, turn)
    off_x, off_y = x - part.white_x, y - part.white_y
    total = precision + along_x * along_x + along_y * along_y
    move = -(precision * (turn - sensor.value) + off_x * along_x + off_y * along_y) / total
    move = move if move < MOST_STEP else MOST_STEP
    return turn + (move if move > -MOST_STEP else -MOST_STEP)


@fusing
def _at_turn(sensor: Sensor, part: Component, distance: float, turn: float) -> tuple[float, float]:
    """Width of the peak on a circle, and the squared distance there from component and observation."""
    precision = 1 / (sensor.deviation * sensor.deviation)
    x, y, along_x, along_y = _whitened(part, distance, turn)
    off_x, off_y, off = x - part.white_x, y - part.white_y, turn - sensor.value
    total = precision + along_x * along_x + along_y * along_y
    own = total - off_x * x - off_y * y
    own = own if own > SHARPEST * total else SHARPEST * total
    return 1 / math.sqrt(own), precision * off * off + off_x * off_x + off_y * off_y


@fusing
def _whitened(part: Component, distance: float, turn: float) -> tuple[float, float, float, float]:
    """A place on a circle, and its derivative by the direction, in the frame of a component."""
    cosine, sine = cosine_and_sine(turn)
    east, north = distance * cosine, distance * sine
    x, along_x = east * part.over_first, -north * part.over_first
    y = (north - part.low * x) * part.over_second
    return x, y, along_x, (east - part.low * along_x) * part.over_second


@fusing
def _cross_beam(sensor: Sensor, part: Component, rule: Rule, lines: Lines) -> None:
    """On a circle around the sensor, the product has one peak, found by Gauss-Newton steps."""
    some = lines.some[0]
    outer, peak, width, mass, least = lines.outer, lines.peak, lines.width, lines.mass, lines.east
    total, trusted = lines.total, lines.trusted
    for p in range(some):  # all from the same direction, whose cosine and sine are found once
        peak[p] = _nearer(sensor, part, outer[p], sensor.value)
    for _ in range(STEPS - 1):
        for p in range(some):
            peak[p] = _nearer(sensor, part, outer[p], peak[p])
    for p in range(some):
        width[p], _ = _at_turn(sensor, part, outer[p], peak[p])
        least[p] = math.inf
    precision, scale = 1 / sensor.deviation, part.over_first * part.over_second
    for i in range(len(rule.steps)):
        step, x, y, shares, off = rule.steps[i], lines.x[i], lines.y[i], lines.shares[i], lines.off[i]
        for p in range(some):
            off[p] = peak[p] + width[p] * step
        for p in range(some):
            cosine, sine = cosine_and_sine(off[p])
            x[p], y[p] = outer[p] * cosine, outer[p] * sine
        for p in range(some):
            off[p] = (off[p] - sensor.value) * precision
        for p in range(some):
            off_x = (x[p] - part.x) * part.over_first
            off_y = (y[p] - part.y - part.low * off_x) * part.over_second
            squared = off[p] * off[p] + off_x * off_x + off_y * off_y - step * step
            shares[p] = squared
            least[p] = squared if squared < least[p] else least[p]
    for p in range(some):
        total[p] = 0.0
    for i in range(len(rule.steps)):
        weight, shares = rule.weights[i], lines.shares[i]
        for p in range(some):
            below = 0.5 * (least[p] - shares[p])
            share = weight * exponential(below if below > UNDERFLOW else UNDERFLOW)
            shares[p] = share
            total[p] += share
    for p in range(some):
        mass[p] = logarithm(total[p] * outer[p] * width[p] * scale) - 0.5 * LOG_TWO_PI
    for p in range(some):
        mass[p] -= 0.5 * least[p]
        turned = peak[p] - sensor.value
        trusted[p] = 1.0 if (turned if turned > 0 else -turned) + 3 * width[p] < MOST_TURNED else 0.0
    _normalise(lines, len(rule.steps))


@borrowing
def _normalise(lines: Lines, nodes: int) -> None:
    """Make the shares of the nodes add up to one on each line that has mass."""
    total, some = lines.total, lines.some[0]
    for p in range(some):
        total[p] = 1 / total[p] if total[p] > 0 else 0.0
    for i in range(nodes):
        shares = lines.shares[i]
        for p in range(some):
            shares[p] *= total[p]
