"""Nodes of a posterior around the one sensor that reports a range or a bearing, for `polar_answers`.

With u = H y - o the place relative to the sensor, in polar coordinates (r, θ), a component of the prior times an inlier
is

    f(r, θ) = r N(u; m, P) N(z; h(r, θ), s²),      h = r of a range, and θ of a bearing.

The observation is a narrow function of the inner coordinate, h, whatever the outer one is. So the inner integral is a
Gauss-Hermite rule at its peak: of a range, f / r along a ray is a Gaussian; of a bearing, the peak on a circle comes
from Gauss-Newton steps (adaptive quadrature: Q. Liu and D. A. Pierce, "A Note on Gauss-Hermite Quadrature", Biometrika
81(3), 1994). Panels with Gauss-Legendre nodes cover the outer coordinate. They are halved as finely as the prior and
the noise ask for, and dropped where a component has no mass. So nodes are wherever the posterior is, however thin.

Each outer node is a line of inner nodes: a strip with a share of the posterior, a mean and a covariance. Mixtures are
fitted to strips, and measured on the nodes of another Gauss-Legendre rule, whose evidence must agree.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array, Seen, log_sum
from beliefstream.inference.likelihood.observation_data import ANGLE, RANGE
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.update.plane.densities import Prior
from beliefstream.inference.update.plane.mixture_fit import Points

FIRST, DEEPEST = 8, 25  # panels of a component to begin with; how often one is halved at most
MOST_PANELS, MOST_STRIPS = 4096, 3072  # of one problem
HALF_WIDTH = 1.25  # of a panel, in the smallest standard deviation that f may have there
LIGHT = math.log(1e-7)  # share of a component or of the posterior below which a panel has no nodes, its log
REACH = 7.0  # standard deviations of a component within which its mass lies
NEAR = 0.02  # of a component's distance and width, within which a beam's width need not be resolved
TRUNCATED = 4.0  # standard deviations to a sensor, below which what lies behind it counts
STEPS, MOST_STEP = 3, 0.5  # Gauss-Newton steps to a peak; rad
SHARPEST = 0.25  # of the Gauss-Newton precision, below which a peak's own is not used
MOST_TURNED = 2.5  # rad; beyond it, a direction may wrap
LOSS = 0.001  # nats that a Gaussian may lose by the bend of a ring or a beam
STRAIGHT = 1.2  # as long as a component's part may be beside such a Gaussian, to need one only
MORE = 1.7  # Gaussians, as many times as a component's part is longer than one
FINE = 0.35  # half width of a panel, in standard deviations of such a Gaussian
MOST_FINER = 64
FLAT = 1e-9  # of a matrix: its determinant, beside its largest entry squared
CHECK = 20.0  # times as exact as its check the rule of such a panel is, of a Gaussian


class Nodes(NamedTuple):
    """Nodes of a quadrature in one coordinate."""

    places: tuple[float, ...]
    weights: tuple[float, ...]

    @classmethod
    def of(cls, rule: tuple[Array, Array]) -> Nodes:
        return cls(*(tuple(map(float, part)) for part in rule))


# Gauss-Legendre, in half widths of a panel; and fewer, to check them
PANEL, CHECKS = (Nodes.of(np.polynomial.legendre.leggauss(count)) for count in (4, 3))
# Gauss-Hermite, in standard deviations: along a ray, on which f / r is a Gaussian, and on a circle
RAY, CIRCLE = (Nodes.of(np.polynomial.hermite_e.hermegauss(count)) for count in (3, 5))


class Sensor(NamedTuple):
    """One range or bearing in the plane, whose places are ``u = H y - o`` and ``y = G (u + o)``."""

    is_angle: bool
    value: float
    deviation: float
    log_inlier: float  # log density of a residual of zero
    log_outlier: float
    h: tuple[float, float, float, float]  # H, row by row
    o: tuple[float, float]
    g: tuple[float, float, float, float]  # G, row by row


class Gaussian(NamedTuple):
    """A Gaussian relative to the sensor, and the inverse ``a; b c`` of its lower factor."""

    x: float
    y: float
    xx: float
    xy: float
    yy: float
    a: float
    b: float
    c: float


class Panels(NamedTuple):
    """Space for panels of all components of a problem, and those of one that wait to be divided."""

    outer: Array  # (3, P) centre, half width and log mass
    ends: NDArray[np.int64]  # (K,) of each component's panels
    mass: Array  # (K,) log of each component's part, with the densities of prior and inlier
    total: Array  # (1,) log of the evidence by all of them
    # (5, FIRST + DEEPEST) the same, and the sharpness at both ends, or less than 0 where it is not known
    waiting: Array


class Line(NamedTuple):
    """Where the outer coordinate of a line is, and for how much of it the line stands."""

    outer: float
    step: float


class Lines(NamedTuple):
    """Space for the lines of all components of a problem."""

    strips: Points  # a point for each line, to be fitted
    nodes: Points  # of lines, which measure


class Ends(NamedTuple):
    """How many strips and nodes there are."""

    strips: int
    nodes: int


class Part(NamedTuple):
    """The part of the posterior that a component has times an inlier."""

    wanted: int  # Gaussians that would fit its strips
    mass: float  # share of the posterior
    uncertain: float  # of this
    width: float  # standard deviation of a direction, rad


@inner
def new_panels(count: int) -> Panels:
    """Space for the panels of so many components."""
    return Panels(
        np.empty((3, MOST_PANELS)), np.empty(count, np.int64), np.empty(count), np.empty(1),
        np.empty((5, FIRST + DEEPEST)),
    )  # fmt: skip


@borrowing
def sensor_of(seen: Seen, b: int, n: int, axes: NDArray[np.int64], centre: Array) -> tuple[Sensor, bool]:
    """The observation over the touched coordinates less `centre`; whether it is a range or a bearing in the plane."""
    kind, matrix, largest, fits = seen.kind[b, n], seen.matrix[b, n], 0.0, len(seen.matrix[b, n]) > 1
    for i in range(matrix.shape[1]):
        fits = fits and seen.heading[b, n, i] == 0
        for r in range(len(matrix)):
            largest = max(largest, abs(matrix[r, i]))
            fits = fits and (r < 2 or (matrix[r, i] == 0 and seen.origin[b, n, r] == 0))
    low = min(1, len(matrix) - 1)
    h = (matrix[0, axes[0]], matrix[0, axes[1]], matrix[low, axes[0]], matrix[low, axes[1]])
    determinant = h[0] * h[3] - h[1] * h[2]
    g = (h[3] / determinant, -h[1] / determinant, -h[2] / determinant, h[0] / determinant)
    o = (
        seen.origin[b, n, 0] - h[0] * centre[0] - h[1] * centre[1],
        seen.origin[b, n, low] - h[2] * centre[0] - h[3] * centre[1],
    )
    inlier = seen.log_inlier[b, n] - seen.constant[b, n]
    outlier = seen.log_outlier[b, n] + seen.outlier[b, n]
    sensor = Sensor(kind == ANGLE, seen.value[b, n, 0], seen.deviation[b, n], inlier, outlier, h, o, g)
    fits = fits and kind in (ANGLE, RANGE) and abs(determinant) > FLAT * largest * largest
    return sensor, fits


@borrowing
def _gaussian(x: float, y: float, xx: float, xy: float, yy: float) -> Gaussian:
    first = math.sqrt(xx)
    low = xy / first
    second = math.sqrt(max(yy - low * low, 1e-14 * yy))
    return Gaussian(x, y, xx, xy, yy, 1 / first, -low / (first * second), 1 / second)


@borrowing
def _relative(sensor: Sensor, prior: Prior, k: int) -> Gaussian:
    """A component of the prior relative to the sensor."""
    (p, q, r, s), mean, wide = sensor.h, prior.means[k], prior.covariances[k]
    xx = p * p * wide[0] + 2 * p * q * wide[1] + q * q * wide[2]
    xy = p * r * wide[0] + (p * s + q * r) * wide[1] + q * s * wide[2]
    yy = r * r * wide[0] + 2 * r * s * wide[1] + s * s * wide[2]
    x, y = p * mean[0] + q * mean[1] - sensor.o[0], r * mean[0] + s * mean[1] - sensor.o[1]
    return _gaussian(x, y, xx, xy, yy)


@borrowing
def gained(sensor: Sensor, prior: Prior) -> float:
    """Nats that the observation, linearised at the means, tells of the component that it tells most of.

    That is ``½ log(1 + H P Hᵀ / R)``. H has the direction to the sensor for a range; for a bearing that across it, over
    the distance.
    """
    most = 0.0
    for k in range(len(prior.peaks)):
        g = _relative(sensor, prior, k)
        distance = math.hypot(g.x, g.y)
        east, north, scale = g.x / distance, g.y / distance, sensor.deviation
        if sensor.is_angle:
            east, north, scale = -north, east, sensor.deviation * distance
        spread = east * east * g.xx + 2 * east * north * g.xy + north * north * g.yy
        most = max(most, 0.5 * math.log1p(spread / (scale * scale)))
    return most


@borrowing
def _peak_of_ray(sensor: Sensor, g: Gaussian, turn: float) -> tuple[float, float, float]:
    """Peak and width of f / r along a ray, and the squared distance there from component and observation."""
    east, north, precision = math.cos(turn), math.sin(turn), 1 / (sensor.deviation * sensor.deviation)
    along_x, along_y = g.a * east, g.b * east + g.c * north
    dx, dy = sensor.value * east - g.x, sensor.value * north - g.y
    off_x, off_y = g.a * dx, g.b * dx + g.c * dy
    total = along_x * along_x + along_y * along_y + precision
    across = along_x * off_y - along_y * off_x  # without a difference of large numbers
    squared = (across * across + precision * (off_x * off_x + off_y * off_y)) / total
    return sensor.value - (along_x * off_x + along_y * off_y) / total, 1 / math.sqrt(total), squared


@borrowing
def _peak_of_circle(sensor: Sensor, g: Gaussian, distance: float) -> tuple[float, float, float]:
    """As `_peak_of_ray`, of f on a circle."""
    precision, turn = 1 / (sensor.deviation * sensor.deviation), sensor.value
    for step in range(STEPS + 1):
        east, north = distance * math.cos(turn), distance * math.sin(turn)
        off_x, off_y = g.a * (east - g.x), g.b * (east - g.x) + g.c * (north - g.y)
        along_x, along_y = -g.a * north, g.c * east - g.b * north
        total, off = precision + along_x * along_x + along_y * along_y, turn - sensor.value
        if step < STEPS:
            move = -(precision * off + off_x * along_x + off_y * along_y) / total
            turn += min(max(move, -MOST_STEP), MOST_STEP)
    own = max(total - off_x * g.a * east - off_y * (g.b * east + g.c * north), SHARPEST * total)
    return turn, 1 / math.sqrt(own), precision * off * off + off_x * off_x + off_y * off_y


@borrowing
def _log_mass(sensor: Sensor, g: Gaussian, outer: float) -> tuple[float, float]:
    """Log of the integral of f along one line, by its peak alone, and the width there; without the inlier's density."""
    if sensor.is_angle:
        _, width, squared = _peak_of_circle(sensor, g, outer)
        radius = outer
    else:
        peak, width, squared = _peak_of_ray(sensor, g, outer)
        if peak < -TRUNCATED * width:
            return -math.inf, width
        radius = max(peak, width)
    return math.log(radius * width * g.a * g.c) - 0.5 * LOG_TWO_PI - 0.5 * squared, width


