"""Exact moments by quadrature in the frame of one observation of one to three coordinates that bends a little.

Of two coordinates, what bends more has a quadrature of its own (`plane`).

The nodes of `inference.update.quadrature` are those of the prior. An observation that is sharp beside the prior falls
between them. Here they follow the observation: across the line along which it changes, they are those of the prior.
On each line through such a node, they are those of a Gaussian at the posterior's peak there (adaptive quadrature: Q.
Liu and D. A. Pierce, "A Note on Gauss–Hermite Quadrature", Biometrika 81(3), 1994). So they lie along the ring or the
ray, whatever it is beside the prior, and few are enough.

Each component times an inlier gets its exact evidence, mean and covariance. An outlier's density is constant, so a
component times an outlier stays as it is. A strongly bent component is divided across the line (`splitting.DIVISIONS`):
each part takes its share of every node, ``w_i N_i / Σ_j w_j N_j``, which costs no other node. What no sensor touches
follows exactly.

The nodes of one side of a ring do not see the other side, nor those of a bearing what lies behind the sensor. So the
other side must be some standard deviations away from every component. Of a component that is narrow along one axis, it
may be much nearer than the sensor. Two rules must agree, and the divergence of the answer is summed over the nodes, as
in `quadrature`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import NEGLIGIBLE, Seen, log_sum
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, inlined, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    Block,
    fill,
    sum_components,
)
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise, invert_product
from beliefstream.inference.mixtures.reduction import (
    NEGLIGIBLE_WEIGHT,
    Room,
    leave_absent,
    new_room,
    reduce_one,
)
from beliefstream.inference.update.check.unobserved import Densities, new_densities, see
from beliefstream.inference.update.closed.nearly_linear import may_wrap
from beliefstream.inference.update.closed.scaled_problem import Scaled, example
from beliefstream.inference.update.curved_nodes import (
    AWAY,
    LIGHT,
    MOST_ERROR,
    MOST_TOUCHED,
    RULES,
    Frame,
    Nodes,
    Rule,
    Sensor,
    fill_frame,
    line_through,
    moments,
    new_frame,
    new_nodes,
    outside,
    place_nodes,
    residual,
    rules,
    sensor_at,
    share_out,
)
from beliefstream.inference.update.plane.single_observation import has_one_bent, plain
from beliefstream.inference.update.result import Method, Update, efficiency_at
from beliefstream.inference.update.settings import UpdateSettings

LOG_LIGHT = math.log(LIGHT)

Array = NDArray[np.float64]
Places = NDArray[np.int64]


def follow(
    problem: Scaled, touched: Tensor, open_: Tensor, settings: UpdateSettings
) -> Iterator[tuple[Tensor, Update]]:
    """Places and answers of the problems that are solved well enough, by the number of touched coordinates.

    Args:
        problem: over all coordinates, the components in falling order of weight.
        touched: coordinates that each entity's sensors touch, ``(B, D)`` bool.
        open_: problems that are not solved yet, ``(B,)`` bool.
        settings: `quadrature_below` is the loss in nats that an answer may have.
    """
    count, bent = touched.sum(1), open_ & has_one_bent(problem.observations)
    for size in range(1, MOST_TOUCHED + 1):
        index = torch.nonzero(bent & (count == size))[:, 0]
        if len(index) == 0:
            continue
        axes = torch.nonzero(touched[index])[:, 1].view(len(index), size)
        found = _batch(problem, index, axes, settings)
        good = torch.nonzero(found.divergence < settings.quadrature_below)[:, 0]
        if len(good):
            yield index[good], found.rows(good)


def _batch(problem: Scaled, index: Tensor, axes: Tensor, settings: UpdateSettings) -> Update:
    """Answers for the problems at `index`, with infinite divergence where the nodes must not be used."""
    prior, observations, places = plain(problem, index)
    assert observations.native is not None
    found, values = solve(
        numbers_of(prior),
        observations.native,
        places.numpy(),
        axes.contiguous().numpy(),
        settings.most_components,
        float(settings.merge_below),
    )
    posterior = GaussianMixture(*(torch.from_numpy(part) for part in found))
    evidence, divergence = torch.from_numpy(values)
    p_value = problem.prediction.rows_of(index).p_value(problem.prior.rows(index))
    method = torch.full((len(index),), Method.QUADRATURE, dtype=torch.int64)
    posterior = problem.rows(index).back(posterior)
    return Update(posterior, efficiency_at(divergence), evidence, p_value, method, divergence)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    prior, observations = example()
    solve(numbers_of(prior), observations.native, np.zeros(0, np.int64), np.zeros((0, 1), np.int64), 1, 0.0)


def solve(
    prior: Numbers, seen: Seen, index: Places, axes: Places, most: int, merge_below: float
) -> tuple[Numbers, Array]:
    """Posteriors ``(b, J, D)`` of the problems at `index` of a batch, and ``(2, b)`` log evidence and divergence.

    Args:
        prior: over the whole state, the components in falling order of weight.
        seen: one observation for each problem.
        index: ``(b,)``.
        axes: coordinates that each observation touches, ``(b, d)``.
        most: components of an answer.
        merge_below: nats; components are merged if that loses less.

    The divergence is infinite where the answer must not be used.
    """
    batch, size, touched = len(index), prior.means.shape[2], axes.shape[1]
    found = Numbers(
        np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))
    )
    values = np.empty((2, batch))
    tables = Tables(rules(touched), outside(touched), merge_below)
    _solve(prior, seen, (index, axes), tables, found, values)
    return found, values


@native
def _solve(
    prior: Numbers,
    seen: Seen,
    given: tuple[Places, Places],
    tables: Tables,
    found: Numbers,
    values: Array,
) -> None:
    """Fill answers, evidence and divergence, which is infinite where a problem is left."""
    index, axes = given
    most, (count, size) = found.log_weights.shape[1], prior.means.shape[1:]
    work = _new_work((count, size, axes.shape[1], seen.matrix.shape[2], most), tables)
    for row in range(len(index)):
        into = (found.log_weights[row], found.means[row], found.covariances[row])
        left, values[0, row], values[1, row] = _solve_one(
            prior, seen, index[row], axes[row], tables, work, into
        )
        leave_absent(left, most, found.log_weights[row], found.means[row], found.covariances[row])


@inner
def _solve_one(
    prior: Numbers,
    seen: Seen,
    b: int,
    axes: Places,
    tables: Tables,
    work: Workspace,
    found: tuple[Array, Array, Array],
) -> tuple[int, float, float]:
    """Fill the answer of problem `b`; its number of components, evidence and divergence.

    There are no components, and the divergence is infinite, where a problem is left.
    """
    parts, nodes = _collect(prior, seen, b, axes, tables, work)
    if parts == 0:
        return 0, math.nan, math.inf
    evidence, error = _judge(parts, work.parts[0], work.checks)
    if not error < MOST_ERROR:
        return 0, evidence, math.inf
    one = (work.parts[0][:parts], work.parts[1], work.parts[2])
    left = reduce_one(one, len(found[0]), tables.merge_below, work.reduction, found)
    error += _divergence(prior, b, found, left, axes, nodes, evidence, work)
    # a comparison that keeps what is not a number out
    return left, evidence, error if error < math.inf else math.inf


@borrowing
def _judge(parts: int, log_weights: Array, checks: Checks) -> tuple[float, float]:
    """Log evidence, and the divergence between the results of the rules, as `gauss_hermite.apart`."""
    evidence, error, other, missed = log_weights[0], 0.0, 0.0, 0.0
    for j in range(1, parts):
        evidence = log_sum(evidence, log_weights[j])
    for k in range(len(checks.missed)):
        missed += math.exp(checks.missed[k] - evidence)
    # beyond a sensor or left out there may be no more than reduction leaves out of a mixture
    if not missed < NEGLIGIBLE_WEIGHT:
        return evidence, math.inf
    for k in range(len(checks.mass)):
        share = math.exp(checks.mass[k] - evidence)
        if share > LIGHT:
            ratio = checks.other[k] - checks.mass[k]
            error += share * (checks.apart[k] + math.expm1(ratio) - ratio)
            other += share * math.expm1(ratio)
    return evidence, error + 0.5 * other * other


@inner
def _divergence(
    prior: Numbers,
    b: int,
    found: tuple[Array, Array, Array],
    left: int,
    axes: Places,
    nodes: int,
    evidence: float,
    work: Workspace,
) -> float:
    """Estimate of KL(exact ‖ answer) at the nodes, as `quadrature`."""
    count, total, kept = 0, 0.0, work.kept
    while count < prior.means.shape[1] and prior.log_weights[b, count] > -math.inf:
        count += 1  # absent components are last
    given = (prior.log_weights[b], prior.means[b], prior.covariances[b])
    see(given, axes, count, work.means, work.squares[2], work.prior)
    see(found, axes, left, work.means, work.squares[2], work.answer)
    before, after = _first_of(work.prior, count), _first_of(work.answer, left)
    for start in range(0, nodes, BLOCK):
        some = min(BLOCK, nodes - start)
        for densities, logs in ((before, work.logs[0]), (after, work.logs[1])):
            for i in range(len(axes)):
                for p in range(some):
                    densities.block.points[i, p] = kept.points[i, start + p]
            fill(densities.inverse, densities.shift, densities.peaks, densities.block)
            sum_components(densities.block, logs[:some])
        total += _add_divergence(kept, start, some, evidence, work.logs[0], work.logs[1])
    return total


@inlined
def _first_of(whole: Densities, count: int) -> Densities:
    """The densities of the first components."""
    block = whole.block
    few = Block(block.points, block.values[:count], block.offset, block.highest, block.total, block.argument)
    return Densities(
        whole.factors[:count], whole.inverse[:count], whole.shift[:count], whole.peaks[:count], few
    )


@adding
def _add_divergence(kept: Kept, start: int, some: int, evidence: float, prior: Array, answer: Array) -> float:
    total = 0.0
    for p in range(some):
        share = math.exp(kept.log_share[start + p] - evidence)
        ratio = answer[p] - (prior[p] + kept.likelihood[start + p] - evidence)
        total += share * (math.expm1(ratio) - ratio) if share > 0 else 0.0
    return total


class Kept(NamedTuple):
    """Nodes of all parts of one posterior, in the seen coordinates."""

    points: Array  # (d, P)
    log_share: Array  # (P,), not normalised
    likelihood: Array  # (P,), log


class Checks(NamedTuple):
    """Of each component: log masses by the rule and its check, and the divergence between their moments."""

    mass: Array  # (K,)
    other: Array
    apart: Array
    missed: Array  # log of the most that the nodes may miss


class Tables(NamedTuple):
    """What is the same for all problems."""

    rules: tuple[tuple[Rule, Rule], ...]
    outside: tuple[Array, Array]
    merge_below: float


class Workspace(NamedTuple):
    """Space to solve one problem after another."""

    frame: Frame
    nodes: Nodes
    kept: Kept
    # of one posterior over the whole state, not normalised: log weights (J,), means (J, D) and covariances (J, D, D)
    parts: tuple[Array, Array, Array]
    checks: Checks
    vectors: tuple[Array, Array]  # means in a frame, (d,)
    squares: tuple[Array, Array, Array, Array]  # covariances in a frame, and space, (d, d)
    across: Array  # (D, d), space
    prior: Densities  # to compare prior and answer at the nodes
    answer: Densities
    logs: Array  # (2, BLOCK), of both
    means: Array  # (J, d)
    reduction: Room


@inner
def _new_work(shape: tuple[int, int, int, int, int], tables: Tables) -> Workspace:
    """Space for so many components of a prior, coordinates, seen ones, rows of a sensor and components of an answer."""
    count, size, seen, rows, most = shape
    widest, each = 0, 0
    for number in range(len(tables.rules)):
        rule = tables.rules[number][0]
        widest = max(widest, len(rule.parts))
        each = max(each, len(rule.across) * len(rule.along))
    places, nodes = count * (widest + 1), count * (each + len(tables.outside[0]))
    kept, numbers, squares = np.empty((2, nodes)), np.empty((4, count)), np.empty((4, seen, seen))
    vectors = np.empty((2, seen))
    return Workspace(
        new_frame(seen, size, rows),
        new_nodes(seen, each),
        Kept(np.empty((seen, nodes)), kept[0], kept[1]),
        (np.empty(places), np.empty((places, size)), np.empty((places, size, size))),
        Checks(numbers[0], numbers[1], numbers[2], numbers[3]),
        (vectors[0], vectors[1]),
        (squares[0], squares[1], squares[2], squares[3]),
        np.empty((size, seen)),
        new_densities(count, seen),
        new_densities(most, seen),
        np.empty((2, BLOCK)),
        np.empty((max(count, most), seen)),
        new_room(places, size),
    )


@borrowing
def _collect(
    prior: Numbers,
    seen: Seen,
    b: int,
    axes: Places,
    tables: Tables,
    work: Workspace,
) -> tuple[int, int]:
    """Fill parts and nodes of all components; how many, or none where the observation bends too much."""
    n, at, checks = 0, (0, 0), work.checks
    while not seen.mask[b, n]:
        n += 1
    inlier, outlier = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n] + seen.outlier[b, n]
    for k in range(prior.means.shape[1]):
        logs = (prior.log_weights[b, k], inlier, outlier)
        checks.mass[k] = checks.other[k] = -math.inf
        checks.apart[k], checks.missed[k] = 0.0, logs[0] + inlier
        if not logs[0] > LOG_LIGHT:
            continue
        sensor = sensor_at(prior, b, k, seen, n)
        bend, away, spread, off = fill_frame(prior, b, k, seen, n, axes, sensor, work.frame)
        # negated, so that what is not a number is left
        if not (bend < RULES[2][0] and away > AWAY and spread > 0):
            return 0, 0
        checks.missed[k] -= 0.5 * away * away
        if not _is_outlier(off, spread, bend, inlier, outlier):
            if sensor.is_angle and may_wrap(spread * sensor.deviation, off * sensor.deviation):
                return 0, 0
            rule, check = tables.rules[0 if bend < RULES[0][0] else 1 if bend < RULES[1][0] else 2]
            at = _add_inlier(sensor, rule, check, axes, prior.means[b, k], k, logs, at, work)
        if outlier > -math.inf:
            at = _add_outlier(sensor, tables.outside, axes, prior, (b, k), logs, at, work)
    return at


@borrowing
def _is_outlier(off: float, spread: float, bend: float, inlier: float, outlier: float) -> bool:
    """Whether the residual is too large for an inlier, wherever a component's density is not negligible."""
    least = abs(off) - math.sqrt(2 * NEGLIGIBLE) * spread - NEGLIGIBLE * bend
    return least > 0 and inlier - 0.5 * least * least < outlier - NEGLIGIBLE


