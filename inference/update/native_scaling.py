"""`inference.update.scaled_problem` for the processor: one entity after another, without a tensor operator.

It takes priors in double precision, and observations with plain noise and without functions.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from beliefstream.inference.likelihood.native_terms import (
    Seen,
    linearise_at,
    new_space,
    wrapped,
)
from beliefstream.inference.likelihood.observation_data import LINEAR, RANGE
from beliefstream.inference.likelihood.observations import Linearisation, Observations, Residuals
from beliefstream.inference.likelihood.predicted_observations import Prediction
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.update.native_closed_forms import Components, Predictions, exact
from beliefstream.inference.update.native_divergence import Bends, divergence, is_closed
from beliefstream.inference.update.scaled_problem import Parts, Posed, Scaled

Array = NDArray[np.float64]
Bits = NDArray[np.bool_]


class Frame(NamedTuple):
    """Coordinates ``y = (x − shift) / scale`` of each entity."""

    touched: Bits  # (B, D)
    closed: Bits  # (B,)
    shift: Array  # (B, D)
    scale: Array  # (B,)


class Shapes(NamedTuple):
    """Fields of a `Linearisation`, and of the residuals in it."""

    gradient: Array
    information: Array
    curvature: Array
    slope: Array
    signed: Array
    squared: Array
    log_odds: Array
    log_likelihood: Array


class Predicted(NamedTuple):
    """Fields of a `Prediction`."""

    factors: Array
    gradient: Array
    gain: Array
    distance: Array
    log_evidence: Array
    rows: Array


def prepare() -> None:
    """Compile the scaling, or load it from Numba's cache."""
    prior, observations = example()
    pose(prior, observations, observations.native, 1.0).exact(torch.zeros(1, dtype=torch.int64))


def example() -> tuple[GaussianMixture, Observations]:
    """The smallest problem, for which native forms are compiled."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    kind, ones = torch.zeros(1, 1, dtype=torch.int64), one[0]
    numbers = ones, ones, ones, ones, ones
    observations = Observations(kind, kind == 0, one, one[..., None], one, one, *numbers)
    return GaussianMixture(ones.log(), one, one[..., None]), observations


def pose(prior: GaussianMixture, observations: Observations, seen: Seen, below: float) -> Posed:
    """As `scaled_problem.pose_by_operators`; `seen` are the numbers of the observations."""
    batch, count, size = prior.means.shape
    number = seen.kind.shape[1]
    given = (array(prior.log_weights), array(prior.means), array(prior.covariances))
    ordered: Components = (np.empty((batch, count)), np.empty(given[1].shape), np.empty(given[2].shape))
    touched, closed = np.empty((batch, size), np.bool_), np.empty(batch, np.bool_)
    frame = Frame(touched, closed, np.empty((batch, size)), np.empty(batch))
    there = _seen_there(seen)
    own: Components = (ordered[0], np.empty(given[1].shape), np.empty(given[2].shape))
    each, matrix = (batch, count, number), (batch, count, size, size)
    wide = (*each, size), (*each, size, size), (*each, size, size), (*each, size)
    linear = Shapes(*(np.empty(shape) for shape in (*wide, each, each, each, each)))
    narrow = (matrix, (batch, count, size), matrix, (batch, count), (batch, count), (batch,))
    predicted = Predicted(*(np.zeros(shape) for shape in narrow))
    diverged = np.empty(batch)
    move_all(given, seen, ordered, frame, own, there)
    linearise_all(own, there, linear, predicted)
    bends = Bends(linear.information, linear.curvature, linear.slope, linear.signed, predicted.factors)
    divergence(own[0], own[1], there, bends, below, diverged)
    predictions = Predictions(own[0], own[1], *predicted)
    return Posed(
        torch.from_numpy(closed),
        torch.from_numpy(diverged),
        partial(exact, predictions, (frame.shift, frame.scale)),
        partial(_parts, observations, (ordered, own), frame, there, (linear, predicted)),
    )


def _seen_there(seen: Seen) -> Seen:
    """The same observations, with space for what changes with the coordinates."""
    return seen._replace(
        value=np.empty_like(seen.value),
        matrix=np.empty_like(seen.matrix),
        origin=np.empty_like(seen.origin),
        heading=np.empty_like(seen.heading),
        deviation=np.empty_like(seen.deviation),
    )


def _parts(
    observations: Observations,
    priors: tuple[Components, Components],
    frame: Frame,
    there: Seen,
    found: tuple[Shapes, Predicted],
) -> Parts:
    """The results as tensors, which share the arrays' memory."""
    tensor = torch.from_numpy
    seen = replace(
        observations,
        value=tensor(there.value),
        matrix=tensor(there.matrix),
        origin=tensor(there.origin),
        heading=tensor(there.heading),
        standard_deviation=tensor(there.deviation),
    )
    seen.keep_native(there)
    ordered, own = (GaussianMixture(*(tensor(part) for part in prior)) for prior in priors)
    gradient, information, curvature, slope, signed, squared, odds, likelihood = map(tensor, found[0])
    residuals = Residuals(signed, squared, odds, likelihood, seen.standard_deviation[:, None])
    linear = Linearisation(gradient, information, curvature, slope, residuals)
    prediction = Prediction(*(tensor(part) for part in found[1]))
    scaled = Scaled(own, seen, tensor(frame.shift), tensor(frame.scale), linear, prediction)
    return ordered, tensor(frame.touched), scaled