@borrowing
def _fill_line(
    sensor: Sensor, g: Gaussian, line: Line, relative: float, first: int, nodes: Points
) -> tuple[float, float, bool]:
    """Fill the nodes of a line; its mass, its peak, and whether to trust them.

    Masses are shares of the posterior: `relative` is the log of weight and inlier beside the evidence.
    """
    if sensor.is_angle:
        return _fill_circle(sensor, g, line, relative, first, nodes)
    outer, step = line
    peak, width, squared = _peak_of_ray(sensor, g, outer)
    (g0, g1, g2, g3), (o0, o1), mass = sensor.g, sensor.o, 0.0
    scale = math.exp(relative - LOG_TWO_PI - 0.5 * squared) * width * g.a * g.c * step
    east, north = math.cos(outer), math.sin(outer)
    for i in range(len(RAY.places)):
        r, at = peak + width * RAY.places[i], first + i
        u, v, share = r * east + o0, r * north + o1, scale * RAY.weights[i] * max(r, 0.0)
        nodes.x[at], nodes.y[at], nodes.share[at] = g0 * u + g1 * v, g2 * u + g3 * v, share
        mass += share
    return mass, peak, abs(peak) > TRUNCATED * width  # behind the sensor there is nothing


@borrowing
def _fill_circle(
    sensor: Sensor, g: Gaussian, line: Line, relative: float, first: int, nodes: Points
) -> tuple[float, float, bool]:
    outer, step = line
    peak, width, squared = _peak_of_circle(sensor, g, outer)
    (g0, g1, g2, g3), (o0, o1), mass = sensor.g, sensor.o, 0.0
    scale = math.exp(relative - LOG_TWO_PI - 0.5 * squared) * width * g.a * g.c * step * outer
    for i in range(len(CIRCLE.places)):
        node, at = CIRCLE.places[i], first + i
        turn = peak + width * node
        east, north, off = (
            outer * math.cos(turn),
            outer * math.sin(turn),
            (turn - sensor.value) / sensor.deviation,
        )
        one, other = g.a * (east - g.x), g.b * (east - g.x) + g.c * (north - g.y)
        below = off * off + one * one + other * other - squared - node * node
        u, v, share = east + o0, north + o1, scale * CIRCLE.weights[i] * math.exp(-0.5 * below)
        nodes.x[at], nodes.y[at], nodes.share[at] = g0 * u + g1 * v, g2 * u + g3 * v, share
        mass += share
    return mass, peak, abs(peak - sensor.value) + 3 * width < MOST_TURNED


