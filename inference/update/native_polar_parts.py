"""Nodes of a whole prior around one sensor, and what they are gathered into, for `native_polar_quadrature`.

A component's part of the posterior may be longer than a Gaussian can bend. Then it is divided by windows along the
outer coordinate: each takes its share of every node, and becomes a Gaussian with the moments of its shares.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import log_sum, wrapped
from beliefstream.inference.mixtures.native import adding, borrowing, fusing
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential, logarithm
from beliefstream.inference.update.native_polar_kept import add_strips, fill_moments, keep, with_rest
from beliefstream.inference.update.native_polar_lines import (
    LINES,
    Component,
    Lines,
    Rule,
    component_at,
    fill,
    take,
)
from beliefstream.inference.update.native_polar_nodes import divide, kept
from beliefstream.inference.update.native_polar_space import Counts, One, Rules, Sight, Space
from beliefstream.inference.update.native_polar_windows import (
    Division,
    find_sums,
    share_out,
    windows_of,
)

Array = NDArray[np.float64]

LIGHT = 1e-7  # share of a component below which it has no nodes
LIGHTEST = 20.0  # nats below the heaviest component before it, below which one has no panels
LIGHTEST_PANEL = math.log(1e-8)  # share of the posterior below which a panel has no nodes, its log
LIGHTEST_OUTLIER = 1e-9  # the same of a component times an outlier
LIGHTEST_PART = 1e-7  # share of the posterior below which a part is left out
FINE = 0.4  # half width of a panel, in standard deviations of its windows
FINE_OF_MANY = 1.0  # the same where there are other components
MOST_FINER = 16
CHECK = 5.0  # times as exact as its check, or more, a rule is


@borrowing
def gather(
    sight: Sight, log_weights: Array, moments: Array, count: int, rules: Rules, space: Space
) -> tuple[Counts, float, float]:
    """Fill nodes, strips and parts of components times an inlier.

    Also returns the share of the posterior that is uncertain, and the rough log evidence that all shares are of.
    """
    counts, uncertain, start = Counts(0, 0, 0), 0.0, 0
    space.carried[:] = 0.0
    fine = FINE if count == 1 else FINE_OF_MANY
    rough = _rough_evidence(sight, log_weights, moments, count, rules, space)
    if math.isnan(rough):
        return Counts(0, -1, 0), math.inf, rough
    for k in range(count):
        share, end = math.exp(space.mass[k] - rough), space.ends[k]
        log_weight, heavy = log_weights[k] + sight.log_inlier, start
        if share > LIGHT:
            heavy = kept(space.panels, start, end, rough + LIGHTEST_PANEL - log_weight)
            space.ends[k] = heavy
        if heavy > start:
            one = One(_component(moments[k]), log_weight, space.mass[k], share, k, fine)
            division = windows_of(sight.sensor, one, start, heavy, space)
            counts, mass, doubtful = _add(sight, one, (start, heavy), division, rules, counts, space)
            if counts.nodes < 0:
                return counts, math.inf, rough
            off = abs(_checked(sight, one, (start, heavy), rules, space) - mass) / CHECK
            uncertain += share * (doubtful + off)
        start = end
    return with_rest(counts, space), uncertain, rough


@borrowing
def is_long(sight: Sight, moments: Array, rough: float, space: Space) -> bool:
    """Whether a ring is too long for its windows, under the only component of a prior whose panels are there."""
    if sight.sensor.is_angle:
        return False
    one = One(_component(moments[0]), 0.0, space.mass[0], math.exp(space.mass[0] - rough), 0, FINE)
    return not windows_of(sight.sensor, one, 0, space.ends[0], space).is_short


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
        end = divide(sight.sensor, part, rules.peak, space.lines, space.waiting, space.panels, start, least)
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
def _checked(sight: Sight, one: One, panels: tuple[int, int], rules: Rules, space: Space) -> float:
    """The mass of a component by another rule, as a share of that by its panels."""
    lines, found, count = space.lines, 0.0, 0
    for i in range(*panels):
        centre, half = space.panels.centre[i], space.panels.half[i]
        for c in range(len(rules.check)):
            lines.outer[count] = centre + half * rules.check[c]
            lines.step[count] = half * rules.check_weights[c]
            count += 1
            if count == LINES:
                found += _mass_of(sight, one, rules.peak, count, lines)
                count = 0
    return found + _mass_of(sight, one, rules.peak, count, lines)


@borrowing
def _mass_of(sight: Sight, one: One, rule: Rule, count: int, lines: Lines) -> float:
    """Fill the first lines; their mass, each in `total` too, as a share of that of their component by its panels."""
    if count == 0:
        return 0.0
    take(count, lines)
    fill(sight.sensor, one.part, rule, lines)
    _find_shares(one.log_weight - one.mass, lines)
    found = 0.0
    for p in range(count):
        found += lines.total[p]
    return found


@fusing
def _find_shares(relative: float, lines: Lines) -> None:
    logs, steps, into, some = lines.mass, lines.step, lines.total, lines.some[0]
    for p in range(some):
        log = logs[p] + relative
        # negated, so that what is not a number stays so
        into[p] = steps[p] * exponential(log) if not log <= UNDERFLOW else 0.0


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
    """Add nodes, strips and parts of a component; its mass, and that of it to doubt, as shares of that by panels."""
    sensor, lines, mass, doubtful, count = sight.sensor, space.lines, 0.0, 0.0, 0
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
                lines.outer[count], lines.step[count] = (
                    centre + half * rules.outer[c],
                    half * rules.weights[c],
                )
                count += 1
                if count == LINES:
                    counts, found, doubted = _add_lines(
                        sight, one, count, division, rules.inner, counts, space
                    )
                    mass, doubtful, count = mass + found, doubtful + doubted, 0
                    if counts.nodes < 0:
                        return counts, mass, doubtful
    counts, found, doubted = _add_lines(sight, one, count, division, rules.inner, counts, space)
    mass, doubtful = mass + found, doubtful + doubted
    if counts.nodes < 0:
        return counts, mass, doubtful
    return _add_parts(one, division.windows, counts, space), mass, doubtful


@borrowing
def _add_lines(
    sight: Sight, one: One, count: int, division: Division, rule: Rule, counts: Counts, space: Space
) -> tuple[Counts, float, float]:
    """Add the first lines; their mass, and that of it to doubt."""
    lines = space.lines
    mass = _mass_of(sight, one, rule, count, lines)
    if count == 0:
        return counts, mass, 0.0
    doubtful = _doubted(lines)
    find_sums(one.share, lines, space.windows)
    share_out(sight.sensor.is_angle, lines, division, space.windows)
    start, counts = counts.nodes, keep(lines, count, counts, space)
    if counts.nodes > start:
        _find_likelihoods(sight, space.nodes.likelihood[start : counts.nodes])
    return add_strips(sight.sensor, count, counts, space), mass, doubtful


@adding
def _doubted(lines: Lines) -> float:
    found, some = 0.0, lines.some[0]
    for p in range(some):
        found += (1.0 - lines.trusted[p]) * lines.total[p]
    return found


@fusing
def _find_likelihoods(sight: Sight, off: Array) -> None:
    """Turn residuals into log likelihoods."""
    inlier, outlier = sight.log_inlier, sight.log_outlier
    for p in range(len(off)):
        off[p] = inlier - 0.5 * off[p] * off[p]
    if outlier > -math.inf:
        for p in range(len(off)):
            highest, apart = (off[p], outlier - off[p]) if off[p] > outlier else (outlier, off[p] - outlier)
            off[p] = highest + logarithm(1 + exponential(apart if apart > UNDERFLOW else UNDERFLOW))


@borrowing
def likelihood(sight: Sight, x: float, y: float) -> float:
    """Log likelihood at a place relative to the sensor."""
    sensor = sight.sensor
    off = wrapped(sensor.value - math.atan2(y, x)) if sensor.is_angle else sensor.value - math.hypot(x, y)
    off /= sensor.deviation
    return log_sum(sight.log_inlier - 0.5 * off * off, sight.log_outlier)


@borrowing
def _add_parts(one: One, count: int, counts: Counts, space: Space) -> Counts:
    """Add the parts of a component that have a share of the posterior."""
    parts, place = space.parts, counts.parts
    for j in range(count):
        sums = space.windows.sums[j]
        if sums[0] > LIGHTEST_PART:
            fill_moments((sums[0], sums[1], sums[2], sums[3], sums[4], sums[5]), parts.moments[place])
            parts.share[place], parts.source[place] = sums[0], one.source
            place += 1
    return Counts(place, counts.nodes, counts.strips)
