"""`inference.update.polar_quadrature` for the processor: one problem after another."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import adding, borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import Numbers, numbers_of
from beliefstream.inference.mixtures.reduction import leave_absent, reduce_one
from beliefstream.inference.update.native_polar_answers import (
    add_wide,
    divergence,
    extend,
    put_moments,
    see,
)
from beliefstream.inference.update.native_polar_beside import Fitting, Problem, components
from beliefstream.inference.update.native_polar_fit import (
    Fitted,
    Reduced,
    fit_lines,
    fitting_of,
    loss_of_parts,
)
from beliefstream.inference.update.native_polar_kept import join_alike, join_neighbours
from beliefstream.inference.update.native_polar_nodes import REACH
from beliefstream.inference.update.native_polar_parts import gather, is_long
from beliefstream.inference.update.native_polar_sight import see_prior, sight_of
from beliefstream.inference.update.native_polar_space import Counts, Sight
from beliefstream.inference.update.native_polar_work import (
    MOST_PARTS,
    Gathered,
    Tables,
    Work,
    add_outliers,
    begin_gathered,
    new_gathered,
    new_work,
    put_gathered,
    tables_of,
)
from beliefstream.inference.update.polar_rules import ASKED, MOST_BEYOND
from beliefstream.inference.update.scaled_problem import example
from beliefstream.inference.update.settings import UpdateSettings
from beliefstream.inference.update.wide_components import WIDER

Array = NDArray[np.float64]
Places = NDArray[np.int64]

LEAST_BESIDE = math.log(MOST_BEYOND) + 0.5 * REACH * REACH
SURE = 0.001  # uncertain share of a posterior, below which quadrature is sure enough


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    prior, observations = example()
    index, axes = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, dtype=torch.int64)
    solve(prior, observations.native, index, axes, UpdateSettings(components=1), index == 0, index == 0)


class Answers(NamedTuple):
    """Answers to ``b`` problems; those that fail have an infinite divergence."""

    posterior: Numbers  # (b, J)
    evidence: Array  # (b,) log
    divergence: Array  # (b,) nats
    size: Array  # (b,) effective sample size
    is_fitted: NDArray[np.bool_]  # (b,) whether it was fitted to the lines


class Asked(NamedTuple):
    """What answers must be, and how they are found."""

    tables: Tables
    below: float  # nats that an answer of quadrature may lose
    least: float  # effective sample size of an answer that loses more
    fitting: Fitting
    fits: NDArray[np.bool_]  # (b,) whether a mixture may be fitted where quadrature loses more
    near: NDArray[np.bool_]  # (b,) whether all of the posterior is sure to be within the reach of lines
    gathered: Gathered  # space for the lines of one problem


def solve(
    prior: GaussianMixture,
    seen: Seen,
    index: Tensor,
    axes: Tensor,
    settings: UpdateSettings,
    fits: Tensor,
    near: Tensor,
) -> tuple[GaussianMixture, Answers]:
    """Posteriors ``(b, J, D)`` of the problems at `index`, by quadrature or by a fit where that is allowed.

    `axes` ``(b, 2)`` are the coordinates that the sensors touch; `fits` and `near` ``(b,)`` are as in `Asked`.
    """
    batch, size, most = len(index), prior.dimension, settings.most_components
    answers = new_answers(batch, most, size)
    asked = asked_of(settings, size, fits.numpy(), near.numpy())
    count = _solve(numbers_of(prior), seen, (index.numpy(), axes.contiguous().numpy()), asked, answers)
    return GaussianMixture(*(torch.from_numpy(part[:, :count]) for part in answers.posterior)), answers


def new_answers(batch: int, most: int, size: int) -> Answers:
    """Space for answers of up to `most` components."""
    posterior = Numbers(
        np.empty((batch, most)), np.empty((batch, most, size)), np.empty((batch, most, size, size))
    )
    evidence, divergence, sizes = np.empty((3, batch))
    return Answers(posterior, evidence, divergence, sizes, np.zeros(batch, np.bool_))


def asked_of(
    settings: UpdateSettings, dimension: int, fits: NDArray[np.bool_], near: NDArray[np.bool_]
) -> Asked:
    """What the settings ask of problems with so many coordinates."""
    limits = float(settings.merge_below), WIDER, float(settings.prior_share)
    tables = tables_of(settings.most_components, *limits)
    below, repeat = float(settings.quadrature_below), float(settings.repeat_below)
    least = repeat if repeat > ASKED else 0.0
    return Asked(tables, below, least, fitting_of(settings, dimension), fits, near, new_gathered(1))


@native
def _solve(prior: Numbers, seen: Seen, given: tuple[Places, Places], asked: Asked, found: Answers) -> int:
    """Fill answers; the most components of one."""
    index, axes = given
    most, largest = asked.tables.most, 1
    work = new_work(prior.means.shape[1], prior.means.shape[2], asked.tables)
    for row in range(len(index)):
        left = solve_one(prior, seen, index[row], axes[row], asked, work, found, row)
        posterior = found.posterior
        leave_absent(left, most, posterior.log_weights[row], posterior.means[row], posterior.covariances[row])
        largest = max(largest, left)
    return largest


@inner
def solve_one(
    prior: Numbers,
    seen: Seen,
    b: int,
    axes: Places,
    asked: Asked,
    work: Work,
    found: Answers,
    row: int,
) -> int:
    """Fill the answer to one problem; how many components it has."""
    tables, gathered = asked.tables, asked.gathered
    found.evidence[row], found.divergence[row], found.size[row] = math.nan, math.inf, 0.0
    found.is_fitted[row] = False
    sight, fits = sight_of(seen, b, axes, work.plane)
    if not fits:
        return 0
    count = see_prior(prior, b, work)
    counts, inliers, uncertain, rough = _gathered(sight, prior, b, count, tables, work)
    if not counts.nodes > 0:
        return 0
    shares = _sum(work.nodes.nodes.share, counts.nodes)
    found.evidence[row] = evidence = rough + math.log(shares)
    left, off = 0, math.inf
    # the windows of a whole ring lose more than an answer may
    if 0 < counts.parts <= MOST_PARTS and not (
        count == 1 and is_long(sight, work.moments, rough, work.nodes)
    ):
        left, off = _answered(prior, b, row, counts, count, (evidence, shares), tables, work, found.posterior)
        off += uncertain
    if off < asked.below and uncertain < SURE:
        found.divergence[row], found.size[row] = off, math.exp(-2 * off)
        return left
    if not (asked.fits[row] and (asked.near[row] or _is_within_reach(sight, evidence))):
        return 0
    whole, into, fitting = components(prior, b, count), found.posterior, asked.fitting
    problem = Problem(
        whole, axes, evidence, gathered, fitting, work.plane, work.nodes.nodes, work.nodes.parts
    )
    loss = loss_of_parts(problem, counts.nodes, off, into, row, left)
    fitted = Fitted(left, math.exp(-2 * loss), loss, False)
    if not loss < fitting.enough:
        begin_gathered(0, gathered)
        put_gathered(prior, b, 0, (counts, inliers), count, uncertain, work, gathered)
        fitted = fit_lines(problem, Reduced(counts.parts, left, loss), into, row)
    found.size[row], found.is_fitted[row] = fitted.size, fitted.is_fitted
    found.divergence[row] = fitted.divergence if fitted.size >= asked.least else math.inf
    return fitted.components


@borrowing
def _is_within_reach(sight: Sight, evidence: float) -> bool:
    """Whether what lies beyond the reach of lines is too little to matter, whatever the observation.

    There the prior has at most exp(−reach² / 2) of its mass, and the likelihood is at most that of a residual of zero.
    """
    return sight.log_inlier < evidence + LEAST_BESIDE


@borrowing
def _gathered(
    sight: Sight, prior: Numbers, b: int, count: int, tables: Tables, work: Work
) -> tuple[Counts, int, float, float]:
    """Fill nodes, parts and strips: how many, strips of an inlier, what is uncertain, and the rough evidence."""
    counts, uncertain, rough = gather(
        sight, prior.log_weights[b], work.moments, count, tables.rules, work.nodes
    )
    inliers = counts.strips
    parts = join_alike(work.nodes.parts, counts.parts)
    parts = join_neighbours(work.nodes.parts, parts, MOST_PARTS - count)
    counts = Counts(parts, counts.nodes, counts.strips)
    if counts.nodes >= 0:
        counts = add_outliers(sight, prior, b, count, rough, tables, counts, work)
    return counts, inliers, uncertain, rough


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