@borrowing
def _put_strip(sensor: Sensor, line: Line, peak: float, first: int, lines: Lines, at: int) -> None:
    """Put the moments of a line's nodes, which stand for places that are spread evenly over the step."""
    outer, step, (strips, nodes) = line.outer, line.step, lines
    mass, end = 0.0, first + _nodes_of_line(sensor)
    x = y = xx = xy = yy = 0.0
    for i in range(first, end):
        mass += nodes.share[i]
        x += nodes.share[i] * nodes.x[i]
        y += nodes.share[i] * nodes.y[i]
    each = 1 / mass if mass > 0 else 0.0
    x, y = (x * each, y * each) if mass > 0 else (nodes.x[first], nodes.y[first])
    for i in range(first, end):
        part, dx, dy = nodes.share[i] * each, nodes.x[i] - x, nodes.y[i] - y
        xx, xy, yy = xx + part * dx * dx, xy + part * dx * dy, yy + part * dy * dy
    turn, along = peak if sensor.is_angle else outer, step / math.sqrt(12.0)
    u, v = along * math.cos(turn), along * math.sin(turn)
    if not sensor.is_angle:
        u, v = -peak * v, peak * u
    dx, dy = sensor.g[0] * u + sensor.g[1] * v, sensor.g[2] * u + sensor.g[3] * v
    strips.x[at], strips.y[at], strips.share[at] = x, y, mass
    strips.log[at] = step / outer if sensor.is_angle else step  # its length, as it counts for the bend
    strips.spread[0, at], strips.spread[1, at], strips.spread[2, at] = xx, xy, yy
    strips.cell[0, at], strips.cell[1, at], strips.cell[2, at] = dx * dx, dx * dy, dy * dy


