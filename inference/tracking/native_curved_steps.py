"""Steps with one range or bearing that bends too much for a closed form, by quadrature.

It goes on where `native_steps` leaves such a step open, with its prediction. Along the ring or the ray it does as
`inference.update.curved_quadrature`, which is enough for most steps of a settled fleet that are left open. Around the
sensor it does as `inference.update.polar_quadrature`, for most first steps of an entity.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.likelihood.predicted_observations import probability
from beliefstream.inference.mixtures.native import borrowing, inlined, native
from beliefstream.inference.mixtures.native_arrays import Numbers
from beliefstream.inference.tracking.native_steps import Found, Given, Reported, keep, seen_of, smallest
from beliefstream.inference.update.closed_forms import Components
from beliefstream.inference.update.closed_update import (
    BENT,
    EVIDENCE,
    SIZE,
    SURPRISE,
    Posed,
    move_back,
    new_pose_space,
    pose,
)
from beliefstream.inference.update.curved_rules import MOST_TOUCHED, Limits, outside, rules
from beliefstream.inference.update.native_curved_parts import Tables
from beliefstream.inference.update.native_curved_quadrature import new_room, solve_one
from beliefstream.inference.update.native_polar_quadrature import (
    Answers,
    Asked,
    asked_of,
    new_answers,
    solve_one as solve_around,
)
from beliefstream.inference.update.native_polar_work import Work, new_work
from beliefstream.inference.update.polar_rules import LEAST_OF_LINES
from beliefstream.inference.update.quadrature import LEAST_WEIGHT, MOST_SPREAD
from beliefstream.inference.update.result import Method
from beliefstream.inference.update.scaled_problem import Shapes
from beliefstream.inference.update.settings import UpdateSettings

Array = NDArray[np.float64]

LOG_LEAST_WEIGHT = math.log(LEAST_WEIGHT)
LIGHTEST, MOST_BENT = Limits().lightest, 1.001 * Limits().bends[2] ** 2  # a little more, for rounding
QUADRATURE, REFINED = int(Method.QUADRATURE), int(Method.REFINED)


def prepare() -> None:
    """Compile the steps, or load them from Numba's cache."""
    given, reported, found = smallest()
    follow(given, reported, found, UpdateSettings(components=1, growth=1))


def follow(given: Given, reported: Reported, found: Found, settings: UpdateSettings) -> None:
    """Solve steps that are `BENT`, where quadrature is good enough; fills `found`."""
    if settings.quadrature_below <= 0 or not (found.method == BENT).any():
        return
    sizes, limits = range(1, MOST_TOUCHED + 1), float(settings.merge_below)
    tables = tuple(Tables(rules(size), outside(size), Limits(), limits) for size in sizes)
    size, none = given.means.shape[1], np.zeros(1, np.bool_)
    asked = asked_of(settings, size, none, none.copy())
    answers = new_answers(1, settings.most_components, size)
    _follow_all(given, reported, found, tables, asked, answers)


@borrowing
def _is_open(reported: Reported, found: Found, b: int, at: int) -> bool:
    """Whether a step has one observation that bends too much; `at` is the first reading of the entity."""
    bent: bool = found.method[b] == BENT and reported.counts[b] == 1
    # without a limit for closed forms, a linear sensor with outliers is left too
    if bent:
        bent = reported.table.kind[reported.sensors[at]] != LINEAR
    return bent


@native
def _follow_all(
    given: Given,
    reported: Reported,
    found: Found,
    tables: tuple[Tables, ...],
    asked: Asked,
    answers: Answers,
) -> None:
    start, at, most = 0, 0, 1
    for count in given.counts:
        most = max(most, count)
    work = new_work(most, given.means.shape[1], asked.tables)
    for b in range(len(given.counts)):
        end = start + given.counts[b]
        if _is_open(reported, found, b, at):
            prior, seen = _prediction(found, start, end), seen_of(reported, at, at + 1)
            posed = pose(prior, seen, new_pose_space(given.counts[b], given.means.shape[1], seen))
            posterior, loss = _followed(posed, tables, found, b)
            method, most_lost = QUADRATURE, asked.below
            if not loss < most_lost:
                posterior, loss = _surrounded(posed, asked, work, answers, found.numbers[b])
                method, most_lost = REFINED if answers.is_fitted[0] else QUADRATURE, math.inf
            if loss < most_lost:
                move_back(posterior, posed.frame)
                if keep(prior, posterior, loss, b, found):
                    found.method[b] = method
        start = end
        at += reported.counts[b]


