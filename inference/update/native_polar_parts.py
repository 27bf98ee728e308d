"""Nodes of a whole prior around one sensor, and what they are gathered into, for `native_polar_quadrature`.

A component's part of the posterior may be longer than a Gaussian can bend. Then it is divided by windows along the
outer coordinate: each takes its share of every node, and becomes a Gaussian with the moments of its shares.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import log_sum, wrapped
from beliefstream.inference.mixtures.native import borrowing
from beliefstream.inference.update.native_polar_nodes import (
    Component,
    Line,
    Sensor,
    component_at,
    divide,
    line,
)
from beliefstream.inference.update.native_polar_space import (
    Counts,
    One,
    Rules,
    Sight,
    Space,
)
from beliefstream.inference.update.native_polar_windows import Division, Sums, share_out, windows_of

Array = NDArray[np.float64]

LIGHT = 1e-7  # share of a component below which it has no nodes
LIGHTEST = 20.0  # nats below the heaviest component before it, below which one has no panels
LIGHTEST_NODE = 1e-9  # share of the posterior below which a node is left out
LIGHTEST_LINE = 1e-7  # the same of all nodes of a line, where they are gathered
FINE = 0.4  # half width of a panel, in standard deviations of its windows
FINE_OF_MANY = 1.0  # the same where there are other components
MOST_FINER = 16
CHECK = 5.0  # times as exact as its check, or more, a rule is


@borrowing
def gather(
    sight: Sight, log_weights: Array, moments: Array, count: int, rules: Rules, space: Space
) -> tuple[Counts, float, float]:
    """Fill nodes, lines and parts of components times an inlier.

    Also returns the share of the posterior that is uncertain, and the rough log evidence that all shares are of.
    """
    counts, uncertain, start = Counts(0, 0, 0), 0.0, 0
    fine = FINE if count == 1 else FINE_OF_MANY
    rough = _rough_evidence(sight, log_weights, moments, count, rules, space)
    if math.isnan(rough):
        return Counts(0, -1, 0), math.inf, rough
    for k in range(count):
        share, end = math.exp(space.mass[k] - rough), space.ends[k]
        if share > LIGHT:
            log_weight = log_weights[k] + sight.log_inlier
            one = One(_component(moments[k]), log_weight, space.mass[k], share, k, fine)
            division = windows_of(sight.sensor, one, start, end, rules, space)
            counts, mass, doubtful = _add(sight, one, (start, end), division, rules, counts, space)
            if counts.nodes < 0:
                return counts, math.inf, rough
            off = abs(_checked(sight.sensor, one, (start, end), rules, space) - mass) / CHECK
            uncertain += share * (doubtful + off)
        start = end
    return counts, uncertain, rough


@borrowing
def _rough_evidence(
    sight: Sight, log_weights: Array, moments: Array, count: int, rules: Rules, space: Space
) -> float:
    """Fill the panels of all components; log evidence by them, not a number if there is no space for more."""
    end, highest = 0, sight.log_outlier
    for k in range(count):
        start, space.mass[k], part = end, -math.inf, _component(moments[k])
        log_weight = log_weights[k] + sight.log_inlier
        least = highest - LIGHTEST - log_weight
        end = divide(sight.sensor, part, rules.peak, space.line, space.waiting, space.panels, start, least)
        if end < 0:
            return math.nan
        space.ends[k] = end
        if end > start:
            space.mass[k] = log_weight + total(space.panels.mass, start, end)
            highest = max(highest, space.mass[k])
    rough = total(space.mass, 0, count)
    # the weights sum to one
    return log_sum(rough, sight.log_outlier) if sight.log_outlier > -math.inf else rough


@borrowing
def _component(moments: Array) -> Component:
    return component_at(moments[0], moments[1], moments[2], moments[3], moments[4])


@borrowing
def total(logs: Array, start: int, end: int) -> float:
    """Log of a sum of exponentials."""
    highest, found = -math.inf, 0.0
    for i in range(start, end):
        highest = max(highest, logs[i])
    if highest == -math.inf:
        return highest
    for i in range(start, end):
        found += math.exp(logs[i] - highest)
    return highest + math.log(found)


@borrowing
def _checked(sensor: Sensor, one: One, panels: tuple[int, int], rules: Rules, space: Space) -> float:
    """The mass of a component by another rule, as a share of that by its panels."""
    found = 0.0
    for i in range(*panels):
        centre, half = space.panels.centre[i], space.panels.half[i]
        for c in range(len(rules.check)):
            log = line(sensor, one.part, centre + half * rules.check[c], rules.peak, space.line)[0]
            found += half * rules.check_weights[c] * math.exp(log + one.log_weight - one.mass)
    return found


@borrowing
def _add(
    sight: Sight,
    one: One,
    panels: tuple[int, int],
    division: Division,
    rules: Rules,
    counts: Counts,
    space: Space,
) -> tuple[Counts, float, float]:
    """Add nodes, lines and parts of a component; its mass, and that of it to doubt, as shares of that by its panels."""
    sensor, mass, doubtful = sight.sensor, 0.0, 0.0
    space.windows.sums[: division.windows] = 0.0
    for i in range(*panels):
        whole, finer = space.panels.half[i], 1
        if division.windows > 1:
            long = whole / space.panels.centre[i] if sensor.is_angle else whole
            finer = int(min(float(MOST_FINER), math.ceil(long / (one.fine * division.deviation))))
        half = whole / finer
        for number in range(finer):
            centre = space.panels.centre[i] - whole + (2 * number + 1) * half
            for c in range(len(rules.outer)):
                outer, step = centre + half * rules.outer[c], half * rules.weights[c]
                log, _, trusted = line(sensor, one.part, outer, rules.inner, space.line)
                found = math.exp(log + math.log(step) + one.log_weight - one.mass)
                mass += found
                doubtful += 0.0 if trusted else found
                counts = _keep(sight, found * one.share, counts, space)
                if counts.nodes < 0:
                    return counts, mass, doubtful
                sums = _sums(space.line, found * one.share)
                counts = _add_line(sensor, step, sums, counts, space)
                if counts.nodes < 0:
                    return counts, mass, doubtful
                share_out(math.log(outer) if sensor.is_angle else outer, sums, division, space.windows)
    return _add_parts(one, division.windows, counts, space), mass, doubtful


@borrowing
def _keep(sight: Sight, whole: float, counts: Counts, space: Space) -> Counts:
    """Add the inner nodes of a line that have a share of the posterior; `whole` is that of the line."""
    nodes, line, place = space.nodes, space.line, counts.nodes
    for i in range(len(line.shares)):
        share = line.shares[i] * whole
        if not share > LIGHTEST_NODE:
            continue
        if place == len(nodes.x):
            return Counts(counts.parts, -1, counts.lines)
        nodes.x[place], nodes.y[place], nodes.share[place] = line.x[i], line.y[i], share
        nodes.likelihood[place] = log_sum(
            sight.log_inlier - 0.5 * line.off[i] * line.off[i], sight.log_outlier
        )
        place += 1
    return Counts(counts.parts, place, counts.lines)


@borrowing
def likelihood(sight: Sight, x: float, y: float) -> float:
    """Log likelihood at a place relative to the sensor."""
    sensor = sight.sensor
    off = wrapped(sensor.value - math.atan2(y, x)) if sensor.is_angle else sensor.value - math.hypot(x, y)
    off /= sensor.deviation
    return log_sum(sight.log_inlier - 0.5 * off * off, sight.log_outlier)


@borrowing
def _sums(line: Line, whole: float) -> Sums:
    """Share, and first and second moments of the inner nodes of a line."""
    mass = x = y = xx = xy = yy = 0.0
    for i in range(len(line.shares)):
        share, east, north = whole * line.shares[i], line.x[i], line.y[i]
        mass += share
        x += share * east
        y += share * north
        xx += share * east * east
        xy += share * east * north
        yy += share * north * north
    return mass, x, y, xx, xy, yy


@borrowing
def _add_line(
    sensor: Sensor,
    step: float,
    sums: Sums,
    counts: Counts,
    space: Space,
) -> Counts:
    """Add a line, with the covariance of places that are spread evenly over its step along the outer coordinate."""
    if not sums[0] > LIGHTEST_LINE:
        return counts
    if counts.lines == len(space.lines.share):
        return Counts(counts.parts, -1, counts.lines)
    found = space.lines.moments[counts.lines]
    _fill_moments(sums, found)
    distance = math.hypot(found[0], found[1])
    east, north = found[0] / distance, found[1] / distance
    along = step if sensor.is_angle else sensor.value * step
    x, y = (east, north) if sensor.is_angle else (-north, east)
    added = along * along / 12
    found[2] += added * x * x
    found[3] += added * x * y
    found[4] += added * y * y
    space.lines.share[counts.lines] = sums[0]
    return Counts(counts.parts, counts.nodes, counts.lines + 1)


@borrowing
def _fill_moments(sums: Sums, into: Array) -> None:
    mass, x, y, xx, xy, yy = sums
    x, y = x / mass, y / mass
    into[0], into[1] = x, y
    into[2], into[3], into[4] = xx / mass - x * x, xy / mass - x * y, yy / mass - y * y


@borrowing
def _add_parts(one: One, count: int, counts: Counts, space: Space) -> Counts:
    """Add the parts of a component that have a share of the posterior."""
    parts, place = space.parts, counts.parts
    for j in range(count):
        sums = space.windows.sums[j]
        if sums[0] > LIGHTEST_LINE:
            _fill_moments((sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]), parts.moments[place])
            parts.share[place], parts.source[place] = sums[0], one.source
            place += 1
    return Counts(place, counts.nodes, counts.lines)