@borrowing
def _nodes_of_line(sensor: Sensor) -> int:
    return len(CIRCLE.places) if sensor.is_angle else len(RAY.places)


@borrowing
def _wider(sensor: Sensor, g: Gaussian, half: float) -> Gaussian:
    """A component that is wider by a panel: its density at the centre is that of the whole panel."""
    step = half if sensor.is_angle else sensor.value * half
    added = step * step / 3
    return _gaussian(g.x, g.y, g.xx + added, g.xy, g.yy + added)


@borrowing
def _sharpness(sensor: Sensor, g: Gaussian, outer: float, near: float) -> float:
    """One over the smallest standard deviation, along the outer coordinate, that f may have here."""
    turn = sensor.value if sensor.is_angle else outer
    east, north = math.cos(turn), math.sin(turn)
    # the observation adds its variance along the inner coordinate, before the derivative along the outer one
    x, y, scale = (
        (north, -east, outer * sensor.deviation) if sensor.is_angle else (east, north, sensor.deviation)
    )
    xx, xy, yy = g.xx + (scale * x) ** 2, g.xy + scale * scale * x * y, g.yy + (scale * y) ** 2
    squared = (yy * y * y + 2 * xy * x * y + xx * x * x) / (xx * yy - xy * xy)
    if sensor.is_angle:
        return math.sqrt(squared + 0.5 / (outer + near) ** 2)
    along_x, along_y = g.a * east, g.b * east + g.c * north
    precision = along_x * along_x + along_y * along_y + 1 / (sensor.deviation * sensor.deviation)
    # a ray turns in the frame of the component, which a weak observation does not stop
    turning, one, other = g.a * g.c / precision, g.a * g.x, g.b * g.x + g.c * g.y
    return math.sqrt(sensor.value**2 * squared + (1 + one * one + other * other) * turning * turning)


