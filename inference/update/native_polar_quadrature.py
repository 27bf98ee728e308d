"""`inference.update.polar_quadrature` for the processor: one problem after another."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import ANGLE, RANGE
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_density import BLOCK, fill, sum_components
from beliefstream.inference.mixtures.native_pair_costs import Room, new_room
from beliefstream.inference.mixtures.native_reduction import leave_absent, reduce_one
from beliefstream.inference.update import native_polar_answers as answers
from beliefstream.inference.update.native_curved_quadrature import first_of
from beliefstream.inference.update.native_polar_answers import Plane
from beliefstream.inference.update.native_polar_nodes import TRUNCATED, Rule, Sensor
from beliefstream.inference.update.native_polar_parts import (
    LIGHTEST_NODE,
    MOST_LINES,
    MOST_NODES,
    MOST_WINDOWS,
    Counts,
    Rules,
    Sight,
    Space as NodeSpace,
    gather,
    likelihood,
    new_space,
)
from beliefstream.inference.update.native_scaling import example

Array = NDArray[np.float64]
Places = NDArray[np.int64]

PANEL, CHECK, LINE, OUTSIDE = (
    4,
    3,
    5,
    4,
)  # nodes of a panel, of its check, of a line, and along an axis of an outlier
MOST_PARTS = 128  # that are reduced to an answer
MOST_UNCERTAIN = 0.001  # share of a posterior
WITHIN = 0.25  # of a component's covariance is around each place that stands for it
BETWEEN = math.sqrt(1 - WITHIN)
FLAT = 1e-9  # of a matrix: its determinant, beside its largest entry squared


class Outside(NamedTuple):
    """Nodes of a component times an outlier."""

    steps: Array  # (P, 2)
    weights: Array  # (P,)


class Tables(NamedTuple):
    """What is the same for all problems."""

    rules: Rules
    outside: Outside
    most: int  # components of an answer
    merge_below: float
    wide: tuple[float, float]  # share of the variance that a wide component may add, and its largest weight


class Gathered(NamedTuple):
    """Lines and nodes of ``B`` problems in the touched coordinates; see `plane_cells.Cells`."""

    counts: Places  # (B, 3) of lines, of nodes, and of lines of an inlier, which are first; −1 where there was no space
    uncertain: Array  # (B,) share of the posterior
    shares: Array  # (B, F) of the lines, not normalised
    moments: Array  # (B, F, 5) mean, and covariance as xx, xy, yy
    node_shares: Array  # (B, P), as of the lines
    points: Array  # (B, P, 2)
    targets: Array  # (B, P)


class Work(NamedTuple):
    """Space for one problem."""

    plane: Plane
    nodes: NodeSpace
    moments: Array  # (K, 5) of the prior in the plane
    parts: Numbers  # over the whole state
    answer: answers.Space
    seen: Array  # (J, 5) moments of an answer in the plane
    room: Room


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    prior, observations = example()
    index, axes = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64)
    solve(prior, observations.native, index, axes, 2, (0.0, 0.0, 0.0))


def solve(
    prior: GaussianMixture,
    seen: Seen,
    index: Tensor,
    axes: Tensor,
    most: int,
    limits: tuple[float, float, float],
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Posteriors ``(b, J, D)`` of the problems at `index`, their log evidence and divergence, infinite where it fails.

    `axes` ``(b, 2)`` are the coordinates that the sensors touch; `limits` are `merge_below`, the share of the variance
    that a wide component may add, and its largest weight.
    """
    batch, size = len(index), prior.dimension
    found = Numbers(
        np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))
    )
    values = np.empty((2, batch))
    count = _run(prior, seen, index, axes, _tables(most, *limits), found, values, _gathered(0, 0, 0))
    mixture = GaussianMixture(*(torch.from_numpy(part[:, :count]) for part in found))
    return mixture, torch.from_numpy(values[0]), torch.from_numpy(values[1])


