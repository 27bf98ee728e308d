"""Problems in coordinates of about unit spread, with their observations linearised once for all methods.

In coordinates ``y = (x − m) / s`` the prior has zero mean, and the coordinates that sensors touch have a mean variance
of one. The observations are linearised at the components' means (`native_terms`), and predicted
(`predicted_observations`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import (
    Seen,
    linearise_at,
    log_sum,
    new_space,
    wrapped,
)
from beliefstream.inference.likelihood.observation_data import FUNCTION, LIKELIHOOD, LINEAR, RANGE
from beliefstream.inference.likelihood.observations import Linearisation, Observations, Residuals
from beliefstream.inference.likelihood.predicted_observations import Predicted, Prediction, predict
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    ROUNDING,
    TINY,
    factorise,
    put_matrix,
    put_vector,
)
from beliefstream.inference.update.closed.nearly_linear import Components, Shapes, divergence, is_closed

Array = NDArray[np.float64]
Bits = NDArray[np.bool_]


class Frame(NamedTuple):
    """Coordinates ``y = (x − shift) / scale`` of each entity."""

    touched: Bits  # (B, D)
    closed: Bits  # (B,)
    shift: Array  # (B, D)
    scale: Array  # (B,)


class Pose(NamedTuple):
    """Problems in coordinates of about unit spread, in native code."""

    ordered: Components  # over all coordinates, in the state's own ones
    frame: Frame
    own: Components  # the same in the frame, as all below
    there: Seen
    linear: Shapes
    predicted: Predicted


class Scaled(NamedTuple):
    """Problems in coordinates ``y = (x − shift) / scale`` where the touched coordinates have about unit spread."""

    prior: GaussianMixture
    observations: Observations
    shift: Tensor  # (B, D)
    scale: Tensor  # (B,)
    linear: Linearisation  # at the means of the prior, in the frames of its factors
    prediction: Prediction

    def rows(self, index: Tensor) -> Scaled:
        """The problems of the entities at `index`, in rising order."""
        if len(index) == len(self.scale):
            return self
        return Scaled(
            self.prior.rows(index),
            self.observations.rows_of(index),
            self.shift[index],
            self.scale[index],
            self.linear.rows(index),
            self.prediction.rows_of(index),
        )

    @property
    def gained(self) -> Tensor:
        """Nats that the linearised observations tell of the component that they tell most of, ``(B,)``."""
        each = -la.log_diagonal(la.cholesky(self.prediction.gain))
        return torch.where(self.prior.present, each, 0.0).amax(1)

    def back(self, mixture: GaussianMixture) -> GaussianMixture:
        """Transform `mixture` back to the state's own coordinates."""
        means = mixture.means * self.scale[:, None, None] + self.shift[:, None]
        return GaussianMixture(
            mixture.log_weights, means, mixture.covariances * self.scale[:, None, None, None].square()
        )


@dataclass(frozen=True)
class Posed:
    """A batch of problems, with the quantities that all methods share.

    Attributes:
        pose: their numbers.
        divergence: `nearly_linear.divergence`, ``(B,)``.
        observations: gives the observations in coordinates of about unit spread, which closed forms do not need.
    """

    pose: Pose
    divergence: Tensor
    observations: Callable[[], Observations]

    @property
    def closed(self) -> Tensor:
        """Whether all of an entity's sensors are linear without outliers, ``(B,)`` bool."""
        return torch.from_numpy(self.pose.frame.closed)

    @property
    def touched(self) -> Tensor:
        """Coordinates that each entity's sensors touch, ``(B, D)`` bool."""
        return torch.from_numpy(self.pose.frame.touched)

    @cached_property
    def prior(self) -> GaussianMixture:
        """The priors over all coordinates, their components in order."""
        return GaussianMixture(*map(torch.from_numpy, self.pose.ordered))

    @cached_property
    def scaled(self) -> Scaled:
        """The problems in coordinates of about unit spread."""
        tensor, frame = torch.from_numpy, self.pose.frame
        gradient, information, curvature, slope, *each = map(tensor, self.pose.linear)
        linear = Linearisation(gradient, information, curvature, slope, Residuals(*each))
        own, prediction = GaussianMixture(*map(tensor, self.pose.own)), map(tensor, self.pose.predicted)
        where = tensor(frame.shift), tensor(frame.scale)
        return Scaled(own, self.observations(), *where, linear, Prediction(*prediction))