@borrowing
def _fill_first(sensor: Sensor, g: Gaussian, waiting: Array) -> tuple[float, float]:
    """Fill the first panels, in rising order of mass; their half width, and the distance that counts as near."""
    reach, near = math.hypot(g.x, g.y), 0.0
    far = REACH * math.sqrt(g.xx + g.yy)
    if sensor.is_angle:
        low, near = max(0.0, reach - far), NEAR * (reach + far / REACH)
        half = 0.5 * (reach + far - low) / FIRST
    else:
        turn = math.asin(far / reach) if far < reach else math.pi
        low, half = math.atan2(g.y, g.x) - turn, turn / FIRST
    wider = _wider(sensor, g, half)
    for i in range(FIRST):
        centre, at = low + half * (2 * i + 1), i
        mass = _log_mass(sensor, wider, centre)[0] + math.log(2 * half)
        while at > 0 and waiting[2, at - 1] > mass:
            waiting[0, at], waiting[2, at] = waiting[0, at - 1], waiting[2, at - 1]
            at -= 1
        waiting[0, at], waiting[2, at] = centre, mass
        waiting[1, i], waiting[3, i], waiting[4, i] = half, -1.0, -1.0
    return half, near


@borrowing
def _divide(sensor: Sensor, g: Gaussian, panels: Panels, start: int, least: float) -> int:
    """Fill the panels of a component from `start` where their log mass is not below `least`; their end, or −1.

    The best of those that wait is divided first, so that the others are dropped beside it.
    """
    into, waiting, end, highest, enough = panels.outer, panels.waiting, start, -math.inf, least
    (first, near), count = _fill_first(sensor, g, waiting), FIRST
    while count > 0:
        count -= 1
        centre, half, mass = waiting[0, count], waiting[1, count], waiting[2, count]
        if not mass > enough:  # not the other way round, so that what is not a number is dropped
            continue
        left, right, middle = waiting[3, count], waiting[4, count], _sharpness(sensor, g, centre, near)
        left = _sharpness(sensor, g, centre - half, near) if left < 0 else left
        right = _sharpness(sensor, g, centre + half, near) if right < 0 else right
        if half < first * 2.0 ** (1 - DEEPEST) or max(left, middle, right) * half < HALF_WIDTH:
            if end == into.shape[1]:
                return -1
            into[0, end], into[1, end], into[2, end] = centre, half, mass
            highest, end = max(highest, mass), end + 1
            enough = max(least, highest + LIGHT)
            continue
        half /= 2
        wider = _wider(sensor, g, half)
        one, other = _log_mass(sensor, wider, centre - half)[0], _log_mass(sensor, wider, centre + half)[0]
        at = 1 if one > other else 0  # the better one is last
        _wait(waiting, count + at, centre - half, half, one, left, middle)
        _wait(waiting, count + 1 - at, centre + half, half, other, middle, right)
        count += 2
    return _kept(panels.outer, start, end, enough)