def lines(
    prior: GaussianMixture, seen: Seen, most: int, limits: tuple[float, float, float]
) -> tuple[GaussianMixture, Tensor, Gathered]:
    """Posteriors of all problems in a plane, as `solve`, or none if `most` is 0; log evidence; and lines and nodes."""
    batch, size = prior.batch, prior.dimension
    found = Numbers(
        np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))
    )
    values, gathered = np.empty((2, batch)), _gathered(batch, MOST_LINES, MOST_NODES)
    index, axes = torch.arange(batch), torch.arange(2).expand(batch, 2)
    count = _run(prior, seen, index, axes, _tables(most, *limits), found, values, gathered)
    mixture = GaussianMixture(*(torch.from_numpy(part[:, :count]) for part in found))
    return mixture, torch.from_numpy(values[0]), gathered


def _run(
    prior: GaussianMixture,
    seen: Seen,
    index: Tensor,
    axes: Tensor,
    tables: Tables,
    found: Numbers,
    values: Array,
    gathered: Gathered,
) -> int:
    given = index.numpy(), axes.contiguous().numpy()
    count: int = _solve(numbers_of(prior), seen, given, tables, found, values, gathered)
    return count


def _gathered(batch: int, most: int, nodes: int) -> Gathered:
    return Gathered(
        np.full((batch, 3), -1, np.int64),
        np.ones(batch),
        np.empty((batch, most)),
        np.empty((batch, most, 5)),
        np.empty((batch, nodes)),
        np.empty((batch, nodes, 2)),
        np.empty((batch, nodes)),
    )


def _tables(most: int, merge_below: float, wider: float, prior_share: float) -> Tables:
    panel, check = np.polynomial.legendre.leggauss(PANEL), np.polynomial.legendre.leggauss(CHECK)
    steps, weights = rule(LINE, 1)
    peak = Rule(np.zeros(1), np.ones(1))
    outside, outside_weights = rule(OUTSIDE, 2)
    across = Rule(np.ascontiguousarray(steps[:, 0].numpy()), weights.numpy())
    return Tables(
        Rules(*panel, *check, across, peak),
        Outside(np.ascontiguousarray(outside.numpy()), outside_weights.numpy()),
        most,
        merge_below,
        (wider, prior_share),
    )


@native
def _solve(
    prior: Numbers,
    seen: Seen,
    given: tuple[Places, Places],
    tables: Tables,
    found: Numbers,
    values: Array,
    gathered: Gathered,
) -> int:
    """Fill answers, evidence and divergence, and what is gathered; the most components of an answer."""
    index, axes = given
    work, largest = _new_work(prior.means.shape[1], prior.means.shape[2], axes, tables), 1
    for row in range(len(index)):
        b, left = index[row], 0
        values[0, row], values[1, row] = math.nan, math.inf
        sight, fits = _sight(seen, b, axes[row], work.plane)
        if fits:
            count = _see_prior(prior, b, work)
            rules, nodes = tables.rules, work.nodes
            counts, uncertain, rough = gather(sight, prior.log_weights[b], work.moments, count, rules, nodes)
            inliers = counts.lines
            if counts.nodes >= 0:
                counts = _add_outliers(sight, prior, b, count, rough, tables, counts, work)
            if counts.nodes > 0:
                shares = _sum(work.nodes.nodes.share, counts.nodes)
                evidence = rough + math.log(shares)
                values[0, row] = evidence
                if len(gathered.uncertain):
                    gathered.counts[row, 2] = inliers
                    _gather(prior, b, row, counts, count, uncertain, work, gathered)
                if tables.most and 0 < counts.parts <= MOST_PARTS and uncertain < MOST_UNCERTAIN:
                    left, off = _answered(
                        prior, b, row, counts, count, (evidence, shares), tables, work, found
                    )
                    off += uncertain
                    # a comparison that keeps what is not a number out
                    values[1, row] = off if off < math.inf else math.inf
        if tables.most:
            leave_absent(left, tables.most, found.log_weights[row], found.means[row], found.covariances[row])
        largest = max(largest, left)
    if len(gathered.uncertain):
        _leave_rest_absent(gathered)
    return largest


@borrowing
def _leave_rest_absent(gathered: Gathered) -> None:
    """Fill the places after a problem's lines and nodes, as far as others of the batch have some."""
    lines, nodes = 1, 1
    for row in range(len(gathered.counts)):
        lines, nodes = max(lines, gathered.counts[row, 0]), max(nodes, gathered.counts[row, 1])
    for row in range(len(gathered.counts)):
        for i in range(max(0, gathered.counts[row, 0]), lines):
            gathered.shares[row, i] = 0.0
            for n in range(5):
                gathered.moments[row, i, n] = 0.0
        for i in range(max(0, gathered.counts[row, 1]), nodes):
            gathered.node_shares[row, i] = gathered.points[row, i, 0] = gathered.points[row, i, 1] = 0.0
            gathered.targets[row, i] = -math.inf


