"""Posteriors of several observations in the plane, by cells in a Cartesian frame; see `several_observations`."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Array, Seen, smallest
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array, numbers_of
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.update.plane.cell_fit import Limits, Rule, divergence, fit_cells
from beliefstream.inference.update.plane.cells import CellLimits, Problem, divide_plane
from beliefstream.inference.update.plane.densities import (
    DensitySpace,
    Prior,
    fill_density,
    first_of,
    new_density_space,
    take,
)
from beliefstream.inference.update.plane.frame import (
    Frame,
    fill_framed,
    in_frame,
    new_framed,
    new_prior,
)
from beliefstream.inference.update.plane.mixture_fit import (
    Mixture,
    Points,
    new_mixture,
    new_points,
    new_work,
)
from beliefstream.inference.update.plane.smoothing import Cells, new_cell_block, new_cells


class Found(NamedTuple):
    """Answers to ``B`` problems, and the points that measure them."""

    counts: NDArray[np.int64]  # (3, B) of components, cells and nodes; no component where there is no answer
    log_evidence: Array  # (2, B), of the nodes and of the cells
    lost: Array  # (B,) share that may lie outside the cells
    divergence: Array  # (2, B)
    moments: tuple[Array, Array, Array]  # log weights, means and covariances
    cells: Array  # (B, 4, C) x, y, share and log of prior × likelihood; anything beyond the counts
    nodes: Array  # (B, 4, P)


RULES = 6, 4  # nodes along each axis: of few components and of an answer, and of more on the way


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    seen, point, _ = smallest()
    two, pair = torch.eye(2, dtype=torch.float64), np.zeros((1, 1, 2))
    seen = seen._replace(matrix=np.ones((1, 1, 2, 2)), origin=pair, heading=pair, value=pair)
    prior = GaussianMixture(point[0].log(), point.expand(1, 1, 2), two[None, None])
    cells, fit = CellLimits(1.0, 1e-3, 1e-2, 1.0), Limits(2, 1.0, 1.0, 1, 1, 1, 1, 1.0)
    measure(solve(seen, prior, point[0].expand(1, 2), two[None], cells, fit, 512), prior)


def solve(
    seen: Seen,
    prior: GaussianMixture,
    centre: Tensor,
    factor: Tensor,
    cell_limits: CellLimits,
    limits: Limits,
    most: int,
) -> Found:
    """Solve problems in the frame `factor` ``(B, 2, 2)`` around `centre` ``(B, 2)``, with at most so many cells."""
    batch, places = prior.batch, limits.components
    few, more = (rule(each, 2) for each in RULES)
    nodes = (array(few[0]), array(few[1].log())), (array(more[0]), array(more[1].log()))
    most_nodes = places * RULES[0] ** 2
    found = Found(
        np.zeros((3, batch), np.int64),
        np.full((2, batch), -math.inf),
        np.full(batch, math.inf),
        np.full((2, batch), math.inf),
        (
            np.full((batch, places), -math.inf),
            np.zeros((batch, places, 2)),
            np.tile(np.eye(2), (batch, places, 1, 1)),
        ),
        np.empty((batch, 4, most)),
        np.empty((batch, 4, most_nodes)),
    )
    _solve(seen, numbers_of(prior), array(centre), array(factor), cell_limits, limits, nodes, found)
    return found


@native
def _solve(
    seen: Seen,
    mixtures: Numbers,
    centre: Array,
    factor: Array,
    cell_limits: CellLimits,
    limits: Limits,
    nodes: tuple[Rule, Rule],
    found: Found,
) -> None:
    count, most = mixtures.log_weights.shape[1], found.cells.shape[2]
    now, then, cells, places = new_cells(most), new_cells(most), new_cells(most), found.nodes.shape[2]
    space, framed_space, framed = new_prior(count), new_prior(count), new_framed(seen.kind.shape[1])
    block, densities = new_cell_block(), new_density_space(count, max(most, places))
    mixture, points, others = new_mixture(limits.components), new_points(most), new_points(places)
    rest, residual = new_mixture(limits.components), np.empty(most)
    work, answer = new_work(limits.components, max(most, places)), np.empty(max(most, places))
    axes, origin = np.arange(2), np.zeros(2)
    for b in range(len(centre)):
        prior = first_of(space, take(mixtures, b, axes, origin, space))
        frame = (centre[b, 0], centre[b, 1], factor[b, 0, 0], factor[b, 1, 0], factor[b, 1, 1])
        problem = Problem(in_frame(prior, frame, framed_space), framed, fill_framed(seen, b, frame, framed))
        number, lost = divide_plane(problem, cell_limits, (now, then), cells, block)
        if number <= 0:
            continue
        log_area = math.log(4 * frame[2] * frame[4])
        evidence = _fill_points(seen, b, prior, frame, cells, number, points, densities)
        evidence += log_area
        found.log_evidence[1, b], found.lost[b] = evidence, lost
        room = others, rest, work, answer, residual, densities
        components, some, log, one, other = fit_cells(
            seen, b, prior, points, number, evidence, limits, nodes, mixture, room
        )
        found.log_evidence[0, b] = log
        found.divergence[0, b], found.divergence[1, b] = one, other
        found.counts[0, b], found.counts[1, b], found.counts[2, b] = components, number, some
        _put(mixture, components, points, number, others, some, b, found)


@inner
def _fill_points(
    seen: Seen,
    b: int,
    prior: Prior,
    frame: Frame,
    cells: Cells,
    count: int,
    points: Points,
    space: DensitySpace,
) -> float:
    """Fill the cells as points, by the density at their centres.

    Returns the log evidence less the log of the area of the frame.
    """
    x, y, xx, yx, yy = frame
    total = 0.0
    for c in range(count):
        u, v, hu, hv = cells.places[c, 0], cells.places[c, 1], cells.halves[c, 0], cells.halves[c, 1]
        points.x[c], points.y[c] = x + xx * u, y + yx * u + yy * v
        one, other = hu * hu / 3, hv * hv / 3
        points.spread[0, c], points.spread[1, c] = xx * xx * one, xx * yx * one
        points.spread[2, c] = yx * yx * one + yy * yy * other
    fill_density(seen, b, prior, points.x, points.y, count, space, points.log)
    highest = -math.inf
    for c in range(count):
        highest = max(highest, points.log[c])
    for c in range(count):
        low, area = points.log[c] - highest, cells.halves[c, 0] * cells.halves[c, 1]
        points.share[c] = 0.0 if low < UNDERFLOW else exponential(low) * area
        total += points.share[c]
    for c in range(count):
        points.share[c] /= total
    return highest + math.log(total)


@borrowing
def _put(
    mixture: Mixture,
    components: int,
    points: Points,
    number: int,
    others: Points,
    some: int,
    b: int,
    found: Found,
) -> None:
    log_weights, means, covariances = found.moments
    for k in range(components):
        log_weights[b, k] = mixture.log_weights[k]
        means[b, k, 0], means[b, k, 1] = mixture.moments[k, 0], mixture.moments[k, 1]
        covariances[b, k, 0, 0], covariances[b, k, 1, 1] = mixture.moments[k, 2], mixture.moments[k, 4]
        covariances[b, k, 0, 1] = covariances[b, k, 1, 0] = mixture.moments[k, 3]
    _put_points(points, number, found.cells[b])
    _put_points(others, some, found.nodes[b])


@borrowing
def _put_points(points: Points, count: int, into: Array) -> None:
    for p in range(count):
        into[0, p], into[1, p] = points.x[p], points.y[p]
        into[2, p], into[3, p] = points.share[p], points.log[p]


def measure(found: Found, answer: GaussianMixture) -> Array:
    """KL(exact ‖ answer) ``(B,)`` in nats over the cells and the nodes, the larger; infinite without any."""
    divergence = np.full(answer.batch, math.inf)
    _measure(found, numbers_of(answer), divergence)
    return divergence


@native
def _measure(found: Found, answer: Numbers, divergences: Array) -> None:
    most, count = max(found.cells.shape[2], found.nodes.shape[2]), answer.log_weights.shape[1]
    mixture, work, logs = new_mixture(count), new_work(count, most), np.empty(most)
    for b in range(len(divergences)):
        if found.counts[0, b] == 0:
            continue
        components = 0
        for k in range(count):
            if answer.log_weights[b, k] > -math.inf:
                mixture.log_weights[components] = answer.log_weights[b, k]
                moments, covariance = mixture.moments[components], answer.covariances[b, k]
                moments[0], moments[1] = answer.means[b, k, 0], answer.means[b, k, 1]
                moments[2], moments[3], moments[4] = covariance[0, 0], covariance[1, 0], covariance[1, 1]
                components += 1
        apart = abs(found.log_evidence[0, b] - found.log_evidence[1, b])
        larger = 0.0
        for each in range(2):
            points = found.nodes[b] if each == 0 else found.cells[b]
            at = Points(points[0], points[1], points[2], points, points, points[3])
            number, log = found.counts[2 - each, b], found.log_evidence[each, b]
            one = divergence(mixture, components, at, number, log, apart, work, logs)
            larger = one if not one < larger else larger
        divergences[b] = larger