@borrowing
def _wait(
    waiting: Array, at: int, centre: float, half: float, mass: float, left: float, right: float
) -> None:
    waiting[0, at], waiting[1, at], waiting[2, at] = centre, half, mass + math.log(2 * half)
    waiting[3, at], waiting[4, at] = left, right


@borrowing
def _kept(outer: Array, start: int, end: int, least: float) -> int:
    """Close up the panels whose log mass is above `least`, in order of their centres; their end."""
    left = start
    for i in range(start, end):
        if outer[2, i] > least:
            centre, half, mass, at = outer[0, i], outer[1, i], outer[2, i], left
            while at > start and outer[0, at - 1] > centre:
                outer[0, at], outer[1, at], outer[2, at] = (
                    outer[0, at - 1],
                    outer[1, at - 1],
                    outer[2, at - 1],
                )
                at -= 1
            outer[0, at], outer[1, at], outer[2, at] = centre, half, mass
            left += 1
    return left


@borrowing
def _log_total(logs: Array, start: int, end: int) -> float:
    """Log of a sum of exponentials."""
    highest, total = -math.inf, 0.0
    for i in range(start, end):
        highest = max(highest, logs[i])
    if highest == -math.inf:
        return highest
    for i in range(start, end):
        total += math.exp(logs[i] - highest)
    return highest + math.log(total)


@borrowing
def fill_panels(sensor: Sensor, prior: Prior, panels: Panels) -> float:
    """Fill the panels of all components; the log evidence by them, not a number without space for them."""
    end, highest = 0, sensor.log_outlier
    for k in range(len(prior.peaks)):
        start, g = end, _relative(sensor, prior, k)
        log_weight = prior.log_weights[k] + LOG_TWO_PI + sensor.log_inlier
        end = _divide(sensor, g, panels, start, highest + LIGHT - log_weight)
        if end < 0:
            return math.nan
        panels.ends[k], panels.mass[k] = end, -math.inf
        if end > start:
            panels.mass[k] = log_weight + _log_total(panels.outer[2], start, end)
            highest = max(highest, panels.mass[k])
    rough = _log_total(panels.mass, 0, len(prior.peaks))
    rough = log_sum(rough, sensor.log_outlier) if sensor.log_outlier > -math.inf else rough
    panels.total[0] = rough
    return rough