@inner
def _new_work(count: int, size: int, axes: Places, tables: Tables) -> Work:
    places, most = count * (MOST_WINDOWS + 1), max(tables.most, 1)
    few = min(places, MOST_PARTS + count)
    return Work(
        Plane(np.empty((2, size)), np.empty(2), np.empty((2, 2)), np.empty(2, np.int64)),
        new_space(count, len(tables.rules.inner.steps)),
        np.empty((count, 5)),
        Numbers(np.empty((1, few)), np.empty((1, few, size)), np.empty((1, few, size, size))),
        answers.new_answer_space(count, most, size),
        np.empty((most, 5)),
        new_room(few, size),
    )


@borrowing
def _sight(seen: Seen, b: int, axes: Places, plane: Plane) -> tuple[Sight, bool]:
    """The only observation of a problem, and whether it is a range or a bearing in the plane; fills the plane."""
    n = 0
    while not seen.mask[b, n]:
        n += 1
    inlier, outlier = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n] + seen.outlier[b, n]
    kind, sensor = (
        seen.kind[b, n],
        Sensor(seen.kind[b, n] == ANGLE, seen.value[b, n, 0], seen.deviation[b, n]),
    )
    sight = Sight(sensor, inlier, outlier)
    fits = kind == ANGLE or (kind == RANGE and sensor.value > TRUNCATED * sensor.deviation)
    matrix, largest = seen.matrix[b, n], 0.0
    for i in range(matrix.shape[1]):
        fits = fits and seen.heading[b, n, i] == 0
        for r in range(len(matrix)):
            largest = max(largest, abs(matrix[r, i]))
            fits = fits and (r < 2 or (matrix[r, i] == 0 and seen.origin[b, n, r] == 0))
        for r in range(2):
            plane.matrix[r, i] = matrix[r, i]
    one, other = matrix[0, axes[0]], matrix[0, axes[1]]
    low, last = matrix[1, axes[0]], matrix[1, axes[1]]
    determinant = one * last - other * low
    for r in range(2):
        plane.origin[r], plane.axes[r] = seen.origin[b, n, r], axes[r]
    plane.inverse[0, 0], plane.inverse[0, 1] = last / determinant, -other / determinant
    plane.inverse[1, 0], plane.inverse[1, 1] = -low / determinant, one / determinant
    return sight, fits and abs(determinant) > FLAT * largest * largest


@borrowing
def _see_prior(prior: Numbers, b: int, work: Work) -> int:
    """Fill the prior in the plane; how many components it has."""
    count = 0
    while count < prior.means.shape[1] and prior.log_weights[b, count] > -math.inf:
        answers.put_moments(
            work.plane, prior.means[b, count], prior.covariances[b, count], work.moments[count]
        )
        count += 1  # absent components are last
    answers.see(prior.log_weights[b], work.moments, count, work.answer, work.answer.prior)
    return count


@borrowing
def _add_outliers(
    sight: Sight, prior: Numbers, b: int, count: int, rough: float, tables: Tables, counts: Counts, work: Work
) -> Counts:
    """Add parts, nodes and lines of components times an outlier, which leaves them as they are."""
    if not sight.log_outlier > -math.inf:
        return counts
    space, parts, place = work.nodes, counts.parts, counts.nodes
    nodes, lines, at = space.nodes, space.lines, counts.lines
    for k in range(count):
        whole, moments = math.exp(prior.log_weights[b, k] + sight.log_outlier - rough), work.moments[k]
        if not whole > LIGHTEST_NODE:
            continue
        space.parts.share[parts], space.parts.source[parts] = whole, k
        for i in range(5):
            space.parts.moments[parts, i] = moments[i]
        parts += 1
        first = math.sqrt(moments[2])
        low = moments[3] / first
        second = math.sqrt(max(moments[4] - low * low, 0.0))
        for p in range(len(tables.outside.weights)):
            share = whole * tables.outside.weights[p]
            if place == len(nodes.x) or at == len(lines.share):
                return Counts(parts, -1, at)
            x, y = (
                first * tables.outside.steps[p, 0],
                low * tables.outside.steps[p, 0] + second * tables.outside.steps[p, 1],
            )
            nodes.x[place], nodes.y[place] = moments[0] + x, moments[1] + y
            nodes.share[place] = share
            nodes.likelihood[place] = likelihood(sight, moments[0] + x, moments[1] + y)
            found, lines.share[at] = lines.moments[at], share
            found[0], found[1] = moments[0] + BETWEEN * x, moments[1] + BETWEEN * y
            for i in range(2, 5):
                found[i] = WITHIN * moments[i]
            place, at = place + 1, at + 1
    return Counts(parts, place, at)


