"""`inference.update.curved_quadrature` for the processor: one problem after another, without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen, log_sum
from beliefstream.inference.mixtures.native import adding, borrowing, inlined, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_density import (
    BLOCK,
    Block,
    fill,
    sum_components,
)
from beliefstream.inference.mixtures.reduction import (
    Room as Reduction,
    leave_absent,
    new_room as new_reduction,
    reduce_one,
)
from beliefstream.inference.update.curved_rules import MOST_TOUCHED, Limits, outside, rules
from beliefstream.inference.update.native_curved_parts import (
    LIGHT,
    Checks,
    Kept,
    Tables,
    Work,
    collect,
    new_work,
)
from beliefstream.inference.update.scaled_problem import example
from beliefstream.inference.update.unobserved import Densities, new_densities, see

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Space(NamedTuple):
    """Space to compare prior and answer at the nodes."""

    prior: Densities
    answer: Densities
    before: Array  # (BLOCK,), as the next
    after: Array
    means: Array  # (J, d)
    square: Array  # (d, d)


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    prior, observations = example()
    none = np.zeros(0, np.int64)
    for size in (1, MOST_TOUCHED):
        solve(numbers_of(prior), observations.native, none, np.zeros((0, size), np.int64), 1, 0.0)


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
    _solve(
        prior,
        seen,
        (index, axes),
        Tables(rules(touched), outside(touched), Limits(), merge_below),
        found,
        values,
    )
    return found, values


class Room(NamedTuple):
    """Space to solve one problem after another."""

    work: Work
    space: Space
    reduction: Reduction


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
    room = new_room(count, size, axes.shape[1], seen.matrix.shape[2], most, tables)
    for row in range(len(index)):
        into = (found.log_weights[row], found.means[row], found.covariances[row])
        left, values[0, row], values[1, row] = solve_one(
            prior, seen, index[row], axes[row], tables, room, into
        )
        leave_absent(left, most, found.log_weights[row], found.means[row], found.covariances[row])


@inner
def new_room(count: int, size: int, seen: int, rows: int, most: int, tables: Tables) -> Room:
    """Space for priors of `count` components, and answers of `most`."""
    work = new_work(count, size, seen, rows, tables)
    space = Space(
        new_densities(count, seen),
        new_densities(most, seen),
        np.empty(BLOCK),
        np.empty(BLOCK),
        np.empty((max(count, most), seen)),
        np.empty((seen, seen)),
    )
    return Room(work, space, new_reduction(len(work.parts.log_weights), size))


@inner
def solve_one(
    prior: Numbers,
    seen: Seen,
    b: int,
    axes: Places,
    tables: Tables,
    room: Room,
    found: tuple[Array, Array, Array],
) -> tuple[int, float, float]:
    """Fill the answer of problem `b`; its number of components, evidence and divergence.

    There are no components, and the divergence is infinite, where a problem is left.
    """
    work, limits = room.work, tables.limits
    parts, nodes = collect(prior, seen, b, axes, tables, work)
    if parts == 0:
        return 0, math.nan, math.inf
    evidence, error = _judge(parts, work.parts.log_weights, work.checks, limits)
    if not error < limits.error:
        return 0, evidence, math.inf
    one = (work.parts.log_weights[:parts], work.parts.means, work.parts.covariances)
    left = reduce_one(one, len(found[0]), tables.merge_below, room.reduction, found)
    error += _divergence(prior, b, found, left, axes, work.kept, nodes, evidence, room.space)
    # a comparison that keeps what is not a number out
    return left, evidence, error if error < math.inf else math.inf


@borrowing
def _judge(parts: int, log_weights: Array, checks: Checks, limits: Limits) -> tuple[float, float]:
    """Log evidence, and the divergence between the results of the rules, as `gauss_hermite.apart`."""
    evidence, error, other, missed = log_weights[0], 0.0, 0.0, 0.0
    for j in range(1, parts):
        evidence = log_sum(evidence, log_weights[j])
    for k in range(len(checks.missed)):
        missed += math.exp(checks.missed[k] - evidence)
    if not missed < math.exp(limits.missed):
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
    kept: Kept,
    nodes: int,
    evidence: float,
    space: Space,
) -> float:
    """Estimate of KL(exact ‖ answer) at the nodes, as `quadrature`."""
    count, total = 0, 0.0
    while count < prior.means.shape[1] and prior.log_weights[b, count] > -math.inf:
        count += 1  # absent components are last
    given = (prior.log_weights[b], prior.means[b], prior.covariances[b])
    see(given, axes, count, space.means, space.square, space.prior)
    see(found, axes, left, space.means, space.square, space.answer)
    before, after = first_of(space.prior, count), first_of(space.answer, left)
    for start in range(0, nodes, BLOCK):
        some = min(BLOCK, nodes - start)
        for i in range(len(axes)):
            for p in range(some):
                before.block.points[i, p] = after.block.points[i, p] = kept.points[i, start + p]
        fill(before.inverse, before.shift, before.peaks, before.block)
        fill(after.inverse, after.shift, after.peaks, after.block)
        sum_components(before.block, space.before[:some])
        sum_components(after.block, space.after[:some])
        total += _add_divergence(kept, start, some, evidence, space.before, space.after)
    return total


@inlined
def first_of(whole: Densities, count: int) -> Densities:
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