@inlined
def _prediction(found: Found, start: int, end: int) -> Components:
    count, size = end - start, found.means.shape[1]
    return (
        found.log_weights[start:end].reshape((1, count)),
        found.means[start:end].reshape((1, count, size)),
        found.covariances[start:end].reshape((1, count, size, size)),
    )


@borrowing
def _is_too_bent(log_weights: Array, linear: Shapes) -> bool:
    """Whether `solve_one` will leave a problem, known from the bend of all components before it solves any of them."""
    for k in range(len(log_weights)):
        squared, curvature = 0.0, linear.curvature[0, k, 0]
        for i in range(len(curvature)):
            for j in range(len(curvature)):
                squared += curvature[i, j] * curvature[i, j]
        if log_weights[k] > LIGHTEST and squared > MOST_BENT:
            return True
    return False


@borrowing
def _leaves_a_ring(log_weights: Array, linear: Shapes) -> bool:
    """As `polar_quadrature.leaves_a_ring`, for the first observation of one entity."""
    largest = 0.0
    for k in range(len(log_weights)):
        if log_weights[k] > LOG_LEAST_WEIGHT:
            information, curvature, spread = linear.information[0, k, 0], linear.curvature[0, k, 0], 0.0
            for i in range(len(information)):
                spread += information[i, i]
                for j in range(len(information)):
                    spread += 0.5 * curvature[i, j] * curvature[i, j]
            largest = max(largest, spread)
    return largest >= MOST_SPREAD * MOST_SPREAD


@inlined
def _followed(posed: Posed, tables: tuple[Tables, ...], found: Found, b: int) -> tuple[Components, float]:
    """The posterior along the ring or the ray and its divergence, infinite where it must not be used."""
    prior, seen, most = posed.prior, posed.seen, found.posterior[0].shape[1]
    (count, size), loss, left, numbers = prior[1].shape[1:], math.inf, 0, found.numbers[b]
    axes = np.nonzero(posed.frame.touched[0])[0]
    posterior = (np.empty((1, most)), np.empty((1, most, size)), np.empty((1, most, size, size)))
    if 0 < len(axes) <= len(tables) and not _is_too_bent(prior[0][0], posed.linear):
        table = tables[len(axes) - 1]
        room = new_room(count, size, len(axes), seen.matrix.shape[2], most, table)
        into = (posterior[0][0], posterior[1][0], posterior[2][0])
        left, numbers[EVIDENCE], loss = solve_one(
            Numbers(prior[0], prior[1], prior[2]), seen, 0, axes, table, room, into
        )
    numbers[SURPRISE] = probability(prior[0][0], posed.predicted.distance[0], posed.predicted.rows[0])
    numbers[SIZE] = math.exp(-2 * loss)
    return (posterior[0][:, :left], posterior[1][:, :left], posterior[2][:, :left]), loss


@inlined
def _surrounded(
    posed: Posed, asked: Asked, work: Work, answers: Answers, numbers: Array
) -> tuple[Components, float]:
    """The posterior around the sensor and its divergence, infinite where it must not be used."""
    prior, left, loss = posed.prior, 0, math.inf
    axes = np.nonzero(posed.frame.touched[0])[0]
    answers.is_fitted[0] = False
    asked.near[0] = numbers[SURPRISE] > LEAST_OF_LINES
    asked.fits[0] = _leaves_a_ring(prior[0][0], posed.linear)
    if len(axes) == 2:
        left = solve_around(
            Numbers(prior[0], prior[1], prior[2]), posed.seen, 0, axes, asked, work, answers, 0
        )
        loss = answers.divergence[0]
        numbers[EVIDENCE], numbers[SIZE] = answers.evidence[0], answers.size[0]
    posterior = answers.posterior
    return (
        posterior.log_weights[:, :left],
        posterior.means[:, :left],
        posterior.covariances[:, :left],
    ), loss
