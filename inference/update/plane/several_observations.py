"""Update with several observations in the plane at one instant, by one quadrature of their joint density.

1. The plane is divided into cells (`cells`). Prior and likelihood are smoothed over each, and a bound says
   what mass it may have at most. Only cells whose bound is negligible are dropped; the others are halved until the log
   density changes little across each. So no part of the posterior is missed, however many observations meet there.
2. A mixture is fitted to the cells, with more components where it lacks mass (`mixture_fit`). It is a little too
   wide, by the width of the cells.
3. The nodes of this mixture give the exact evidence, and mass, mean and covariance of the share of each component
   (`mixture_fit`). Components with these moments are nearer to the posterior: it is a step of
   expectation-maximisation on the exact density. A few of them give the answer.
4. The divergence of the answer is measured over the cells, which are wherever the posterior is, and over the nodes,
   which are where the answer is. The larger counts. Both must agree on the evidence.

What it cannot solve well enough is solved once more with smaller cells and more components, and else left to others.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Array, Seen, smallest
from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.gauss_hermite import rule
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, array
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.mixtures.reduction import reduce
from beliefstream.inference.update.check import importance
from beliefstream.inference.update.check.importance import with_wide
from beliefstream.inference.update.check.local_problem import LocalProblem
from beliefstream.inference.update.plane.cells import CellLimits, divide_plane
from beliefstream.inference.update.plane.densities import (
    UNOBSERVED_POINTS,
    DensitySpace,
    Frame,
    Framed,
    Prior,
    Problem,
    fill_density,
    fill_framed,
    first_of,
    lower,
    new_density_space,
    new_framed,
    new_prior,
    take,
)
from beliefstream.inference.update.plane.mixture_fit import (
    FitSpace,
    Limits,
    Mixture,
    Points,
    Rule,
    Sample,
    divergence,
    fit_cells,
    new_expectation,
    new_mixture,
    new_points,
)
from beliefstream.inference.update.plane.smoothing import Cells, new_cell_block, new_cells
from beliefstream.inference.update.problems import Problems, groups
from beliefstream.inference.update.result import Answer, Method, efficiency_at, in_threads, joined
from beliefstream.inference.update.settings import PLANE, UpdateSettings


class Attempt(NamedTuple):
    """How a posterior is divided into cells, and a mixture fitted to them."""

    cells: CellLimits
    fit: Limits
    most: int  # cells


TOGETHER = 512  # problems at a time
FARTHEST = 18.0  # deviations of the prior, within which its components must lie
MOST_LOST, MOST_APART = 0.005, 0.1  # share of the posterior outside the cells; nats between both evidences
USUAL = Attempt(CellLimits(0.25, 1e-5, 3e-4, 0.01), Limits(16, 0.02, 2, 5, 0.005), 2048)
FINER = Attempt(CellLimits(0.12, 1e-6, 1e-5, 0.002), Limits(16, 0.0, 4, 6, 0.005), 8192)
COARSER = Attempt(CellLimits(0.5, 3e-5, 1e-3, 0.03), Limits(10, 0.02, 1, 3, 0.02), 1024)
FAR, STEEP = 3.0, 40.0  # deviations of the prior; nats below a density, at which an answer has nothing there
MOST_UNREFINED = 0.1  # nats that an answer may lose where none is refined


def can(problems: Problems) -> Tensor:
    """Entities whose observations touch two coordinates and have plain noise, ``(B,)`` bool."""
    if problems.settings.quadrature_below <= 0:
        return torch.zeros(problems.prior.batch, dtype=torch.bool)
    observations = problems.observations
    return (problems.touched_count == PLANE) & ~observations.has_functions & observations.is_plain


def answer(problems: Problems, index: Tensor) -> Answer:
    """Answers to the entities at `index`, whose loss is infinite where it is more than that of one that is not refined.

    Where poor answers are refined, there is a second attempt.
    """
    parts, gained = [], problems.scaled.gained
    for some in groups(index, problems.pattern):
        seen = replace(
            problems.observations.rows_of(some),
            mixture=None,
            deviation_slope=None,
            functions=None,
            likelihoods=None,
        )
        local = LocalProblem.of(problems.prior.rows(some), _sorted(seen), problems.axes_of(some[0]))
        if local.observations.matrix.shape[2] == PLANE:
            parts.append((some, _attempts(local, gained[some], problems.settings)))
        else:  # a sensor of three rows, such as one above the plane
            parts.append((some, Answer.none(local.whole)))
    return joined(parts)


def _sorted(observations: Observations) -> Observations:
    """In an order that is always the same, as fits to cells make rounded digits larger."""
    order = torch.where(observations.mask, observations.value[..., 0], math.inf).argsort(dim=1, stable=True)
    row = torch.arange(len(order))[:, None]
    return observations.map(lambda tensor: tensor[row, order])


def _most(size: Tensor) -> Tensor:
    """The largest divergence of an answer, nats, whose sample efficiency must be as large."""
    return -0.5 * size.log()  # as `efficiency_at`


def _attempts(local: LocalProblem, gained: Tensor, settings: UpdateSettings) -> Answer:
    """The answers of the first attempt that is good enough, with infinite loss where none is."""
    left, attempts = torch.arange(len(gained)), [(COARSER, torch.full_like(gained, MOST_UNREFINED))]
    if once := settings.refine_below:
        least = settings.least_efficiency(gained)
        # the second is as if refined
        refined = torch.where(least > once, once, min(once, settings.repeat_below))
        attempts = [(USUAL, _most(least)), (FINER, _most(refined))]
    parts: list[tuple[Tensor, Answer]] = []
    for number, (attempt, most) in enumerate(attempts, 1):

        def part(some: Tensor, attempt: Attempt = attempt) -> tuple[Tensor, Answer]:
            return some, _solved(local.rows(some), settings, attempt)

        poor, each = [], max(1, min(TOGETHER, math.ceil(len(left) / torch.get_num_threads())))
        for some, update in in_threads(part, torch.split(left, each)):
            good = update.lost < most[some]
            if number == len(attempts):  # what is poor is left
                parts.append((some, replace(update, lost=torch.where(good, update.lost, math.inf))))
                continue
            poor.append(some[~good])
            if len(at := torch.nonzero(good)[:, 0]):
                parts.append((some[at], update.rows(at)))
        left = torch.cat(poor) if poor else left[:0]
        if len(left) == 0:
            break
    return joined(parts)


def _solved(local: LocalProblem, settings: UpdateSettings, attempt: Attempt) -> Answer:
    """Answers, with infinite loss where they must not be used."""
    prior, seen = local.prior, local.observations.native
    assert seen is not None
    mean, covariance = prior.moments()
    factor = la.cholesky(covariance, torch.finfo(covariance.dtype).tiny)
    offsets = la.times(la.invert_lower(factor)[:, None], prior.means - mean[:, None]).abs().amax(2)
    inside = (~prior.present | (offsets < FARTHEST)).all(1)
    found = solve(seen, prior, mean, factor, attempt)
    whole = local.extend(GaussianMixture(*(torch.from_numpy(part) for part in found.moments)))
    whole = reduce(whole, settings.most_components - 1, settings.merge_below)
    # beliefs are taken from the first places, and other problems may have more components
    whole = with_wide(whole, local.extend(GaussianMixture.gaussian(mean, covariance)), settings.prior_share)
    answer = local.localise(whole)
    divergence = torch.from_numpy(measure(found, answer))
    evidence, lost = torch.from_numpy(found.log_evidence), torch.from_numpy(found.lost)
    steep = _steepness(answer, factor)
    divergence += torch.where(steep > STEEP, lost * steep, 0.0)
    sound = inside & (lost < MOST_LOST) & ((evidence[0] - evidence[1]).abs() < MOST_APART)
    divergence = torch.where(sound, divergence.clamp_min(0.0), math.inf)
    update = Answer.of(whole, evidence[0], divergence, Method.QUADRATURE)
    return _with_unseen(local, update, found.cells, found.counts[1]) if local.partial else update


def _steepness(answer: GaussianMixture, factor: Tensor) -> Tensor:
    """Nats that an answer is low at `FAR` deviations of the prior from its components, ``(B,)``, at most.

    `factor` ``(B, 2, 2)`` is that of the prior's covariance.

    Without a wide component, an answer has no density there.
    """
    # entry by entry: products of so many small matrices take ten times as long
    inverse, covariances = la.invert_lower(factor)[:, None], answer.covariances
    one, low, two = inverse[..., 0, 0], inverse[..., 1, 0], inverse[..., 1, 1]
    xx, xy, yy = covariances[..., 0, 0], covariances[..., 1, 0], covariances[..., 1, 1]
    trace = one * one * xx + low * low * xx + 2 * low * two * xy + two * two * yy
    determinant = (one * two).square() * (xx * yy - xy * xy)
    least = determinant / (0.5 * trace + (0.25 * trace.square() - determinant).clamp_min(0).sqrt())
    low = 0.5 * FAR**2 / least - answer.log_weights
    return torch.where(answer.present, low, math.inf).amin(1)


def _with_unseen(
    local: LocalProblem, update: Answer, cells: NDArray[np.float64], counts: NDArray[np.int64]
) -> Answer:
    """Add the divergence of the coordinates that no sensor touches, where the prior has several components.

    Under one component they follow exactly.
    """
    index = torch.nonzero(update.lost.isfinite() & (local.prior.present.sum(1) > 1))[:, 0]
    if len(index) == 0:
        return update
    points, last = torch.from_numpy(cells)[index], torch.from_numpy(counts)[index, None] - 1
    # as many points whatever the batch, each of an equal share
    places = (torch.arange(UNOBSERVED_POINTS).double() + 0.5) / UNOBSERVED_POINTS
    there = torch.arange(points.shape[2]) <= last
    shares = torch.where(there, points[:, 2], 0.0).cumsum(1)
    chosen = torch.searchsorted(shares, places.repeat(len(index), 1)).minimum(last)
    few = points[:, :2].gather(2, chosen[:, None].expand(-1, 2, -1)).mT
    equal, some = torch.zeros(chosen.shape, dtype=torch.float64), local.rows(index)
    weighted = importance.Weighted(few, equal, equal, equal)
    more = update.lost.clone()
    more[index] += some.unobserved_divergence(update.posterior.rows(index), weighted)
    return replace(update, lost=more, sample_efficiency=efficiency_at(more))


class Found(NamedTuple):
    """Answers to ``B`` problems, and the points that measure them."""

    counts: NDArray[np.int64]  # (3, B) of components, cells and nodes; no component where there is no answer
    log_evidence: Array  # (2, B), of the nodes and of the cells
    lost: Array  # (B,) share that may lie outside the cells
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
    attempt = Attempt(CellLimits(1.0, 1e-3, 1e-2, 1.0), Limits(2, 1.0, 1, 1, 1.0), 512)
    measure(solve(seen, prior, point[0].expand(1, 2), two[None], attempt), prior)


def solve(seen: Seen, prior: GaussianMixture, centre: Tensor, factor: Tensor, attempt: Attempt) -> Found:
    """Solve problems in the frame `factor` ``(B, 2, 2)`` around `centre` ``(B, 2)``."""
    batch, places, most = prior.batch, attempt.fit.components, attempt.most
    few, more = (rule(each, 2) for each in RULES)
    rules = (array(few[0]), array(few[1].log())), (array(more[0]), array(more[1].log()))
    most_nodes = places * RULES[0] ** 2
    found = Found(
        np.zeros((3, batch), np.int64),
        np.full((2, batch), -math.inf),
        np.full(batch, math.inf),
        (
            np.full((batch, places), -math.inf),
            np.zeros((batch, places, 2)),
            np.tile(np.eye(2), (batch, places, 1, 1)),
        ),
        np.empty((batch, 4, most)),
        np.empty((batch, 4, most_nodes)),
    )
    _solve(seen, prior.numbers, array(centre), array(factor), attempt, rules, found)
    return found


@native
def _solve(
    seen: Seen,
    mixtures: Numbers,
    centre: Array,
    factor: Array,
    attempt: Attempt,
    rules: tuple[Rule, Rule],
    found: Found,
) -> None:
    count, most, places = mixtures.log_weights.shape[1], found.cells.shape[2], found.nodes.shape[2]
    components, number, longest = attempt.fit.components, seen.kind.shape[1], max(most, places)
    now, then, cells = new_cells(most), new_cells(most), new_cells(most)
    spaces = (new_prior(count), new_framed(number)), (new_prior(count), new_framed(number))
    block, logs = new_cell_block(), np.empty((2, longest))
    mixture, points = new_mixture(components), new_points(most)
    space = FitSpace(
        new_points(places), new_mixture(components), new_expectation(components, longest),
        logs[0], logs[1], new_density_space(count, longest),
    )  # fmt: skip
    for b in range(len(centre)):
        frame = (centre[b, 0], centre[b, 1], factor[b, 0, 0], factor[b, 1, 0], factor[b, 1, 1])
        inside = _posed(seen, mixtures, b, frame, spaces[0])
        lower(inside.prior)
        problem = _posed(seen, mixtures, b, (0.0, 0.0, 1.0, 0.0, 1.0), spaces[1])
        number, lost = divide_plane(inside, attempt.cells, (now, then), cells, block)
        if number <= 0:
            continue
        evidence = _fill_points(problem, frame, cells, number, points, space.densities)
        sample = Sample(points, number, evidence)
        components, some, log = fit_cells(problem, sample, attempt.fit, rules, mixture, space)
        found.log_evidence[0, b], found.log_evidence[1, b], found.lost[b] = log, evidence, lost
        found.counts[0, b], found.counts[1, b], found.counts[2, b] = components, number, some
        _put(mixture, components, b, found)
        _put_points(points, number, found.cells[b])
        _put_points(space.nodes, some, found.nodes[b])


@inner
def _posed(seen: Seen, mixtures: Numbers, b: int, frame: Frame, space: tuple[Prior, Framed]) -> Problem:
    """A problem in a frame."""
    axes, one = np.arange(2), Numbers(mixtures.log_weights[b], mixtures.means[b], mixtures.covariances[b])
    prior = first_of(space[0], take(one, axes, frame, space[0]))
    number, height = fill_framed(seen, b, axes, frame, space[1])
    return Problem(prior, space[1], number, height)


@inner
def _fill_points(
    problem: Problem, frame: Frame, cells: Cells, count: int, points: Points, space: DensitySpace
) -> float:
    """Fill the cells, which are in a frame, as points, by the density at their centres; returns the log evidence."""
    x, y, xx, yx, yy = frame
    total = 0.0
    for c in range(count):
        u, v, one, other = cells.places[c, 0], cells.places[c, 1], cells.halves[c, 0], cells.halves[c, 1]
        points.x[c], points.y[c] = x + xx * u, y + yx * u + yy * v
        one, other = one * one / 3, other * other / 3
        points.spread[0, c], points.spread[1, c] = xx * xx * one, xx * yx * one
        points.spread[2, c] = yx * yx * one + yy * yy * other
    fill_density(problem, points.x, points.y, count, space, points.log)
    highest = -math.inf
    for c in range(count):
        highest = max(highest, points.log[c])
    for c in range(count):
        low, area = points.log[c] - highest, cells.halves[c, 0] * cells.halves[c, 1]
        points.share[c] = 0.0 if low < UNDERFLOW else exponential(low) * area
        total += points.share[c]
    for c in range(count):
        points.share[c] /= total
    return highest + math.log(total) + math.log(4 * xx * yy)


@borrowing
def _put(mixture: Mixture, components: int, b: int, found: Found) -> None:
    log_weights, means, covariances = found.moments
    for k in range(components):
        log_weights[b, k] = mixture.log_weights[k]
        means[b, k, 0], means[b, k, 1] = mixture.moments[k, 0], mixture.moments[k, 1]
        covariances[b, k, 0, 0], covariances[b, k, 1, 1] = mixture.moments[k, 2], mixture.moments[k, 4]
        covariances[b, k, 0, 1] = covariances[b, k, 1, 0] = mixture.moments[k, 3]


@borrowing
def _put_points(points: Points, count: int, into: Array) -> None:
    for p in range(count):
        into[0, p], into[1, p] = points.x[p], points.y[p]
        into[2, p], into[3, p] = points.share[p], points.log[p]


def measure(found: Found, answer: GaussianMixture) -> Array:
    """KL(exact ‖ answer) ``(B,)`` in nats over the cells and the nodes, the larger; infinite without any."""
    divergence = np.full(answer.batch, math.inf)
    _measure(found, answer.numbers, divergence)
    return divergence


@native
def _measure(found: Found, answer: Numbers, divergences: Array) -> None:
    most, count = max(found.cells.shape[2], found.nodes.shape[2]), answer.log_weights.shape[1]
    mixture, work, logs = new_mixture(count), new_expectation(count, most), np.empty(most)
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
            sample = Sample(at, found.counts[2 - each, b], found.log_evidence[each, b])
            one = divergence(mixture, components, sample, apart, work, logs)
            larger = one if not one < larger else larger
        divergences[b] = larger