@borrowing
def _add_inlier(
    sensor: Sensor,
    rule: Rule,
    check: Rule,
    axes: Places,
    mean: Array,
    k: int,
    logs: tuple[float, float, float],
    at: tuple[int, int],
    work: Workspace,
) -> tuple[int, int]:
    """Add the parts and the nodes of a component times an inlier; how many there are then."""
    some, checks, frame, each, (parts, nodes) = work.nodes, work.checks, work.frame, len(rule.along), at
    count = place_nodes(sensor, frame, check, some)
    checks.other[k] = logs[0] + logs[1] + share_out(some, count)
    moments(some, some.share, count, work.vectors[1], work.squares[1])
    count = place_nodes(sensor, frame, rule, some)
    checks.mass[k] = logs[0] + logs[1] + share_out(some, count)
    moments(some, some.share, count, work.vectors[0], work.squares[0])
    checks.apart[k] = _apart(work)
    for j in range(len(rule.parts)):
        total = 1.0
        if len(rule.parts) > 1:
            for p in range(count):
                some.part[p] = some.share[p] * rule.parts[j, p // each]
            total = moments(some, some.part, count, work.vectors[0], work.squares[0])
        if total > LIGHT:
            _extend(mean, work, parts)
            work.parts[0][parts] = checks.mass[k] + math.log(total)
            parts += 1
    for p in range(count):
        _keep(mean, axes, p, nodes, work)
        work.kept.log_share[nodes] = logs[0] + logs[1] + some.logs[p]
        work.kept.likelihood[nodes] = log_sum(logs[1] - 0.5 * some.squared[p], logs[2])
        nodes += 1
    return parts, nodes


@borrowing
def _keep(mean: Array, axes: Places, p: int, place: int, work: Workspace) -> None:
    """Put a node of a component among those of all, in the seen coordinates."""
    for i in range(len(axes)):
        value = mean[axes[i]]
        for j in range(len(axes)):
            value += work.frame.factor[i, j] * work.nodes.places[j, p]
        work.kept.points[i, place] = value


@borrowing
def _add_outlier(
    sensor: Sensor,
    outside: tuple[Array, Array],
    axes: Places,
    prior: Numbers,
    place: tuple[int, int],
    logs: tuple[float, float, float],
    at: tuple[int, int],
    work: Workspace,
) -> tuple[int, int]:
    """Add a component times an outlier, which leaves it as it is, and its nodes; how many there are then."""
    (parts, nodes), (b, k), (steps, log_shares) = at, place, outside
    mean, covariance = prior.means[b, k], prior.covariances[b, k]
    work.parts[0][parts] = logs[0] + logs[2]
    for i in range(len(mean)):
        work.parts[1][parts, i] = mean[i]
        for j in range(len(mean)):
            work.parts[2][parts, i, j] = covariance[i, j]
    for p in range(len(steps)):
        for i in range(len(axes)):
            work.nodes.places[i, 0] = steps[p, i]
        turn = line_through(sensor, work.frame, steps[:, 1:], p)
        off, _ = residual(sensor, work.frame, turn, steps[p, 0])
        _keep(mean, axes, 0, nodes, work)
        work.kept.log_share[nodes] = logs[0] + logs[2] + log_shares[p]
        work.kept.likelihood[nodes] = log_sum(logs[1] - 0.5 * off * off, logs[2])
        nodes += 1
    return parts + 1, nodes


@borrowing
def _apart(work: Workspace) -> float:
    """Divergence in nats from the moments of the rule to those of its check, in a component's frame."""
    first, second = work.squares[0], work.squares[1]
    size = len(first)
    factorise(first, TINY, ROUNDING, work.squares[2])
    found = 0.0
    for i in range(size):
        found += math.log(work.squares[2][i, i])
    invert_product(work.squares[2], work.frame.squares[2], work.squares[3])
    factorise(second, TINY, ROUNDING, work.squares[2])
    for i in range(size):
        found -= math.log(work.squares[2][i, i]) + 0.5
        for j in range(size):
            off = (work.vectors[1][i] - work.vectors[0][i]) * (work.vectors[1][j] - work.vectors[0][j])
            found += 0.5 * work.squares[3][i, j] * (second[i, j] + off)
    return 0.0 if found < 0 else found


@borrowing
def _extend(mean: Array, work: Workspace, place: int) -> None:
    """Put the moments in the frame among the parts, over the whole state."""
    whole, covariance, across = work.frame.whole, work.squares[0], work.across
    size = len(covariance)
    for i in range(len(whole)):
        value = mean[i]
        for j in range(size):
            value += whole[i, j] * work.vectors[0][j]
            across[i, j] = 0.0
            for m in range(size):
                across[i, j] += whole[i, m] * covariance[m, j]
        work.parts[1][place, i] = value
        for j in range(i + 1):
            entry = work.frame.rest[i, j]
            for m in range(size):
                entry += across[i, m] * whole[j, m]
            work.parts[2][place, i, j] = work.parts[2][place, j, i] = entry