@borrowing
def _answered(
    prior: Numbers,
    b: int,
    row: int,
    counts: Counts,
    count: int,
    evidence: tuple[float, float],
    tables: Tables,
    work: Work,
    found: Numbers,
) -> tuple[int, float]:
    """Fill an answer; how many components it has, and its divergence."""
    space = work.answer
    answers.extend(work.plane, prior, b, work.moments, work.nodes.parts, counts.parts, space, work.parts)
    one = (work.parts.log_weights[0, : counts.parts], work.parts.means[0], work.parts.covariances[0])
    into = (found.log_weights[row], found.means[row], found.covariances[row])
    left = reduce_one(one, tables.most - 1, tables.merge_below, work.room, into)
    left = answers.add_wide(prior, b, count, found, row, left, tables.wide, space)
    for k in range(left):
        answers.put_moments(work.plane, found.means[row, k], found.covariances[row, k], work.seen[k])
    answers.see(found.log_weights[row], work.seen, left, space, space.answer)
    return left, answers.divergence(work.nodes.nodes, counts.nodes, evidence, (count, left), space)


@borrowing
def _gather(
    prior: Numbers, b: int, row: int, counts: Counts, count: int, uncertain: float, work: Work, into: Gathered
) -> None:
    """Fill lines and nodes in the touched coordinates."""
    nodes, lines, plane, space = work.nodes.nodes, work.nodes.lines, work.plane, work.answer
    into.counts[row, 0], into.counts[row, 1], into.uncertain[row] = counts.lines, counts.nodes, uncertain
    one, other, low, last = plane.inverse[0, 0], plane.inverse[0, 1], plane.inverse[1, 0], plane.inverse[1, 1]
    density = -math.log(abs(one * last - other * low))
    for i in range(counts.lines):
        x, y = lines.moments[i, 0] + plane.origin[0], lines.moments[i, 1] + plane.origin[1]
        xx, xy, yy = lines.moments[i, 2], lines.moments[i, 3], lines.moments[i, 4]
        into.shares[row, i] = lines.share[i]
        into.moments[row, i, 0], into.moments[row, i, 1] = one * x + other * y, low * x + last * y
        into.moments[row, i, 2] = one * one * xx + 2 * one * other * xy + other * other * yy
        into.moments[row, i, 3] = one * low * xx + (one * last + other * low) * xy + other * last * yy
        into.moments[row, i, 4] = low * low * xx + 2 * low * last * xy + last * last * yy
    prior_at = first_of(space.prior, count)
    for start in range(0, counts.nodes, BLOCK):
        some = min(BLOCK, counts.nodes - start)
        for p in range(some):
            x, y = nodes.x[start + p], nodes.y[start + p]
            prior_at.block.points[0, p], prior_at.block.points[1, p] = x, y
            x, y = x + plane.origin[0], y + plane.origin[1]
            into.points[row, start + p, 0], into.points[row, start + p, 1] = (
                one * x + other * y,
                low * x + last * y,
            )
        fill(prior_at.inverse, prior_at.shift, prior_at.peaks, prior_at.block)
        sum_components(prior_at.block, space.before[:some])
        for p in range(some):
            into.targets[row, start + p] = space.before[p] + nodes.likelihood[start + p] + density
            into.node_shares[row, start + p] = nodes.share[start + p]


@adding
def _sum(values: Array, count: int) -> float:
    found = 0.0
    for i in range(count):
        found += values[i]
    return found
