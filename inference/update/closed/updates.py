"""The updates in closed form of one entity in compiled code, for compiled steps (`inference.tracking`).

`update` does all of it, from prior and observations to the reduced posterior, as `kalman` and `linearised` do it for
the batches of a router.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import Seen
from beliefstream.inference.likelihood.observation_data import FUNCTION
from beliefstream.inference.likelihood.predicted_observations import Predicted, probability
from beliefstream.inference.mixtures.native import borrowing, inlined, inner, native
from beliefstream.inference.mixtures.reduction import Room, new_room, reduce_one
from beliefstream.inference.update.closed import nearly_linear, reduction_cost
from beliefstream.inference.update.closed.nearly_linear import (
    Components,
    divergence_all,
    hypotheses_of,
    is_plain,
    moved,
    order_all,
)
from beliefstream.inference.update.closed.reduction_cost import CHEAP, bound_all, measured_cost
from beliefstream.inference.update.closed.scaled_problem import (
    Frame,
    Pose,
    example,
    linearise_all,
    move_all,
    new_pose,
    pose,
)
from beliefstream.inference.update.result import Method
from beliefstream.inference.update.settings import UNLIKELY

Array = NDArray[np.float64]
Places = NDArray[np.int64]

SEVERAL = 3  # possible outliers, whose hypotheses do not all fit into an answer
OPEN, BENT = -1, -2  # in place of a `Method`: no closed form; none, because an observation bends too much
KALMAN, LINEARISED = int(Method.KALMAN), int(Method.LINEARISED)
EFFICIENCY, EVIDENCE, P_VALUE = range(3)  # places of an answer's numbers


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    (prior, observations), index = example(), torch.zeros(1, dtype=torch.int64)
    posed = pose(prior, observations, 1.0)
    own, predicted, frame = posed.pose.own, posed.pose.predicted, posed.pose.frame
    one = np.ones(1)
    exact_all(
        index.numpy(), own, predicted, frame, (one[None], one[None, None], one[None, None, None]), (one, one)
    )
    nearly_linear.order(prior, observations, posed.scaled.linear)
    nearly_linear.hypotheses(prior, observations, index)
    reduction_cost.counts_and_bounds(prior, prior)
    reduction_cost.divergence(prior, prior)


class Limits(NamedTuple):
    """Settings of the update."""

    components: int
    merge_below: float
    linear_below: float
    functions_below: float  # the same with a function, where quadrature can replace a linearised update
    most_touched: int  # coordinates that quadrature is for
    points: Array  # (P, D) of a standard normal, on which the cost of a reduction is measured


class UpdateSpace(NamedTuple):
    """Space for the update of one entity; `room` is for as many components as one observation makes of its prior."""

    pose: Pose
    room: Room
    places: Places  # (1, N)


@inlined
def update(
    prior: Components, seen: Seen, limits: Limits, numbers: Array, space: UpdateSpace
) -> tuple[int, Components, float]:
    """The method, the posterior and its divergence, nats; `OPEN` or `BENT` if there is no closed form.

    `prior` and `seen` are a batch of one. It fills `numbers`: sample efficiency, log evidence and p_value.
    """
    posed, numbers[EVIDENCE] = space.pose, 0.0
    move_all(prior, seen, posed)
    linearise_all(posed)
    belief, predicted, is_exact = posed.own, posed.predicted, posed.frame.closed[0]
    loss, most = 0.0, 1
    if not is_exact:
        numbers[P_VALUE] = probability(posed.own[0][0], predicted.distance[0], predicted.rows[0])
        loss, most = _divergence(posed, limits), _order(posed, space.places)
        if not loss < _limit(posed, limits):
            return BENT if _is_located(seen) else OPEN, belief, 0.0
        if numbers[P_VALUE] < UNLIKELY and _outliers(seen) >= SEVERAL:
            return OPEN, belief, 0.0
    method = KALMAN if is_exact or loss == 0 else LINEARISED
    for at in range(most):
        # one call of each large function, as it is compiled into every one
        joint = (
            _exact(posed, numbers)
            if is_exact
            else _hypotheses(belief, posed.there, space.places[:, at], numbers)
        )
        belief, more = _condense(joint, limits, space.room)
        loss += more
    if not is_exact:
        _move_back(belief, 0, posed.frame.shift[0], posed.frame.scale[0])
    numbers[EFFICIENCY] = math.exp(-2 * loss)
    return method, belief, loss


@borrowing
def _limit(posed: Pose, limits: Limits) -> float:
    """The loss that a linearised update may have, as `quadrature.linear_share`."""
    touched, functions, hidden = 0, False, 0
    for n in range(posed.there.kind.shape[1]):
        hidden = max(hidden, posed.there.hidden[0, n])
    for i in range(posed.frame.touched.shape[1] - hidden):
        touched += posed.frame.touched[0, i]
    for n in range(posed.there.kind.shape[1]):
        functions |= posed.there.mask[0, n] and posed.there.kind[0, n] == FUNCTION
    return limits.functions_below if functions and touched <= limits.most_touched else limits.linear_below


@borrowing
def _outliers(seen: Seen) -> int:
    """How many observations of one entity may be outliers."""
    count = 0
    for n in range(seen.kind.shape[1]):
        count += seen.mask[0, n] and seen.log_outlier[0, n] > -math.inf
    return count


@borrowing
def _is_located(seen: Seen) -> bool:
    """Whether all observations are linear, ranges or bearings, with plain noise."""
    located = is_plain(seen, 0)
    for n in range(seen.kind.shape[1]):
        located &= seen.kind[0, n] != FUNCTION
    return located


@inner
def new_update_space(count: int, size: int, seen: Seen) -> UpdateSpace:
    """Space for the update of priors of `count` components with the numbers that `seen` will have."""
    places = np.empty(seen.kind.shape, np.int64)
    return UpdateSpace(new_pose((1, count, size), seen), new_room(2 * count, size), places)


@inlined
def _divergence(posed: Pose, limits: Limits) -> float:
    """As `nearly_linear.divergence`."""
    found, unknown = np.empty(1), np.empty((0, 0, 0))
    below = limits.linear_below
    divergence_all(posed.own, posed.predicted, posed.there, posed.linear, below, unknown, found)
    diverged: float = found[0]
    return diverged


@inlined
def _order(posed: Pose, places: Places) -> int:
    """As `nearly_linear.order`; how many places count."""
    linear = posed.linear
    return order_all(posed.there.mask, (posed.own[0], linear.squared, linear.information), places)


@inlined
def _exact(posed: Pose, numbers: Array) -> Components:
    """As `exact`; fills evidence and p_value."""
    joint = _new(posed.own[1].shape[1], posed.own[1].shape[2])
    into = (numbers[EVIDENCE : EVIDENCE + 1], numbers[P_VALUE : P_VALUE + 1])
    exact_all(np.zeros(1, np.int64), posed.own, posed.predicted, posed.frame, joint, into)
    return joint


@native
def exact_all(
    index: Places,
    prior: Components,
    predicted: Predicted,
    frame: Frame,
    found: Components,
    numbers: tuple[Array, Array],
) -> None:
    """Fill the posteriors, the evidence and the p-value of the entities at `index`."""
    log_weights, means, _ = prior
    evidence, p_value = numbers
    pull, product = np.empty(means.shape[2]), np.empty(means.shape[2:] + means.shape[2:])
    for row in range(len(index)):
        b = index[row]
        for k in range(means.shape[1]):
            found[0][row, k] = log_weights[b, k] + predicted.log_evidence[b, k]
            into, factor = (found[1][row, k], found[2][row, k]), predicted.factors[b, k]
            moved(means[b, k], factor, predicted.gain[b, k], predicted.gradient[b, k], pull, product, into)
        _move_back(found, row, frame.shift[b], frame.scale[b])
        evidence[row] = log_sum(found[0][row])
        for k in range(means.shape[1]):
            found[0][row, k] -= evidence[row]
        p_value[row] = probability(log_weights[b], predicted.distance[b], predicted.rows[b])


@inlined
def _hypotheses(belief: Components, seen: Seen, place: Places, numbers: Array) -> Components:
    """As `nearly_linear.hypotheses`; adds to the evidence."""
    count, outliers = belief[0].shape[1], False
    for n in range(seen.kind.shape[1]):
        outliers |= seen.log_outlier[0, n] > -math.inf
    joint = _new(count * (max(seen.noise.shape[2], 1) + outliers), belief[1].shape[2])
    hypotheses_of(belief, seen, place.copy(), joint)
    numbers[EVIDENCE] += log_sum(joint[0][0])
    return joint


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
def _move_back(mixture: Components, row: int, shift: Array, scale: float) -> None:
    """As `Scaled.back`, of one mixture in place."""
    _, means, covariances = mixture
    for k in range(means.shape[1]):
        for i in range(len(shift)):
            means[row, k, i] = means[row, k, i] * scale + shift[i]
            for j in range(len(shift)):
                covariances[row, k, i, j] *= scale * scale


@borrowing
def log_sum(values: Array) -> float:
    """Log of the sum of exponentials."""
    highest, total = values[0], 0.0
    for value in values:
        highest = max(highest, value)
    for value in values:
        total += math.exp(value - highest)
    found: float = highest + math.log(total)
    return found
