"""`inference.update.polar_quadrature` for the processor: one problem after another."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import ANGLE, RANGE
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.native_reduction import leave_absent, reduce_one
from beliefstream.inference.update.native_polar_answers import (
    Plane,
    add_wide,
    divergence,
    extend,
    put_moments,
    see,
)
from beliefstream.inference.update.native_polar_lines import Sensor
from beliefstream.inference.update.native_polar_parts import gather
from beliefstream.inference.update.native_polar_space import MOST_STRIPS, Counts, Sight
from beliefstream.inference.update.native_polar_work import (
    MOST_PARTS,
    Gathered,
    Tables,
    Work,
    add_outliers,
    begin_gathered,
    join_neighbours,
    new_gathered,
    new_work,
    put_gathered,
    tables_of,
)
from beliefstream.inference.update.native_scaling import example
from beliefstream.inference.update.polar_rules import TRUNCATED

Array = NDArray[np.float64]
Places = NDArray[np.int64]

MOST_UNCERTAIN = 0.001  # share of a posterior
FLAT = 1e-9  # of a matrix: its determinant, beside its largest entry squared


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
    return _run(prior, seen, index, axes, tables_of(most, *limits), new_gathered(0))


def lines(
    prior: GaussianMixture, seen: Seen, most: int, limits: tuple[float, float, float]
) -> tuple[GaussianMixture, Tensor, Gathered]:
    """Posteriors of all problems in a plane, as `solve`, or none if `most` is 0; log evidence; and strips and nodes."""
    index, gathered = torch.arange(prior.batch), new_gathered(prior.batch)
    axes = torch.arange(2).expand(prior.batch, 2)
    mixture, evidence, _ = _run(prior, seen, index, axes, tables_of(most, *limits), gathered)
    return mixture, evidence, gathered


def _run(
    prior: GaussianMixture, seen: Seen, index: Tensor, axes: Tensor, tables: Tables, gathered: Gathered
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """As `solve`; also fills what is gathered, unless it has no space."""
    batch, size, most = len(index), prior.dimension, tables.most
    found = Numbers(
        np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))
    )
    values, given = np.empty((2, batch)), (index.numpy(), axes.contiguous().numpy())
    count = _solve(numbers_of(prior), seen, given, tables, found, values, gathered)
    mixture = GaussianMixture(*(torch.from_numpy(part[:, :count]) for part in found))
    return mixture, torch.from_numpy(values[0]), torch.from_numpy(values[1])


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
    asked = len(gathered.uncertain) > 0
    strips = MOST_STRIPS if asked else 0
    work, largest = new_work(prior.means.shape[1], prior.means.shape[2], strips, tables), 1
    for row in range(len(index)):
        b, left = index[row], 0
        if asked:
            begin_gathered(row, gathered)
        values[0, row], values[1, row] = math.nan, math.inf
        sight, fits = _sight(seen, b, axes[row], work.plane)
        if fits:
            count = _see_prior(prior, b, work)
            rules, nodes = tables.rules, work.nodes
            counts, uncertain, rough = gather(sight, prior.log_weights[b], work.moments, count, rules, nodes)
            inliers = counts.strips
            if asked:  # a fit can begin with fewer
                parts = join_neighbours(nodes.parts, counts.parts, MOST_PARTS - count)
                counts = Counts(parts, counts.nodes, counts.strips)
            if counts.nodes >= 0:
                counts = add_outliers(sight, prior, b, count, rough, tables, counts, work)
            if counts.nodes > 0:
                shares = _sum(work.nodes.nodes.share, counts.nodes)
                evidence = rough + math.log(shares)
                values[0, row] = evidence
                if asked:
                    put_gathered(prior, b, row, (counts, inliers), count, uncertain, work, gathered)
                sure = uncertain < MOST_UNCERTAIN or asked  # a fit is measured on all nodes
                if tables.most and 0 < counts.parts <= MOST_PARTS and sure:
                    left, off = _answered(
                        prior, b, row, counts, count, (evidence, shares), tables, work, found
                    )
                    off += uncertain
                    # a comparison that keeps what is not a number out
                    values[1, row] = off if off < math.inf else math.inf
        if tables.most:
            leave_absent(left, tables.most, found.log_weights[row], found.means[row], found.covariances[row])
        largest = max(largest, left)
    return largest


@borrowing
def _sight(seen: Seen, b: int, axes: Places, plane: Plane) -> tuple[Sight, bool]:
    """The only observation of a problem, and whether it is a range or a bearing in the plane; fills the plane."""
    n = 0
    while not seen.mask[b, n]:
        n += 1
    inlier, outlier = seen.log_inlier[b, n] - seen.constant[b, n], seen.log_outlier[b, n] + seen.outlier[b, n]
    kind = seen.kind[b, n]
    sensor = Sensor(kind == ANGLE, seen.value[b, n, 0], seen.deviation[b, n])
    sight = Sight(sensor, inlier, outlier)
    fits = kind == ANGLE or (kind == RANGE and sensor.value > TRUNCATED * sensor.deviation)
    matrix, largest = seen.matrix[b, n], 0.0
    if len(matrix) < 2:
        return sight, False
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
        put_moments(work.plane, prior.means[b, count], prior.covariances[b, count], work.moments[count])
        count += 1  # absent components are last
    see(prior.log_weights[b], work.moments, count, work.answer, work.answer.prior)
    return count


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
    extend(work.plane, prior, b, work.moments, work.nodes.parts, counts.parts, space, work.parts)
    one = (work.parts.log_weights[0, : counts.parts], work.parts.means[0], work.parts.covariances[0])
    into = (found.log_weights[row], found.means[row], found.covariances[row])
    left = reduce_one(one, tables.most - 1, tables.merge_below, work.room, into)
    left = add_wide(prior, b, count, found, row, left, tables.wide, space)
    for k in range(left):
        put_moments(work.plane, found.means[row, k], found.covariances[row, k], work.seen[k])
    see(found.log_weights[row], work.seen, left, space, space.answer)
    return left, divergence(work.nodes.nodes, counts.nodes, evidence, (count, left), space)


@adding
def _sum(values: Array, count: int) -> float:
    found = 0.0
    for i in range(count):
        found += values[i]
    return found
