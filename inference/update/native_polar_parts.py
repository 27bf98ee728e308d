"""Nodes of a whole prior around one sensor, and what they are gathered into, for `native_polar_quadrature`.

A component's part of the posterior may be longer than a Gaussian can bend. Then it is divided by windows along the
outer coordinate: each takes its share of every node, and becomes a Gaussian with the moments of its shares.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import log_sum, wrapped
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.update.native_polar_nodes import (
    MOST_PANELS,
    STACK,
    Component,
    Line,
    Panels,
    Rule,
    Sensor,
    component_at,
    divide,
    line,
    new_panels,
)

Array = NDArray[np.float64]
Places = NDArray[np.int64]

LIGHT = 1e-7  # share of a component below which it has no nodes
LIGHTEST = 20.0  # nats below the heaviest component before it, below which one has no panels
LIGHTEST_NODE = 1e-9  # share of the posterior below which a node is left out
LIGHTEST_LINE = 1e-7  # the same of all nodes of a line, where they are gathered
LOSS = 0.002  # nats that windows may lose by their bend
STRAIGHT = 1.2  # as long as a component may be beside its windows, to have none
SPACING = 1.6  # of windows, in their standard deviations
MOST_WINDOWS = 20  # of one component
MARGIN = 10.0  # nats below the highest panel of a component, within which its windows lie
FINE, FINE_OF_MANY = (
    0.4,
    1.0,
)  # half width of a panel, in standard deviations of its windows; of one component of many
MOST_FINER = 16
LEAST_DISTANCE = 1e-3  # of a panel's centre, from which its logarithm is taken
CHECK = 5.0  # times as exact as its check, or more, a rule is
MOST_NODES, MOST_LINES = 10240, 2048  # of one problem


class Sight(NamedTuple):
    """One observation, and the logs of its densities: of an inlier with a residual of zero, and of an outlier."""

    sensor: Sensor
    log_inlier: float
    log_outlier: float


class One(NamedTuple):
    """A component of the prior, with its part of the posterior."""

    part: Component
    log_weight: float  # with that of an inlier
    mass: float  # log, by its panels
    share: float  # of the posterior
    source: int
    fine: float  # half width of its panels, in standard deviations of its windows


class Rules(NamedTuple):
    """Nodes within a panel: those of an outer rule and of its check; inner ones, and one at the peak."""

    outer: Array  # (4,), as half widths, and their weights
    weights: Array
    check: Array  # (3,)
    check_weights: Array
    inner: Rule
    peak: Rule


class Nodes(NamedTuple):
    """Nodes of one posterior, relative to the sensor."""

    x: Array
    y: Array
    share: Array  # of the rough evidence
    likelihood: Array  # log


class Lines(NamedTuple):
    """Moments of the inner nodes of one outer node, which also stand for the places between it and the next."""

    share: Array  # as of `Nodes`
    moments: Array  # (L, 5): mean, and covariance as xx, xy, yy


class Parts(NamedTuple):
    """Parts of the posterior in the plane."""

    share: Array  # as of `Nodes`
    moments: Array  # (J, 5), as of `Lines`
    source: Places  # component of the prior


class Windows(NamedTuple):
    """Space for the windows of one component."""

    shares: Array
    sums: Array  # (W, 6): mass, and first and second moments


class Space(NamedTuple):
    """Space for the nodes of one problem."""

    panels: Panels
    waiting: Panels
    ends: Places  # (K,) of each component's panels
    mass: Array  # (K,) log of each component's part
    line: Line
    windows: Windows
    nodes: Nodes
    lines: Lines
    parts: Parts


class Division(NamedTuple):
    """Windows of a component along the outer coordinate, for a beam along its logarithm."""

    windows: int
    low: float
    each: float
    deviation: float


class Counts(NamedTuple):
    """How many parts, nodes and lines there are; negative where there is no space for more."""

    parts: int
    nodes: int
    lines: int


@inner
def new_space(count: int, inner_nodes: int) -> Space:
    numbers, nodes, most = np.empty((4, inner_nodes)), np.empty((4, MOST_NODES)), count * (MOST_WINDOWS + 1)
    return Space(
        new_panels(MOST_PANELS),
        new_panels(STACK),
        np.empty(count, np.int64),
        np.empty(count),
        Line(numbers[0], numbers[1], numbers[2], numbers[3]),
        Windows(np.empty(MOST_WINDOWS), np.empty((MOST_WINDOWS, 6))),
        Nodes(nodes[0], nodes[1], nodes[2], nodes[3]),
        Lines(np.empty(MOST_LINES), np.empty((MOST_LINES, 5))),
        Parts(np.empty(most), np.empty((most, 5)), np.empty(most, np.int64)),
    )


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
            division = _divided(sight.sensor, one, start, end, rules, space)
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
def _divided(sensor: Sensor, one: One, start: int, end: int, rules: Rules, space: Space) -> Division:
    """Windows that are short enough beside the bend: of a ring, beside its width; of a beam, beside the distance."""
    panels, highest = space.panels, -math.inf
    for i in range(start, end):
        highest = max(highest, panels.mass[i])
    low, high, mass, mean, square, width = math.inf, -math.inf, 0.0, 0.0, 0.0, 0.0
    for i in range(start, end):
        weight, centre, half = math.exp(panels.mass[i] - highest), panels.centre[i], panels.half[i]
        first, last = centre - half, centre + half
        width += weight * line(sensor, one.part, centre, rules.peak, space.line)[1]
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
        return Division(1, low, high - low, math.inf)
    count = max(1, int(min(float(MOST_WINDOWS), math.ceil((high - low) / (SPACING * deviation)))))
    each = (high - low) / count
    return Division(count, low, each, each / SPACING)


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
                _share_out(math.log(outer) if sensor.is_angle else outer, sums, division, space.windows)
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
def _sums(line: Line, whole: float) -> tuple[float, float, float, float, float, float]:
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
    sums: tuple[float, float, float, float, float, float],
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
def _fill_moments(sums: tuple[float, float, float, float, float, float], into: Array) -> None:
    mass, x, y, xx, xy, yy = sums
    x, y = x / mass, y / mass
    into[0], into[1], into[2], into[3], into[4] = (
        x,
        y,
        xx / mass - x * x,
        xy / mass - x * y,
        yy / mass - y * y,
    )


@borrowing
def _share_out(
    place: float,
    sums: tuple[float, float, float, float, float, float],
    division: Division,
    windows: Windows,
) -> None:
    """Add a line to the windows of its component, by their densities there."""
    count, shares, whole, nearest = division.windows, windows.shares, 0.0, math.inf
    for j in range(count):
        off = (place - division.low - (j + 0.5) * division.each) / division.deviation
        shares[j] = 0.5 * off * off
        nearest = min(nearest, shares[j])
    for j in range(count):
        shares[j] = math.exp(nearest - shares[j])
        whole += shares[j]
    for j in range(count):
        for i in range(6):
            windows.sums[j, i] += shares[j] / whole * sums[i]


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