@borrowing
def fill_strips(
    sensor: Sensor, prior: Prior, k: int, most: int, panels: Panels, ends: Ends, lines: Lines
) -> tuple[Ends, Part]:
    """Put strips of a component, to be fitted, and nodes of another rule, to measure, after those there are.

    Returns where they end, −1 without space for them, and what they are of the posterior. The strips are fine enough
    for `most` Gaussians. One Gaussian has their moments, and is measured on their own nodes, which are more exact.
    """
    start, g, rough = panels.ends[k - 1] if k > 0 else 0, _relative(sensor, prior, k), panels.total[0]
    (at, place), (strips, nodes) = ends, lines
    relative = prior.log_weights[k] + LOG_TWO_PI + sensor.log_inlier - rough
    end = _kept(panels.outer, start, panels.ends[k], LIGHT - relative)
    wanted, long, highest, width = _division(
        sensor, g, panels.outer, start, end, most, math.exp(panels.mass[k] - rough)
    )
    mass, other, doubted, each = 0.0, 0.0, 0.0, _nodes_of_line(sensor)
    spare = len(nodes.x) - len(CIRCLE.places)  # for the nodes of lines that are not kept
    for i in range(start, end):
        centre, whole = panels.outer[0, i], panels.outer[1, i]
        length = whole / centre if sensor.is_angle else whole
        # Gaussians are longer where there is less to fit, see `polar_answers`
        fine = FINE * long * math.exp(0.2 * (highest - panels.outer[2, i] + math.log(length)))
        finer = max(1, math.ceil(min(length / fine, float(MOST_FINER))))
        half = whole / finer
        some = finer * len(PANEL.places)
        if at + some > len(strips.x) or place + some * each > spare:
            return Ends(-1, -1), Part(0, 0.0, math.inf, width)
        for number in range(finer):
            middle = centre - whole + (2 * number + 1) * half
            for c in range(len(PANEL.places)):
                line = Line(middle + half * PANEL.places[c], half * PANEL.weights[c])
                into = place if wanted == 1 else spare
                part, peak, trusted = _fill_line(sensor, g, line, relative, into, nodes)
                _put_strip(sensor, line, peak, into, lines, at)
                mass, doubted, at = mass + part, doubted + (0.0 if trusted else part), at + 1
                place += each if wanted == 1 else 0
            for c in range(len(CHECKS.places)):
                line = Line(middle + half * CHECKS.places[c], half * CHECKS.weights[c])
                if wanted == 1:
                    other += line.step * math.exp(_log_mass(sensor, g, line.outer)[0] + relative)
                else:
                    other += _fill_line(sensor, g, line, relative, place, nodes)[0]
                    place += each
    return Ends(at, place), Part(wanted, mass, doubted + abs(mass - other) / CHECK, width)


@borrowing
def _division(
    sensor: Sensor, g: Gaussian, outer: Array, start: int, end: int, most: int, share: float
) -> tuple[int, float, float, float]:
    """How many Gaussians fit a component's part, how long each may be, the highest log density, and the width there.

    The width is in radians of a bearing, and 0 of a range.

    An arc of standard deviation t on a ring of radius r and width s loses about (r t² / 2 s)² nats; a beam grows wider
    with the distance, whose logarithm counts.
    """
    highest, width, densest, mass, mean, square = -math.inf, 0.0, -math.inf, 0.0, 0.0, 0.0
    for i in range(start, end):
        if outer[2, i] > highest:
            highest, width = outer[2, i], _log_mass(sensor, g, outer[0, i])[1]
    for i in range(start, end):
        weight, place, half = math.exp(outer[2, i] - highest), outer[0, i], outer[1, i]
        if sensor.is_angle:
            place, half = math.log(place), half / place
        densest = max(densest, outer[2, i] - math.log(half))
        mass += weight
        mean += weight * place
        square += weight * (place * place + half * half / 3)
    if start == end:
        return 1, math.inf, densest, 0.0
    spread, bent = math.sqrt(max(square / mass - (mean / mass) ** 2, 0.0)), math.sqrt(LOSS / share)
    if not sensor.is_angle:
        bent, width = math.sqrt(2 * bent * width / sensor.value), 0.0
    if spread < STRAIGHT * bent:
        return 1, math.inf, densest, width
    wanted = math.ceil(min(MORE * spread / bent, float(MOST_STRIPS)))
    return wanted, MORE * spread / min(wanted, float(most)), densest, width