def example() -> tuple[GaussianMixture, Observations]:
    """The smallest problem, for which native forms are compiled."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    kind, ones = torch.zeros(1, 1, dtype=torch.int64), one[0]
    numbers = ones, ones, ones, ones, ones
    observations = Observations(kind, kind == 0, one, one[..., None], one, one, *numbers)
    return GaussianMixture(ones.log(), one, one[..., None]), observations


def pose(prior: GaussianMixture, observations: Observations, below: float = math.inf) -> Posed:
    """Order and scale a batch of problems; `below` as in `nearly_linear.divergence`.

    Components are ordered, so that the answer does not depend on the given order.
    """
    given = (array(prior.log_weights), array(prior.means), array(prior.covariances))
    posed = _pose(given, observations.numbers, observations.native is not None)
    moved = partial(_moved, observations, posed.there)
    if observations.native is None:
        linear, predicted = _with_functions(moved(), posed.own)
        posed = posed._replace(linear=linear, predicted=predicted)
    later = moved if observations.has_own_functions else None
    known = posed.own, posed.there, posed.linear, posed.predicted
    return Posed(posed, torch.from_numpy(divergence(*known, below, later)), moved)


def _with_functions(observations: Observations, own: Components) -> tuple[Shapes, Predicted]:
    """Linearisation and prediction of observations with functions or problems of the user."""
    prior = GaussianMixture(*map(torch.from_numpy, own))
    factors = prior.factors()
    linear = observations.linearise(prior.means, factors)
    predicted = Prediction.of_linearised(factors, observations, linear)
    deviation = linear.residuals.deviation.expand_as(linear.residuals.signed)
    shapes = Shapes(*map(array, (*linear[:4], *linear.residuals[:4], deviation)))
    return shapes, Predicted(*map(array, predicted))


def _moved(observations: Observations, there: Seen) -> Observations:
    """The observations in the new coordinates; they share the memory of `there`."""
    tensor, mixture = torch.from_numpy, observations.mixture
    if mixture is not None:
        mixture = mixture._replace(bias=tensor(there.noise)[..., 1])
    moved = replace(
        observations,
        value=tensor(there.value),
        matrix=tensor(there.matrix),
        origin=tensor(there.origin),
        heading=tensor(there.heading),
        standard_deviation=tensor(there.deviation),
        mixture=mixture,
    )
    moved.keep_native(there)
    return moved


@native
def _pose(given: Components, seen: Seen, is_native: bool) -> Pose:
    """Pose a batch; without a linearisation where functions are not native."""
    posed = new_pose(given[1].shape, seen)
    move_all(given, seen, posed)
    if is_native:
        linearise_all(posed)
    return posed


@inner
def new_pose(shape: tuple[int, int, int], seen: Seen) -> Pose:
    """Space for priors ``(B, K, D)`` of a shape; what does not change with the coordinates is shared with `seen`."""
    batch, count, size = shape
    number, log_weights = seen.kind.shape[1], np.empty((batch, count))
    means, covariances = np.empty((3, batch, count, size)), np.empty((4, batch, count, size, size))
    slopes, squares = (
        np.empty((2, batch, count, number, size)),
        np.empty((2, batch, count, number, size, size)),
    )
    each, lengths = np.empty((5, batch, count, number)), np.empty((2, batch, count))
    there = Seen(
        seen.kind, seen.mask,
        np.empty_like(seen.value), np.empty_like(seen.matrix), np.empty_like(seen.origin),
        np.empty_like(seen.heading), np.empty_like(seen.deviation),
        seen.rows, seen.constant, seen.log_inlier, seen.log_outlier, seen.outlier, seen.slope,
        np.empty_like(seen.noise),
        seen.wraps, seen.function, seen.parameters, seen.hidden, seen.product,
    )  # fmt: skip
    return Pose(
        (log_weights, means[0], covariances[0]),
        Frame(
            np.empty((batch, size), np.bool_),
            np.empty(batch, np.bool_),
            np.empty((batch, size)),
            np.empty(batch),
        ),
        (log_weights, means[1], covariances[1]),
        there,
        Shapes(slopes[0], squares[0], squares[1], slopes[1], each[0], each[1], each[2], each[3], each[4]),
        Predicted(covariances[2], means[2], covariances[3], lengths[0], lengths[1], np.empty(batch)),
    )


@inner
def move_all(given: Components, seen: Seen, posed: Pose) -> None:
    """Order the components, and move priors and observations to coordinates of about unit spread."""
    order, ordered, own, frame = np.empty(given[0].shape[1], np.int64), posed.ordered, posed.own, posed.frame
    for b in range(len(given[0])):
        _sort(given[0][b], given[1][b], order)
        for k in range(len(order)):
            ordered[0][b, k] = given[0][b, order[k]]
            put_vector(ordered[1][b, k], given[1][b, order[k]])
            put_matrix(ordered[2][b, k], given[2][b, order[k]])
        _find_frame(ordered, seen, b, frame)
        frame.closed[b] = is_closed(seen, b)
        shift, scale = frame.shift[b], frame.scale[b]
        for k in range(len(order)):
            for i in range(len(shift)):
                own[1][b, k, i] = (ordered[1][b, k, i] - shift[i]) / scale
                for j in range(len(shift)):
                    own[2][b, k, i, j] = ordered[2][b, k, i, j] / (scale * scale)
        for n in range(seen.kind.shape[1]):
            _move_observation(seen, b, n, shift, scale, posed.there)


@borrowing
def _sort(log_weights: Array, means: Array, order: NDArray[np.int64]) -> None:
    """Places in falling order of weight, equal ones in rising order of the first coordinate, as `ordered`."""
    for place in range(len(order)):
        at = place
        while at > 0:
            before = order[at - 1]
            heavier = log_weights[place] > log_weights[before]
            alike = log_weights[place] == log_weights[before]
            if not (heavier or (alike and means[place, 0] < means[before, 0])):
                break
            order[at] = before
            at -= 1
        order[at] = place


@borrowing
def _find_frame(prior: Components, seen: Seen, b: int, frame: Frame) -> None:
    """Mark the touched coordinates, and find the shift and the scale."""
    log_weights, means, covariances = prior[0][b], prior[1][b], prior[2][b]
    shift, total, count = frame.shift[b], 0.0, 0
    for i in range(len(shift)):
        shift[i] = 0.0
        for k in range(len(log_weights)):
            shift[i] += math.exp(log_weights[k]) * means[k, i]
    for i in range(len(shift)):
        touched = False
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n]:
                touched |= seen.heading[b, n, i] != 0
                for r in range(seen.matrix.shape[2]):
                    touched |= seen.matrix[b, n, r, i] != 0
        frame.touched[b, i] = touched
        if touched:
            count += 1
            for k in range(len(log_weights)):
                offset = means[k, i] - shift[i]
                total += math.exp(log_weights[k]) * (covariances[k, i, i] + offset * offset)
    frame.scale[b] = math.sqrt(total / max(count, 1))


@borrowing
def _move_observation(seen: Seen, b: int, n: int, shift: Array, scale: float, there: Seen) -> None:
    """As `ObservationData.in_coordinates`, of one observation."""
    kind, is_linear, turn = seen.kind[b, n], seen.kind[b, n] == LINEAR, 0.0
    # a function or a problem takes u = A x − a, which must not change
    takes_place = kind in (FUNCTION, LIKELIHOOD)
    for i in range(len(shift)):
        turn += seen.heading[b, n, i] * shift[i]
        there.heading[b, n, i] = seen.heading[b, n, i] * scale
    for r in range(seen.matrix.shape[2]):
        image, value, origin = 0.0, seen.value[b, n, r], seen.origin[b, n, r]
        for i in range(len(shift)):
            entry = seen.matrix[b, n, r, i]
            image += entry * shift[i]
            there.matrix[b, n, r, i] = entry * scale if is_linear or takes_place else entry
        there.value[b, n, r] = value - image if is_linear else value
        moved = origin - image if takes_place else (origin - image) / scale
        there.origin[b, n, r] = origin if is_linear else moved
    there.deviation[b, n] = seen.deviation[b, n]
    for c in range(seen.noise.shape[2]):
        there.noise[b, n, c, 0], there.noise[b, n, c, 2] = seen.noise[b, n, c, 0], seen.noise[b, n, c, 2]
        there.noise[b, n, c, 1] = seen.noise[b, n, c, 1] / scale if kind == RANGE else seen.noise[b, n, c, 1]
    if kind == RANGE:
        there.value[b, n, 0] = (seen.value[b, n, 0] + turn) / scale
        there.deviation[b, n] /= scale
        for i in range(len(shift)):
            there.heading[b, n, i] = seen.heading[b, n, i]
    elif not is_linear:
        value = seen.value[b, n, 0] + turn
        there.value[b, n, 0] = wrapped(value) if seen.wraps[b, n] else value


@inner
def linearise_all(posed: Pose) -> None:
    """Linearise at the means, in the frames of the factors, and predict the observations."""
    (_, means, covariances), seen, linear, predicted = posed.own, posed.there, posed.linear, posed.predicted
    space, squares = new_space(seen), np.empty((3, means.shape[2], means.shape[2]))
    for b in range(len(means)):
        predicted.rows[b] = 0.0
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n]:
                predicted.rows[b] += seen.rows[b, n]
        for k in range(means.shape[1]):
            factor, peak = predicted.factors[b, k], 0.0
            factorise(covariances[b, k], TINY, ROUNDING, factor)
            for n in range(seen.kind.shape[1]):
                into = (
                    linear.gradient[b, k, n],
                    linear.information[b, k, n],
                    linear.curvature[b, k, n],
                    linear.slope[b, k, n],
                )
                terms, deviation = linearise_at(seen, b, n, means[b, k], factor, space, into)
                signed, squared, inlier, outlier = terms
                linear.signed[b, k, n], linear.squared[b, k, n] = signed, squared
                linear.log_odds[b, k, n] = inlier - outlier
                linear.log_likelihood[b, k, n] = log_sum(inlier, outlier)
                linear.deviation[b, k, n] = deviation
                peak -= seen.constant[b, n] if seen.mask[b, n] else 0.0
            part = (linear.gradient[b, k], linear.information[b, k], linear.squared[b, k])
            predict(seen.mask[b], part, peak, squares, predicted, b, k)
