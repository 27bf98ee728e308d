"""The posterior of one range or bearing in the plane, however much it bends, by quadrature around its sensor.

For each component of the prior:

1. Nodes and strips of its part of the posterior (`polar_nodes`), with the exact evidence, whatever the noise.
2. A mixture fitted to the strips by expectation-maximisation, with as many Gaussians as the bend asks for.
3. What no sensor touches follows exactly, by the component's regression on the touched coordinates.

An outlier's density is constant, so that a component times an outlier stays as it is. All parts are reduced to an
answer (A. R. Runnalls, "Kullback-Leibler approach to Gaussian mixture reduction", IEEE Transactions on Aerospace and
Electronic Systems 43(3), 2007). The divergence of the answer is a sum over the nodes of all components, which are
wherever the posterior is. Beside a poor answer stands one Gaussian as wide as the prior.

Under several components that the answer holds poorly, a mixture is fitted to the strips of all of them together, and
the better one is taken. Its parts follow several components, so both are measured in the coordinates that no sensor
touches too.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.native import borrowing, fusing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, roughly_exponential
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.mixtures.reduction import Room, leave_absent, new_room, reduce_one
from beliefstream.inference.update.check.importance import WIDER
from beliefstream.inference.update.check.unobserved import (
    Draws,
    Extension,
    divergence_of_all,
    draws_of,
    extend_all,
    new_extension,
    regress,
)
from beliefstream.inference.update.closed.scaled_problem import example
from beliefstream.inference.update.plane.densities import (
    UNOBSERVED_POINTS,
    DensitySpace,
    Framed,
    Prior,
    Problem,
    fill_density,
    fill_framed,
    first_of,
    new_density_space,
    new_framed,
    new_prior,
    take,
)
from beliefstream.inference.update.plane.mixture_fit import (
    Expectation,
    Mixture,
    Points,
    Sample,
    divergences,
    divide,
    improve,
    new_expectation,
    new_mixture,
    put_sums,
)
from beliefstream.inference.update.plane.polar_nodes import (
    CIRCLE,
    LIGHT,
    MOST_STRIPS,
    REACH,
    Ends,
    Lines,
    Panels,
    Sensor,
    fill_panels,
    fill_strips,
    gained,
    new_panels,
    sensor_of,
)
from beliefstream.inference.update.settings import UpdateSettings

Places = NDArray[np.int64]

STEPS, LEAST_GAIN = 25, 1e-4  # of expectation-maximisation; nats of a step, below which it ends
LEAST_EFFICIENCY = 0.8  # sample efficiency, below which another answer is tried in any case
# nodes and weights of a component times an outlier, and of one with a small share of the posterior
OUTSIDE, FEW_OUTSIDE = ((nodes.numpy(), weights.numpy()) for nodes, weights in (rule(8, 2), rule(3, 2)))
LIGHT_OUTLIER = 0.001
NEAR = 2.5  # standard deviations of the noise
# places of the values of an answer
EVIDENCE, DIVERGENCE, UNCERTAIN, IS_LONG, WIDTH, GAINED, IS_SINGLE, IS_FITTED_TO_ALL = range(8)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    prior, observations = example()
    none = np.zeros(0, np.int64)
    solve(
        prior.numbers,
        observations.native,
        none,
        np.zeros((0, 2), np.int64),
        Limits(1, 0.0, 0.0, 0.0, 0.0),
    )


class Limits(NamedTuple):
    """What is asked of an answer."""

    most: int  # components
    merge_below: float  # nats that merging two components may lose
    prior_share: float  # largest weight of the component that is as wide as the prior
    below: float  # nats that an answer may lose without such a component
    poor: float  # nats that an answer may lose before another is tried


class Chosen(NamedTuple):
    """Problems of a batch that have one range or bearing."""

    entities: Places  # (b,)
    axes: Places  # coordinates that the observation touches, (b, 2)


class Touched(NamedTuple):
    """The coordinates that the observation of a problem touches."""

    axes: Places  # (2,)
    centre: Array  # (2,), which nodes and fitted mixtures are relative to


class Answer(NamedTuple):
    """The answer to one problem, to be filled."""

    log_weights: Array  # (J,)
    means: Array  # (J, D)
    covariances: Array  # (J, D, D)
    values: Array  # (8,)


class Counts(NamedTuple):
    """How large an answer is: without a component there is none."""

    components: int
    nodes: int  # that measure it


class Space(NamedTuple):
    """Space for one problem."""

    prior: Prior
    panels: Panels
    lines: Lines
    number: Places  # (2,) of strips, and whether they are too long
    spans: Places  # (K, 3) first strip and end of each component, and how many Gaussians are fitted to them
    masses: Array  # (K + 1,) share of each component's strips, and of an outlier
    own: Points  # strips of one component
    mixture: Mixture
    work: Expectation
    logs: Array  # (P,)
    framed: Framed
    densities: DensitySpace
    parts: Numbers  # (1, J) over the whole state
    reduced: Numbers  # the same
    extension: Extension
    squares: Array  # (5, D, D)
    room: Room


def limits_of(settings: UpdateSettings) -> Limits:
    """What the settings ask of an answer."""
    poor = -0.5 * math.log(max(settings.refine_below, LEAST_EFFICIENCY))
    below, share = float(settings.quadrature_below), float(settings.prior_share)
    return Limits(settings.most_components, float(settings.merge_below), share, below, poor)


def solve(prior: Numbers, seen: Seen, index: Places, axes: Places, limits: Limits) -> tuple[Numbers, Array]:
    """Answers ``(b, J, D)`` to the problems at `index` of a batch, and their values.

    Args:
        prior: over the whole state, absent components last.
        seen: one observation for each problem.
        index: ``(b,)``.
        axes: coordinates that each observation touches, ``(b, 2)``.
        limits: what is asked of an answer.

    Returns:
        The mixtures, and ``(8, b)`` log evidence, divergence from the posterior in nats, share of it that is uncertain,
        whether more components than an answer may have would fit better, the standard deviation of a direction in
        radians, 0 of a range, the nats that the observation tells, whether the prior has one component, and whether a
        mixture was fitted to all of several together. The divergence is infinite where there is no answer.
    """
    shape, size = (len(index), limits.most), prior.means.shape[2]
    found = Numbers(
        np.full(shape, -math.inf), np.zeros((*shape, size)), np.tile(np.eye(size), (*shape, 1, 1))
    )
    values, draws = np.full((8, len(index)), math.inf), draws_of(UNOBSERVED_POINTS, max(size - 2, 0))
    _solve_all(prior, seen, Chosen(index, axes), limits, draws, found, values)
    return found, values


@native
def _solve_all(
    priors: Numbers, seen: Seen, chosen: Chosen, limits: Limits, draws: Draws, found: Numbers, values: Array
) -> None:
    count, size = priors.means.shape[1:]
    nodes = len(CIRCLE.places) * (MOST_STRIPS + 1) + count * len(OUTSIDE[0])
    space = _new_space(count, size, limits.most, nodes)
    for row in range(len(chosen.entities)):
        b, axes, its = chosen.entities[row], chosen.axes[row], values[:, row]
        prior = Numbers(priors.log_weights[b], priors.means[b], priors.covariances[b])
        answer = Answer(found.log_weights[row], found.means[row], found.covariances[row], its)
        several = count > 1 and prior.log_weights[min(1, count - 1)] > -math.inf
        counts = _solve(prior, seen, b, axes, limits, space, answer)
        left = counts.components
        its[IS_SINGLE] = not several
        its[IS_FITTED_TO_ALL] = left > 0 and several and not its[DIVERGENCE] < limits.poor
        if its[IS_FITTED_TO_ALL]:
            left = _fit_all(prior, axes, limits, draws, counts, space, answer)
        leave_absent(left, limits.most, answer.log_weights, answer.means, answer.covariances)


@inner
def _new_space(count: int, size: int, most: int, nodes: int) -> Space:
    places = most + 2 * count
    return Space(
        new_prior(count),
        new_panels(count),
        Lines(_new_points(MOST_STRIPS, MOST_STRIPS), _new_points(nodes, 0)),
        np.zeros(2, np.int64),
        np.zeros((count, 3), np.int64),
        np.zeros(count + 1),
        _new_points(MOST_STRIPS, MOST_STRIPS),
        new_mixture(max(most, count)),
        new_expectation(max(most, count), nodes),
        np.empty(nodes),
        new_framed(1),
        new_density_space(count, nodes),
        Numbers(np.empty((1, places)), np.empty((1, places, size)), np.empty((1, places, size, size))),
        Numbers(np.empty((1, places)), np.empty((1, places, size)), np.empty((1, places, size, size))),
        new_extension(count, size, 2),
        np.empty((5, size, size)),
        new_room(places, size),
    )


@inner
def _new_points(count: int, spread: int) -> Points:
    """Space for so many points, so many of which have a spread."""
    numbers, spreads = np.empty((4, count)), np.empty((2, 3, spread))
    return Points(numbers[0], numbers[1], numbers[2], spreads[0], spreads[1], numbers[3])


@inner
def _solve(
    whole: Numbers, seen: Seen, b: int, axes: Places, limits: Limits, space: Space, answer: Answer
) -> Counts:
    """Fill the answer to one problem."""
    n, touched, values = 0, _touched(whole, axes), answer.values
    while not seen.mask[b, n]:
        n += 1
    frame = (touched.centre[0], touched.centre[1], 1.0, 0.0, 1.0)
    prior = first_of(space.prior, take(whole, axes, frame, space.prior))
    sensor, fits = sensor_of(seen, b, n, axes, touched.centre)
    rough = fill_panels(sensor, prior, space.panels) if fits else math.nan
    if not -math.inf < rough < math.inf:
        return Counts(0, 0)
    inliers, share, uncertain, values[WIDTH] = _add_inliers(sensor, prior, limits, space)
    if inliers < 0:
        return Counts(0, 0)
    values[IS_LONG], values[GAINED] = space.number[1], gained(sensor, prior)
    parts = _fit_inliers(whole, touched, len(prior.peaks), space)
    parts, nodes, other = _add_outliers(whole, sensor, prior, parts, inliers, space)
    share += other
    space.masses[-1] = other / share
    if parts == 0 or not 0 < share < math.inf:  # a comparison that keeps what is not a number out
        return Counts(0, 0)
    values[EVIDENCE] = rough + math.log(share)
    if sensor.is_angle:  # nodes reach so far only, where the likelihood is at most that of a residual of zero
        uncertain += math.exp(min(sensor.log_inlier - values[EVIDENCE] - 0.5 * REACH * REACH, 0.0))
    values[UNCERTAIN] = uncertain
    problem = Problem(prior, space.framed, *fill_framed(seen, b, axes, frame, space.framed))
    points = space.lines.nodes
    fill_density(problem, points.x, points.y, nodes, space.densities, points.log)
    _share_out(sensor, space.densities.squared, inliers, nodes, points.share)
    given = (space.parts.log_weights[0, :parts], space.parts.means[0], space.parts.covariances[0])
    into = (space.reduced.log_weights[0], space.reduced.means[0], space.reduced.covariances[0])
    left = reduce_one(given, limits.most - 1, limits.merge_below, space.room, into)
    if not 0 < left < limits.most:  # not all can be merged where a number is not finite
        return Counts(0, 0)
    sample = Sample(points, nodes, values[EVIDENCE])
    loss = uncertain + _loss(into, left, touched, sample, other > 0, space)
    if not loss < limits.below:
        left = _add_wide(whole, len(prior.peaks), into, left, limits.prior_share, space.squares)
        loss = uncertain + _loss(into, left, touched, sample, other > 0, space)
    values[DIVERGENCE] = loss if loss < math.inf else math.inf
    _put(into, left, answer)
    return Counts(left, nodes)


@inner
def _touched(whole: Numbers, axes: Places) -> Touched:
    centre = np.empty(2)
    centre[0], centre[1] = whole.means[0, axes[0]], whole.means[0, axes[1]]
    return Touched(axes, centre)


@borrowing
def _put(mixture: tuple[Array, Array, Array], count: int, into: Answer) -> None:
    for k in range(count):
        into.log_weights[k] = mixture[0][k]
        put_vector(into.means[k], mixture[1][k])
        put_matrix(into.covariances[k], mixture[2][k])


@borrowing
def _loss(
    answer: tuple[Array, Array, Array],
    count: int,
    touched: Touched,
    nodes: Sample,
    everywhere: bool,
    space: Space,
) -> float:
    """The divergence of an answer over the nodes, nats.

    Nodes `everywhere`, as an outlier has, see most of the answer. Then the sum without negative terms counts too, where
    it is larger.
    """
    _marginal(answer, count, touched, space.mixture)
    one, other = divergences(space.mixture, count, nodes, space.work, space.logs)
    return max(one, abs(other)) if everywhere else abs(other)


@borrowing
def _add_inliers(
    sensor: Sensor, prior: Prior, limits: Limits, space: Space
) -> tuple[int, float, float, float]:
    """Fill strips and nodes of components times an inlier, and how many Gaussians each gets.

    Returns how many nodes there are, −1 without space for them, their mass, what of it is uncertain, and the largest
    standard deviation of a direction. `space.number` has how many strips there are, and whether more Gaussians than an
    answer may have would fit them better.
    """
    ends, total, uncertain, widest, rough = Ends(0, 0), 0.0, 0.0, 0.0, space.panels.total[0]
    most = limits.most - (2 if sensor.log_outlier > -math.inf and len(prior.peaks) == 1 else 1)
    wanted, weights = 0, 0.0
    for k in range(len(prior.peaks)):
        span = space.spans[k]
        span[0], span[1], span[2], space.masses[k] = ends.strips, ends.strips, 0, 0.0
        if not space.panels.mass[k] - rough > LIGHT:
            continue
        ends, part = fill_strips(sensor, prior, k, most, space.panels, ends, space.lines)
        span[1], span[2], space.masses[k] = ends.strips, part.wanted, part.mass
        if ends.nodes < 0 or not part.mass < math.inf:
            return -1, 0.0, math.inf, 0.0
        total, uncertain = total + part.mass, uncertain + part.uncertain
        widest, wanted = max(widest, part.width), wanted + part.wanted
        weights += part.wanted**0.8
    # so many of each, n, that the sum of losses (wanted / n)⁴ is least
    for k in range(len(prior.peaks) if wanted > most else 0):
        span = space.spans[k]
        span[2] = min(span[2], max(1, int(most * span[2] ** 0.8 / weights)))
    space.number[0], space.number[1] = ends.strips, wanted > most
    return ends.nodes, total, uncertain, widest


@borrowing
def _fit_inliers(whole: Numbers, touched: Touched, count: int, space: Space) -> int:
    """Fit the strips of each component, over the whole state; how many parts there are."""
    parts = 0
    for k in range(count):
        start, end, wanted = space.spans[k, 0], space.spans[k, 1], space.spans[k, 2]
        share = space.masses[k]
        if not share > 0:
            continue
        _take(space.lines.strips, start, end, space.own)
        components = _fit(space.own, end - start, wanted, share, True, space)
        regress(whole, k, touched.axes, space.extension)
        for j in range(components):
            log_weight = space.mixture.log_weights[j] + math.log(share)
            _extend(whole, k, touched, log_weight, space.mixture.moments[j], space, parts)
            parts += 1
    return parts


@borrowing
def _take(strips: Points, start: int, end: int, own: Points) -> None:
    """Take strips from a place to before another."""
    for p in range(start, end):
        at = p - start
        own.x[at], own.y[at], own.share[at] = strips.x[p], strips.y[p], strips.share[p]
        own.log[at] = strips.log[p]
        for i in range(3):
            own.spread[i, at], own.cell[i, at] = strips.spread[i, p], strips.cell[i, p]


@borrowing
def _fit(strips: Points, count: int, wanted: int, share: float, in_order: bool, space: Space) -> int:
    """Fit so many Gaussians to strips by expectation-maximisation; how many there are.

    They start with parts of the strips, which are consecutive where these are `in_order` along a ring or a beam.
    """
    before = -math.inf
    if in_order:
        components = _consecutive(strips, count, wanted, space)
    else:
        components = divide(strips, count, wanted, -math.inf, space.work, space.mixture)
    for _ in range(STEPS if components > 1 else 1):
        components = improve(strips, count, components, space.mixture, space.work, space.logs)
        now = 0.0
        for p in range(count):
            now += strips.share[p] * space.logs[p]
        if now - before < LEAST_GAIN * max(share, 0.1):
            break
        before = now
    return components


@borrowing
def _consecutive(strips: Points, count: int, wanted: int, space: Space) -> int:
    """Fill a component for each of so many parts of strips in order.

    A part of density f and length t loses about f t⁵ by its bend. The sum is least where parts are as dense as f^⅕.
    """
    total, before = 0.0, 0.0
    for p in range(count):
        length = strips.log[p]
        space.logs[p] = length * (strips.share[p] / length) ** 0.2
        total += space.logs[p]
    sums = space.work.sums
    for j in range(wanted):
        for i in range(6):
            sums[j, i] = 0.0
    for p in range(count):
        own = sums[max(0, min(int(wanted * (before + 0.5 * space.logs[p]) / total), wanted - 1))]
        before += space.logs[p]
        x, y, share = strips.x[p], strips.y[p], strips.share[p]
        own[0] += share
        own[1] += share * x
        own[2] += share * y
        own[3] += share * (x * x + strips.spread[0, p] + strips.cell[0, p])
        own[4] += share * (x * y + strips.spread[1, p] + strips.cell[1, p])
        own[5] += share * (y * y + strips.spread[2, p] + strips.cell[2, p])
    return put_sums(sums, wanted, space.mixture, 0.0)


@borrowing
def _extend(
    whole: Numbers, k: int, touched: Touched, log_weight: float, part: Array, space: Space, place: int
) -> None:
    """Put a part of a component over the whole state: ``m + G (y - m_y)`` and ``R + G S Gᵀ``, G the regression."""
    regression, into, (axes, centre) = space.extension.regression, space.parts, touched
    gain, rest = regression.gain[k], regression.rest[k]
    x = part[0] + centre[0] - whole.means[k, axes[0]]
    y = part[1] + centre[1] - whole.means[k, axes[1]]
    into.log_weights[0, place] = log_weight
    for i in range(len(gain)):
        into.means[0, place, i] = whole.means[k, i] + gain[i, 0] * x + gain[i, 1] * y
        for j in range(i + 1):
            one = part[2] * gain[j, 0] + part[3] * gain[j, 1]
            other = part[3] * gain[j, 0] + part[4] * gain[j, 1]
            value = rest[i, j] + gain[i, 0] * one + gain[i, 1] * other
            into.covariances[0, place, i, j] = into.covariances[0, place, j, i] = value


@borrowing
def _add_outliers(
    whole: Numbers, sensor: Sensor, prior: Prior, parts: int, at: int, space: Space
) -> tuple[int, int, float]:
    """Add parts and nodes of components times an outlier, which leaves them as they are.

    Returns how many there are then, and the mass of these.
    """
    nodes, rough, total = space.lines.nodes, space.panels.total[0], 0.0
    for k in range(len(prior.peaks) if sensor.log_outlier > -math.inf else 0):
        log_weight, mean, wide = (
            whole.log_weights[k] + sensor.log_outlier - rough,
            prior.means[k],
            prior.covariances[k],
        )
        if not log_weight > LIGHT:
            continue
        space.parts.log_weights[0, parts] = log_weight
        put_vector(space.parts.means[0, parts], whole.means[k])
        put_matrix(space.parts.covariances[0, parts], whole.covariances[k])
        parts, total = parts + 1, total + math.exp(log_weight)
        first = math.sqrt(wide[0])
        low = wide[1] / first
        second = math.sqrt(max(wide[2] - low * low, 0.0))
        light = log_weight < math.log(LIGHT_OUTLIER)
        steps, weights = FEW_OUTSIDE if light else OUTSIDE
        for p in range(len(steps)):
            nodes.x[at] = mean[0] + first * steps[p, 0]
            nodes.y[at] = mean[1] + low * steps[p, 0] + second * steps[p, 1]
            nodes.share[at] = math.exp(log_weight) * weights[p]
            at += 1
    return parts, at, total


@borrowing
def _share_out(sensor: Sensor, squared: Array, inliers: int, count: int, shares: Array) -> None:
    """Make the shares of nodes add up to one.

    Before, nodes of an inlier get what an outlier has within `NEAR` of a ring or a beam. Few nodes of a component times
    an outlier lie there, and stand for much more.
    """
    total = 0.0
    if sensor.log_outlier > -math.inf:
        _move_shares(sensor.log_inlier - sensor.log_outlier, squared, inliers, count, shares)
    for p in range(count):
        total += shares[p]
    for p in range(count):
        shares[p] /= total


@fusing
def _move_shares(odds: float, squared: Array, inliers: int, count: int, shares: Array) -> None:
    for p in range(count):
        near = 1 / (1 + roughly_exponential(min(2 * (squared[p] - NEAR * NEAR), -UNDERFLOW)))
        relative = roughly_exponential(max(min(0.5 * squared[p], NEAR * NEAR) - odds, UNDERFLOW))
        shares[p] *= 1 + near * relative if p < inliers else 1 - near


@borrowing
def _add_wide(
    whole: Numbers,
    count: int,
    found: tuple[Array, Array, Array],
    left: int,
    most: float,
    squares: Array,
) -> int:
    """Add one Gaussian as wide as the prior, as `importance.with_wide`; how many components there are then."""
    if not most > 0:
        return left
    log_weights, means, covariances = found
    size, before, after = means.shape[1], squares[4, 0], squares[4, 1]
    _moments((whole.log_weights, whole.means, whole.covariances), count, before, squares[0])
    _moments(found, left, after, squares[1])
    factorise(squares[1], TINY, ROUNDING, squares[2])
    for i in range(size):
        means[left, i] = before[i]
        for j in range(size):
            covariances[left, i, j] = squares[0, i, j]
            squares[0, i, j] += (before[i] - after[i]) * (before[j] - after[j])
    invert_product(squares[2], squares[1], squares[3])
    added = 0.0
    for i in range(size):
        for j in range(size):
            added += squares[3, i, j] * squares[0, i, j]
    share = min(most, WIDER / added)
    for k in range(left):
        log_weights[k] += math.log1p(-share)
    log_weights[left] = math.log(share)
    return left + 1


@borrowing
def _moments(mixture: tuple[Array, Array, Array], count: int, mean: Array, covariance: Array) -> None:
    """Fill mean and covariance of a mixture."""
    log_weights, means, covariances = mixture
    size = len(covariance)
    for i in range(size):
        mean[i] = 0.0
        for k in range(count):
            mean[i] += math.exp(log_weights[k]) * means[k, i]
    for i in range(size):
        for j in range(size):
            covariance[i, j] = 0.0
            for k in range(count):
                off = (means[k, i] - mean[i]) * (means[k, j] - mean[j])
                covariance[i, j] += math.exp(log_weights[k]) * (covariances[k, i, j] + off)


@borrowing
def _marginal(mixture: tuple[Array, Array, Array], count: int, touched: Touched, into: Mixture) -> None:
    """Fill a mixture over the touched coordinates less their centre."""
    axes, centre = touched
    for k in range(count):
        moments, covariance = into.moments[k], mixture[2][k]
        into.log_weights[k] = mixture[0][k]
        moments[0], moments[1] = mixture[1][k, axes[0]] - centre[0], mixture[1][k, axes[1]] - centre[1]
        moments[2], moments[4] = covariance[axes[0], axes[0]], covariance[axes[1], axes[1]]
        moments[3] = covariance[axes[1], axes[0]]


@inner
def _fit_all(
    whole: Numbers, axes: Places, limits: Limits, draws: Draws, counts: Counts, space: Space, answer: Answer
) -> int:
    """Put a mixture fitted to the strips of all components in the place of an answer, if it is better.

    Returns how many components the better one has; its divergence is then in the answer's values.
    """
    sources, touched, size, (before, nodes) = 1, _touched(whole, axes), whole.means.shape[1], counts
    while sources < len(whole.means) and whole.log_weights[sources] > -math.inf:
        sources += 1
    prior = _alone((whole.log_weights, whole.means, whole.covariances), sources)
    given, values = (answer.log_weights, answer.means, answer.covariances), answer.values
    uncertain, other = values[UNCERTAIN], space.masses[-1]
    sample = Sample(space.lines.nodes, nodes, values[EVIDENCE])
    places, rest = _places_of(axes, size), _chosen_nodes(touched.centre, nodes, space)
    loss = _loss(given, before, touched, sample, False, space)
    values[DIVERGENCE] = uncertain + loss + _unobserved(given, before, prior, places, rest, draws)

    fitted = _fitted_to_all(touched.centre, limits.most - 1, space)
    parts = _followed(fitted, prior, axes, other)
    into = (np.empty(limits.most), np.empty((limits.most, size)), np.empty((limits.most, size, size)))
    room = new_room(len(parts[0]), size)
    left = reduce_one(parts, limits.most - 1, limits.merge_below, room, into)
    if not 0 < left < limits.most:
        return before
    left = _add_wide(whole, sources, into, left, limits.prior_share, space.squares)
    loss = _loss(into, left, touched, sample, False, space)
    loss = uncertain + loss + _unobserved(into, left, prior, places, rest, draws)
    if not loss < values[DIVERGENCE]:
        return before
    values[DIVERGENCE] = loss
    _put(into, left, answer)
    return left


@inner
def _fitted_to_all(centre: Array, most: int, space: Space) -> Numbers:
    """A mixture of so many Gaussians, over the touched coordinates."""
    share, count = 0.0, space.number[0]
    for p in range(count):
        share += space.lines.strips.share[p]
    count = _fit(space.lines.strips, count, most, share, False, space)
    fitted = Numbers(np.empty((1, count)), np.empty((1, count, 2)), np.empty((1, count, 2, 2)))
    for j in range(count):
        moments, covariance = space.mixture.moments[j], fitted.covariances[0, j]
        fitted.log_weights[0, j] = space.mixture.log_weights[j]
        fitted.means[0, j, 0], fitted.means[0, j, 1] = moments[0] + centre[0], moments[1] + centre[1]
        covariance[0, 0], covariance[1, 1] = moments[2], moments[4]
        covariance[0, 1] = covariance[1, 0] = moments[3]
    return fitted


@inner
def _followed(fitted: Numbers, prior: Numbers, axes: Places, outlier: float) -> tuple[Array, Array, Array]:
    """A fitted mixture over the whole state, beside the prior with the share of an outlier."""
    count, (sources, size) = fitted.means.shape[1], prior.means.shape[1:]
    most = count * sources
    extended = (
        np.full((1, count, sources), -math.inf),
        np.zeros((1, count, sources, size)),
        np.zeros((1, count, sources, size, size)),
    )
    extend_all(fitted, prior, axes, np.full((1, count), -1), extended)
    log_weights, means, covariances = (
        np.empty(most + sources),
        np.empty((most + sources, size)),
        np.empty((most + sources, size, size)),
    )
    for k in range(most):
        j, s = k // sources, k % sources
        log_weights[k] = extended[0][0, j, s] + math.log1p(-min(outlier, 1.0))
        put_vector(means[k], extended[1][0, j, s])
        put_matrix(covariances[k], extended[2][0, j, s])
    for k in range(sources):
        log_weights[most + k] = prior.log_weights[0, k] + math.log(outlier) if outlier > 0 else -math.inf
        put_vector(means[most + k], prior.means[0, k])
        put_matrix(covariances[most + k], prior.covariances[0, k])
    return log_weights, means, covariances


@inner
def _places_of(axes: Places, size: int) -> tuple[Places, Places]:
    """The coordinates that the sensor touches, and the others."""
    rest, count = np.empty(size - 2, np.int64), 0
    for i in range(size):
        if i != axes[0] and i != axes[1]:
            rest[count] = i
            count += 1
    return axes.copy(), rest


@inner
def _chosen_nodes(centre: Array, nodes: int, space: Space) -> Array:
    """Nodes in proportion to their shares, ``(1, UNOBSERVED_POINTS, 2)``."""
    points = space.lines.nodes
    chosen, p, total = np.empty((1, UNOBSERVED_POINTS, 2)), 0, points.share[0]
    for i in range(UNOBSERVED_POINTS):
        while p < nodes - 1 and total < (i + 0.5) / UNOBSERVED_POINTS:
            p += 1
            total += points.share[p]
        chosen[0, i, 0], chosen[0, i, 1] = points.x[p] + centre[0], points.y[p] + centre[1]
    return chosen


@inner
def _unobserved(
    answer: tuple[Array, Array, Array],
    count: int,
    prior: Numbers,
    axes: tuple[Places, Places],
    points: Array,
    draws: Draws,
) -> float:
    """Divergence of the coordinates that no sensor touches, nats, at points of an equal share each."""
    if len(axes[1]) == 0:
        return 0.0
    loss = np.empty(1)
    share = np.full((1, UNOBSERVED_POINTS), 1 / UNOBSERVED_POINTS)
    divergence_of_all(_alone(answer, count), prior, axes, points, share, draws, loss)
    return max(loss[0], 0.0) if loss[0] < math.inf else math.inf


@inner
def _alone(mixture: tuple[Array, Array, Array], count: int) -> Numbers:
    """A batch of one, with the first components of a mixture."""
    log_weights, means, covariances = mixture
    return Numbers(
        log_weights[:count].copy().reshape(1, count),
        means[:count].copy().reshape((1, *means[:count].shape)),
        covariances[:count].copy().reshape((1, *covariances[:count].shape)),
    )
