"""Updates in closed form: exact for linear sensors, and linearised for nearly linear ones.

`kalman` and `linearised` update a batch. `update` does all of it for one entity in compiled code, from prior and
observations to the reduced posterior, for a compiled step (`inference.tracking`).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import FUNCTION
from beliefstream.inference.likelihood.predicted_observations import Predicted, probability
from beliefstream.inference.mixtures.native import borrowing, inlined, inner
from beliefstream.inference.mixtures.reduction import Room, new_room, reduce_one
from beliefstream.inference.update.closed import nearly_linear
from beliefstream.inference.update.closed.kalman import Components, Predictions, exact_all, log_sum
from beliefstream.inference.update.closed.nearly_linear import (
    Bends,
    divergence_all,
    hypotheses_of,
    is_plain,
    order_all,
)
from beliefstream.inference.update.closed.reduction_cost import CHEAP, bound_all, condense, measured_cost
from beliefstream.inference.update.closed.scaled_problem import (
    Frame,
    Posed as PosedBatch,
    Scaled,
    Shapes,
    linearise_all,
    move_all,
)
from beliefstream.inference.update.result import Method, Update, size_at
from beliefstream.inference.update.settings import UpdateSettings

Array = NDArray[np.float64]

OPEN, BENT = -1, -2  # in place of a `Method`: no closed form; none, because an observation bends too much
KALMAN, LINEARISED = int(Method.KALMAN), int(Method.LINEARISED)
SIZE, EVIDENCE, SURPRISE = range(3)  # places of an answer's numbers


def kalman(posed: PosedBatch, index: Tensor, settings: UpdateSettings) -> Update:
    """Exact update of the entities at `index`, all of them closed; the loss by reduction is measured."""
    exact, evidence, surprise = posed.exact(index)
    posterior, loss = condense(exact, settings.most_components, settings.merge_below)
    method = torch.full((len(index),), Method.KALMAN, dtype=torch.int64)
    return Update(posterior, size_at(loss), evidence, surprise, method, loss)


def linearised(problem: Scaled, index: Tensor, divergence: Tensor, settings: UpdateSettings) -> Update:
    """Update the entities at `index`, one linearised update per component and outlier hypothesis.

    It is exact if all sensors are linear. `divergence` ``(B,)`` is that of the linearisation.
    """
    problem = problem.rows(index)
    prior, most = problem.prior, settings.most_components
    posterior, evidence, loss = nearly_linear.update(
        prior, problem.observations, most, settings.merge_below, problem.linear
    )
    method = torch.where(divergence > 0, int(Method.LINEARISED), int(Method.KALMAN))
    surprise, total = problem.prediction.surprise(prior), divergence + loss
    return Update(problem.back(posterior), size_at(total), evidence, surprise, method, total)


class Limits(NamedTuple):
    """Settings of the update."""

    components: int
    merge_below: float
    linear_below: float
    functions_below: float  # the same with a function, where quadrature can replace a linearised update
    most_touched: int  # coordinates that quadrature is for
    points: Array  # (P, D) of a standard normal, on which the cost of a reduction is measured


class PoseSpace(NamedTuple):
    """Space for a posed problem of one entity, with so many components and observations."""

    ordered: Components
    frame: Frame
    own: Components
    there: Seen
    linear: Shapes
    predicted: Predicted


class UpdateSpace(NamedTuple):
    """Space for the update of one entity; `room` is for as many components as one observation makes of its prior."""

    pose: PoseSpace
    room: Room
    places: NDArray[np.int64]  # (1, N)


class Posed(NamedTuple):
    """A problem in coordinates of about unit spread, as `scaled_problem.Scaled`, for one entity."""

    prior: Components
    seen: Seen
    frame: Frame
    linear: Shapes
    predicted: Predicted


@inlined
def update(
    prior: Components, seen: Seen, limits: Limits, numbers: Array, space: UpdateSpace
) -> tuple[int, Components, float]:
    """The method, the posterior and its divergence, nats; `OPEN` or `BENT` if there is no closed form.

    `prior` and `seen` are a batch of one. It fills `numbers`: effective sample size, log evidence and surprise.
    """
    posed, numbers[EVIDENCE] = pose(prior, seen, space.pose), 0.0
    belief, predicted, is_exact = posed.prior, posed.predicted, posed.frame.closed[0]
    loss = 0.0 if is_exact else _divergence(posed, limits)
    if not is_exact and not loss < _limit(posed, limits):
        numbers[SURPRISE] = probability(posed.prior[0][0], predicted.distance[0], predicted.rows[0])
        return BENT if _is_located(seen) else OPEN, belief, 0.0
    method = KALMAN if is_exact or loss == 0 else LINEARISED
    places, most = space.places, 1
    if len(places[0]) > 1:
        most = _order(posed, places)
    else:
        places[0, 0] = 0
    for at in range(1 if is_exact else most):
        # one call of each large function, as it is compiled into every one
        joint = (
            _exact(posed, numbers) if is_exact else _hypotheses(belief, posed.seen, places[:, at], numbers)
        )
        belief, more = _condense(joint, limits, space.room)
        loss += more
    if not is_exact:
        move_back(belief, posed.frame)
        numbers[SURPRISE] = probability(posed.prior[0][0], predicted.distance[0], predicted.rows[0])
    numbers[SIZE] = math.exp(-2 * loss)
    return method, belief, loss


@borrowing
def _limit(posed: Posed, limits: Limits) -> float:
    """The loss that a linearised update may have, as `quadrature.linear_share`."""
    touched, functions = 0, False
    for i in range(posed.frame.touched.shape[1]):
        touched += posed.frame.touched[0, i]
    for n in range(posed.seen.kind.shape[1]):
        functions |= posed.seen.mask[0, n] and posed.seen.kind[0, n] == FUNCTION
    return limits.functions_below if functions and touched <= limits.most_touched else limits.linear_below


@borrowing
def _is_located(seen: Seen) -> bool:
    """Whether all observations are linear, ranges or bearings, with plain noise."""
    located = is_plain(seen, 0)
    for n in range(seen.kind.shape[1]):
        located &= seen.kind[0, n] != FUNCTION
    return located


@inner
def new_pose_space(count: int, size: int, seen: Seen) -> PoseSpace:
    """Space for a prior of `count` components, and as many observations as `seen` has."""
    ordered, own = _new(count, size), _new(count, size)
    own = (ordered[0], own[1], own[2])
    frame = Frame(np.empty((1, size), np.bool_), np.empty(1, np.bool_), np.empty((1, size)), np.empty(1))
    linear, predicted = _space_to_predict(own, seen.kind.shape[1])
    return PoseSpace(ordered, frame, own, _space_there(seen), linear, predicted)


@inner
def new_update_space(count: int, size: int, seen: Seen) -> UpdateSpace:
    """Space for the update of priors of `count` components, as `new_pose_space`."""
    places = np.empty(seen.kind.shape, np.int64)
    return UpdateSpace(new_pose_space(count, size, seen), new_room(2 * count, size), places)


@inlined
def pose(prior: Components, seen: Seen, space: PoseSpace) -> Posed:
    """As `scaled_problem.pose`."""
    own, linear, predicted = space.own, space.linear, space.predicted
    there = Seen(
        seen.kind,
        seen.mask,
        space.there.value,
        space.there.matrix,
        space.there.origin,
        space.there.heading,
        space.there.deviation,
        seen.rows,
        seen.constant,
        seen.log_inlier,
        seen.log_outlier,
        seen.outlier,
        seen.slope,
        space.there.noise,
        seen.wraps,
        seen.function,
        seen.parameters,
    )
    move_all(prior, seen, space.ordered, space.frame, own, there)
    predicted.rows[0] = 0.0
    linearise_all(own, there, linear, predicted)
    return Posed(own, there, space.frame, linear, predicted)


@inlined
def _divergence(posed: Posed, limits: Limits) -> float:
    """As `nearly_linear.divergence`."""
    linear, found = posed.linear, np.empty(1)
    bends = Bends(linear.information, linear.curvature, linear.slope, linear.signed, posed.predicted.factors)
    unknown = np.empty((0, 0, 0, 0))
    divergence_all(posed.prior[0], posed.prior[1], posed.seen, bends, limits.linear_below, unknown, found)
    diverged: float = found[0]
    return diverged


@inlined
def _order(posed: Posed, places: NDArray[np.int64]) -> int:
    """As `nearly_linear.order`; how many places count."""
    linear = posed.linear
    return order_all(posed.seen.mask, (posed.prior[0], linear.squared, linear.information), places)


@inlined
def _exact(posed: Posed, numbers: Array) -> Components:
    """As `exact`; fills evidence and surprise."""
    prior, predicted, frame = posed.prior, posed.predicted, posed.frame
    predictions = Predictions(
        prior[0],
        prior[1],
        predicted.factors,
        predicted.gradient,
        predicted.gain,
        predicted.distance,
        predicted.log_evidence,
        predicted.rows,
    )
    joint = _new(prior[1].shape[1], prior[1].shape[2])
    into = (numbers[EVIDENCE : EVIDENCE + 1], numbers[SURPRISE : SURPRISE + 1])
    exact_all(np.zeros(1, np.int64), predictions, (frame.shift, frame.scale), joint, into)
    return joint


@inlined
def _hypotheses(belief: Components, seen: Seen, place: NDArray[np.int64], numbers: Array) -> Components:
    """As `nearly_linear.hypotheses`; adds to the evidence."""
    count, outliers = belief[0].shape[1], False
    for n in range(seen.kind.shape[1]):
        outliers |= seen.log_outlier[0, n] > -math.inf
    joint = _new(2 * count if outliers else count, belief[1].shape[2])
    hypotheses_of(belief, seen, place.copy(), joint)
    numbers[EVIDENCE] += log_sum(joint[0][0])
    return joint


@inner
def _space_there(seen: Seen) -> Seen:
    """As `scaled_problem.space_there`."""
    return Seen(
        seen.kind,
        seen.mask,
        np.empty_like(seen.value),
        np.empty_like(seen.matrix),
        np.empty_like(seen.origin),
        np.empty_like(seen.heading),
        np.empty_like(seen.deviation),
        seen.rows,
        seen.constant,
        seen.log_inlier,
        seen.log_outlier,
        seen.outlier,
        seen.slope,
        np.empty_like(seen.noise),
        seen.wraps,
        seen.function,
        seen.parameters,
    )


@inner
def _space_to_predict(own: Components, number: int) -> tuple[Shapes, Predicted]:
    """Space for a linearisation and a prediction of `number` observations."""
    count, size = own[1].shape[1:]
    vectors, matrices = np.empty((2, 1, count, number, size)), np.empty((2, 1, count, number, size, size))
    each, narrow = np.empty((5, 1, count, number)), np.zeros((2, 1, count, size, size))
    linear = Shapes(
        vectors[0], matrices[0], matrices[1], vectors[1], each[0], each[1], each[2], each[3], each[4]
    )
    gradient, lengths = np.zeros((1, count, size)), np.zeros((2, 1, count))
    return linear, Predicted(narrow[0], gradient, narrow[1], lengths[0], lengths[1], np.zeros(1))


@inner
def _new(count: int, size: int) -> Components:
    return np.empty((1, count)), np.empty((1, count, size)), np.empty((1, count, size, size))


@inlined
def _condense(joint: Components, limits: Limits, room: Room) -> tuple[Components, float]:
    """As `reduction_cost.condense`."""
    count, size = joint[1].shape[1:]
    if count == 1:
        joint[0][0, 0] -= joint[0][0, 0]  # what is not a number stays so
        return joint, 0.0
    found, enough = _new(count, size), room
    if count > len(room.weights):
        enough = new_room(count, size)
    one, into = (joint[0][0], joint[1][0], joint[2][0]), (found[0][0], found[1][0], found[2][0])
    left = reduce_one(one, limits.components, limits.merge_below, enough, into)
    if left == 0:  # weights sum to one, so these are no numbers
        return joint, math.nan
    few = (
        found[0][0][:left].reshape((1, left)),
        found[1][0][:left].reshape((1, left, size)),
        found[2][0][:left].reshape((1, left, size, size)),
    )
    counts, bound = np.empty(1, np.int64), np.empty(1)
    bound_all((joint[0], joint[2], few[0], few[2]), counts, bound)
    if counts[0] <= limits.components and bound[0] <= CHEAP:
        return few, bound[0]
    return few, measured_cost(one, (few[0][0], few[1][0], few[2][0]), limits.points)


@borrowing
def move_back(mixture: Components, frame: Frame) -> None:
    """As `Scaled.back`, in place."""
    _, means, covariances = mixture
    shift, scale = frame.shift[0], frame.scale[0]
    for k in range(means.shape[1]):
        for i in range(len(shift)):
            means[0, k, i] = means[0, k, i] * scale + shift[i]
            for j in range(len(shift)):
                covariances[0, k, i, j] *= scale * scale
