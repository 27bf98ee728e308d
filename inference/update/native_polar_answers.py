"""An answer from the parts of a posterior around one sensor, for `native_polar_quadrature`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import adding, borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.mixtures.native_density import BLOCK, sum_plane, whiten
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_product
from beliefstream.inference.update.native_curved_quadrature import Densities, first_of, new_densities
from beliefstream.inference.update.native_polar_space import Nodes, Parts

Array = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_RATIO = 700.0  # log, whose exponential is finite


class Plane(NamedTuple):
    """How places relative to a sensor come from the state: matrix times state less origin."""

    matrix: Array  # (2, D)
    origin: Array  # (2,)
    inverse: Array  # (2, 2), of the touched columns
    axes: Places  # (2,)


class AnswerSpace(NamedTuple):
    """Space for one answer."""

    gain: Array  # (D, 2)
    rest: Array  # (D, D)
    means: Array  # (2, D), of prior and answer
    squares: Array  # (5, D, D)
    prior: Densities
    answer: Densities
    before: Array  # (BLOCK,), as the next
    after: Array
    places: Array  # (J, 2) means in the plane


@inner
def new_answer_space(count: int, most: int, size: int) -> AnswerSpace:
    return AnswerSpace(
        np.empty((size, 2)),
        np.empty((size, size)),
        np.empty((2, size)),
        np.empty((5, size, size)),
        new_densities(count, 2),
        new_densities(most, 2),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty((max(count, most), 2)),
    )


@borrowing
def put_moments(plane: Plane, mean: Array, covariance: Array, into: Array) -> None:
    """Fill mean and covariance of a component in the plane."""
    for r in range(2):
        into[r] = -plane.origin[r]
        for i in range(len(mean)):
            into[r] += plane.matrix[r, i] * mean[i]
    for place in range(3):
        r, q, found = (place + 1) // 2, place // 2, 0.0
        for i in plane.axes:
            for j in plane.axes:
                found += plane.matrix[r, i] * covariance[i, j] * plane.matrix[q, j]
        into[2 + place] = found


@borrowing
def extend(
    plane: Plane,
    prior: Numbers,
    b: int,
    moments: Array,
    parts: Parts,
    count: int,
    space: AnswerSpace,
    into: Numbers,
) -> None:
    """Fill the parts over the whole state. They are in the order of their components, whose regression they share."""
    source = -1
    for j in range(count):
        if parts.source[j] != source:
            source = parts.source[j]
            _regress(plane, prior.covariances[b, source], moments[source], space)
        _put_part(prior.means[b, source], moments[source], parts.moments[j], space, into, j)
        into.log_weights[0, j] = math.log(parts.share[j])


@borrowing
def _regress(plane: Plane, covariance: Array, moments: Array, space: AnswerSpace) -> None:
    """Fill the gain of the state from a place, and the covariance that the place leaves."""
    gain, rest, size = space.gain, space.rest, len(covariance)
    xx, xy, yy = moments[2], moments[3], moments[4]
    determinant = xx * yy - xy * xy
    for i in range(size):
        east = north = 0.0
        for j in plane.axes:
            east += covariance[i, j] * plane.matrix[0, j]
            north += covariance[i, j] * plane.matrix[1, j]
        gain[i, 0] = (yy * east - xy * north) / determinant
        gain[i, 1] = (xx * north - xy * east) / determinant
    for n in range(2):  # touched coordinates follow exactly
        gain[plane.axes[n], 0], gain[plane.axes[n], 1] = plane.inverse[n, 0], plane.inverse[n, 1]
    for i in range(size):
        for j in range(i + 1):
            one = xx * gain[j, 0] + xy * gain[j, 1]
            other = xy * gain[j, 0] + yy * gain[j, 1]
            value = 0.5 * (covariance[i, j] + covariance[j, i]) - gain[i, 0] * one - gain[i, 1] * other
            rest[i, j] = rest[j, i] = value
    for axis in plane.axes:
        for j in range(size):
            rest[axis, j] = rest[j, axis] = 0.0


@borrowing
def _put_part(mean: Array, before: Array, part: Array, space: AnswerSpace, into: Numbers, place: int) -> None:
    gain, size = space.gain, len(mean)
    x, y, xx, xy, yy = part[0] - before[0], part[1] - before[1], part[2], part[3], part[4]
    for i in range(size):
        into.means[0, place, i] = mean[i] + gain[i, 0] * x + gain[i, 1] * y
        for j in range(i + 1):
            one = xx * gain[j, 0] + xy * gain[j, 1]
            other = xy * gain[j, 0] + yy * gain[j, 1]
            value = space.rest[i, j] + gain[i, 0] * one + gain[i, 1] * other
            into.covariances[0, place, i, j] = into.covariances[0, place, j, i] = value


@borrowing
def add_wide(
    prior: Numbers,
    b: int,
    count: int,
    found: Numbers,
    row: int,
    left: int,
    limits: tuple[float, float],
    space: AnswerSpace,
) -> int:
    """Add one Gaussian as wide as the prior, as `wide_components.share_beside`; how many components there are then."""
    wider, most = limits
    if not most > 0:
        return left
    size = prior.means.shape[2]
    put_whole_moments(prior, b, count, space.means[0], space.squares[0])
    put_whole_moments(found, row, left, space.means[1], space.squares[1])
    factorise(space.squares[1], TINY, ROUNDING, space.squares[2])
    invert_product(space.squares[2], space.squares[3], space.squares[4])
    added = 0.0
    for i in range(size):
        for j in range(size):
            off = (space.means[0, i] - space.means[1, i]) * (space.means[0, j] - space.means[1, j])
            added += space.squares[4, i, j] * (space.squares[0, i, j] + off)
    share = min(most, wider / added)
    for k in range(left):
        found.log_weights[row, k] += math.log1p(-share)
    found.log_weights[row, left] = math.log(share)
    for i in range(size):
        found.means[row, left, i] = space.means[0, i]
        for j in range(size):
            found.covariances[row, left, i, j] = space.squares[0, i, j]
    return left + 1


@borrowing
def put_whole_moments(mixture: Numbers, b: int, count: int, mean: Array, covariance: Array) -> None:
    mean[:] = 0.0
    covariance[:] = 0.0
    for k in range(count):
        weight = math.exp(mixture.log_weights[b, k])
        for i in range(len(mean)):
            mean[i] += weight * mixture.means[b, k, i]
    for k in range(count):
        weight = math.exp(mixture.log_weights[b, k])
        for i in range(len(mean)):
            for j in range(i + 1):
                off = (mixture.means[b, k, i] - mean[i]) * (mixture.means[b, k, j] - mean[j])
                covariance[i, j] += weight * (mixture.covariances[b, k, i, j] + off)
    for i in range(len(mean)):
        for j in range(i):
            covariance[j, i] = covariance[i, j]


@borrowing
def see(log_weights: Array, moments: Array, count: int, space: AnswerSpace, into: Densities) -> None:
    """Fill the densities of a mixture in the plane."""
    for k in range(count):
        space.places[k, 0], space.places[k, 1] = moments[k, 0], moments[k, 1]
        first = math.sqrt(moments[k, 2])
        low = moments[k, 3] / first
        into.factors[k, 0, 0], into.factors[k, 0, 1], into.factors[k, 1, 0] = first, 0.0, low
        into.factors[k, 1, 1] = math.sqrt(max(moments[k, 4] - low * low, ROUNDING * moments[k, 4]))
    whiten(log_weights[:count], space.places[:count], into.factors, into.inverse, into.shift, into.peaks)


@borrowing
def divergence(
    nodes: Nodes, some: int, evidence: tuple[float, float], counts: tuple[int, int], space: AnswerSpace
) -> float:
    """KL(exact ‖ answer) over the nodes, nats: the larger of two sums that are equal where the nodes are exact.

    `evidence` is its log, and the sum of all shares.
    """
    before, after = first_of(space.prior, counts[0]), first_of(space.answer, counts[1])
    one, other = 0.0, 0.0
    for start in range(0, some, BLOCK):
        here = min(BLOCK, some - start)
        for p in range(here):
            before.block.points[0, p] = after.block.points[0, p] = nodes.x[start + p]
            before.block.points[1, p] = after.block.points[1, p] = nodes.y[start + p]
        sum_plane(before.inverse, before.shift, before.peaks, before.block, space.before[:here])
        sum_plane(after.inverse, after.shift, after.peaks, after.block, space.after[:here])
        first, second = _add(nodes, start, here, evidence, space.before, space.after)
        one, other = one + first, other + second
    return max(one, other)


@adding
def _add(
    nodes: Nodes, start: int, some: int, evidence: tuple[float, float], prior: Array, answer: Array
) -> tuple[float, float]:
    one, other, (log_evidence, shares) = 0.0, 0.0, evidence
    for p in range(some):
        share = nodes.share[start + p] / shares
        ratio = answer[p] - (prior[p] + nodes.likelihood[start + p] - log_evidence)
        some_ratio = ratio if ratio < MOST_RATIO else MOST_RATIO
        some_ratio = some_ratio if some_ratio > UNDERFLOW else UNDERFLOW
        one += share * (exponential(some_ratio) - 1 - ratio)
        other -= share * ratio
    return one, other