@native
def move_all(
    given: Components, seen: Seen, ordered: Components, frame: Frame, own: Components, there: Seen
) -> None:
    """Order the components, and move priors and observations to coordinates of about unit spread."""
    order = np.empty(given[0].shape[1], np.int64)
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
            _move_observation(seen, b, n, shift, scale, there)


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
    for i in range(len(shift)):
        turn += seen.heading[b, n, i] * shift[i]
        there.heading[b, n, i] = seen.heading[b, n, i] * scale
    for r in range(seen.matrix.shape[2]):
        image, value, origin = 0.0, seen.value[b, n, r], seen.origin[b, n, r]
        for i in range(len(shift)):
            entry = seen.matrix[b, n, r, i]
            image += entry * shift[i]
            there.matrix[b, n, r, i] = entry * scale if is_linear else entry
        there.value[b, n, r] = value - image if is_linear else value
        there.origin[b, n, r] = origin if is_linear else (origin - image) / scale
    deviation = seen.deviation[b, n]
    if kind == RANGE:
        there.value[b, n, 0] = seen.value[b, n, 0] / scale
        deviation /= scale
    elif not is_linear:
        there.value[b, n, 0] = wrapped(seen.value[b, n, 0] + turn)
    there.deviation[b, n] = deviation


@native
def linearise_all(prior: Components, seen: Seen, linear: Shapes, predicted: Predicted) -> None:
    """Linearise at the means, in the frames of the factors, and predict the observations."""
    _, means, covariances = prior
    space, squares = new_space(seen), np.empty((3, means.shape[2], means.shape[2]))
    for b in range(len(means)):
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n]:
                predicted.rows[b] += seen.rows[b, n]
        for k in range(means.shape[1]):
            factor = predicted.factors[b, k]
            factorise(covariances[b, k], TINY, ROUNDING, factor)
            for n in range(seen.kind.shape[1]):
                into = (
                    linear.gradient[b, k, n],
                    linear.information[b, k, n],
                    linear.curvature[b, k, n],
                    linear.slope[b, k, n],
                )
                found = linearise_at(seen, b, n, means[b, k], factor, space, into)
                linear.signed[b, k, n], linear.squared[b, k, n] = found[0], found[1]
                linear.log_odds[b, k, n], linear.log_likelihood[b, k, n] = found[2], found[3]
            _predict(seen, linear, b, k, squares, predicted)


@borrowing
def _predict(seen: Seen, linear: Shapes, b: int, k: int, squares: Array, predicted: Predicted) -> None:
    """As `Prediction.of_linearised`, of one component; `squares` are space."""
    gradient, size = predicted.gradient[b, k], predicted.gradient.shape[2]
    total, grown, lower, gain = squares[0], squares[1], squares[2], predicted.gain[b, k]
    squared, peak = 0.0, 0.0
    for i in range(size):
        gradient[i] = 0.0
        for j in range(size):
            total[i, j] = 1.0 if i == j else 0.0
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            squared += linear.squared[b, k, n]
            peak -= seen.constant[b, n]
            for i in range(size):
                gradient[i] += linear.gradient[b, k, n, i]
                for j in range(size):
                    total[i, j] += linear.information[b, k, n, i, j]
    factorise(total, LEAST_PIVOT, ROUNDING, grown)
    invert_product(grown, lower, gain)
    for i in range(size):
        peak -= math.log(grown[i, i])
        for j in range(size):
            squared -= gradient[i] * gain[i, j] * gradient[j]
    distance = 0.0 if squared < 0 else squared
    predicted.distance[b, k] = distance
    predicted.log_evidence[b, k] = peak - 0.5 * distance
