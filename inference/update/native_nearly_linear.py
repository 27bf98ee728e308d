"""`inference.update.nearly_linear` for the processor, without a tensor operator."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.native_terms import (
    LOG_WIDE,
    WIDE_OUTLIER,
    Seen,
    Space,
    linearise_at,
    new_space,
)
from beliefstream.inference.likelihood.observation_data import LINEAR
from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, inner, native
from beliefstream.inference.mixtures.native_arrays import array, numbers_of
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    TINY,
    factorise,
    invert_product,
    put_matrix,
    put_vector,
)
from beliefstream.inference.update.native_closed_forms import Components, moved
from beliefstream.inference.update.native_scaling import example
from beliefstream.inference.update.scaled_problem import pose

Array = NDArray[np.float64]
Places = NDArray[np.int64]


class Work(NamedTuple):
    """Space for one update of one component."""

    space: Space
    gradient: Array  # (D,), as the next two
    slope: Array
    pull: Array
    information: Array  # (D, D), as all below
    curvature: Array
    factor: Array
    total: Array
    grown: Array
    gain: Array
    lower: Array


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    prior, observations = example()
    posed = pose(prior, observations)
    places = order(posed.prior, observations, posed.scaled.linear)
    hypotheses(posed.prior, observations, places[:, 0])


def order(prior: GaussianMixture, observations: Observations, linear: Linearisation) -> Tensor:
    """As `nearly_linear.order_by_operators`."""
    mask = observations.native.mask
    places = np.empty(mask.shape, np.int64)
    numbers = array(prior.log_weights), array(linear.residuals.squared), array(linear.information)
    most = order_all(mask, numbers, places)
    return torch.from_numpy(places[:, :most])


@native
def order_all(mask: NDArray[np.bool_], numbers: tuple[Array, Array, Array], places: Places) -> int:
    """Fill the places; the most observations that one entity has."""
    log_weights, squared, information = numbers
    said, most = np.empty(mask.shape[1]), 0
    for b in range(len(mask)):
        count = 0
        for n in range(len(said)):
            said[n] = -1.0
            if mask[b, n]:
                count += 1
                said[n] = _information(log_weights[b], squared[b], information[b], n)
            at = n
            while at > 0 and said[places[b, at - 1]] < said[n]:
                places[b, at] = places[b, at - 1]
                at -= 1
            places[b, at] = n
        most = max(most, count)
    return most


@borrowing
def _information(log_weights: Array, squared: Array, information: Array, n: int) -> float:
    """What an observation says: infinite if that is not a number, so that it is not left out."""
    said = 0.0
    for k in range(len(log_weights)):
        total = squared[k, n]
        for i in range(information.shape[2]):
            total += information[k, n, i, i]
        said += math.exp(log_weights[k]) * total
    return math.inf if math.isnan(said) else said


def hypotheses(prior: GaussianMixture, observations: Observations, places: Tensor) -> GaussianMixture:
    """As `nearly_linear.hypotheses_by_operators`."""
    seen, (batch, count, size) = observations.native, prior.means.shape
    both = 2 * count if (seen.log_outlier > -math.inf).any() else count
    found = np.empty((batch, both)), np.empty((batch, both, size)), np.empty((batch, both, size, size))
    log_weights, means, covariances = numbers_of(prior)
    hypotheses_of((log_weights, means, covariances), seen, places.contiguous().numpy(), found)
    return GaussianMixture(*(torch.from_numpy(part) for part in found))


@native
def hypotheses_of(prior: Components, seen: Seen, places: Places, found: Components) -> None:
    size, count = prior[1].shape[2], prior[0].shape[1]
    work = _new_work(seen, size)
    for b in range(len(places)):
        n = places[b]
        for k in range(count):
            mean, covariance = prior[1][b, k], prior[2][b, k]
            for start in range(0, found[0].shape[1], count):
                found[0][b, start + k] = -math.inf
                put_vector(found[1][b, start + k], mean)
                put_matrix(found[2][b, start + k], covariance)
            weight = prior[0][b, k]
            if not seen.mask[b, n]:
                found[0][b, k] = weight
            elif weight > -math.inf:
                into = (found[1][b, k], found[2][b, k])
                inlier = _inlier(seen, b, n, mean, covariance, work, into)
                found[0][b, k] = weight + inlier + seen.log_inlier[b, n]
                if seen.log_outlier[b, n] > -math.inf:
                    into = (found[1][b, count + k], found[2][b, count + k])
                    density = _outlier(seen, b, n, mean, work, into)
                    found[0][b, count + k] = weight + density + seen.log_outlier[b, n]


@inner
def _new_work(seen: Seen, size: int) -> Work:
    vectors, matrices = np.empty((3, size)), np.empty((7, size, size))
    gradient, slope, pull = vectors[0], vectors[1], vectors[2]
    information, curvature, factor = matrices[0], matrices[1], matrices[2]
    total, grown, gain, lower = matrices[3], matrices[4], matrices[5], matrices[6]
    work = new_space(seen), gradient, slope, pull, information, curvature, factor, total, grown, gain, lower
    return Work(*work)


@borrowing
def _inlier(
    seen: Seen, b: int, n: int, mean: Array, covariance: Array, work: Work, into: tuple[Array, Array]
) -> float:
    """Update a component with an inlier; the log evidence. It leaves the linearisation in `work`."""
    factorise(covariance, TINY, ROUNDING, work.factor)
    shapes = (work.gradient, work.information, work.curvature, work.slope)
    numbers = linearise_at(seen, b, n, mean, work.factor, work.space, shapes)
    if seen.kind[b, n] == LINEAR:
        return _kalman(mean, numbers[1], seen.constant[b, n], work, into)
    return _second_order(mean, covariance, numbers[0], seen.constant[b, n], work, into)


@borrowing
def _outlier(seen: Seen, b: int, n: int, mean: Array, work: Work, into: tuple[Array, Array]) -> float:
    """Update a component with an outlier, after `_inlier`; the log evidence."""
    if seen.kind[b, n] != LINEAR:
        density: float = seen.outlier[b, n]
        return density
    squared = 0.0
    for r in range(len(work.space.relative)):
        off = seen.value[b, n, r] - work.space.relative[r]
        squared += off * off
    for i in range(len(mean)):
        work.gradient[i] /= WIDE_OUTLIER**2
        for j in range(len(mean)):
            work.information[i, j] /= WIDE_OUTLIER**2
    constant = seen.constant[b, n] + seen.rows[b, n] * LOG_WIDE
    return _kalman(mean, squared / WIDE_OUTLIER**2, constant, work, into)


@borrowing
def _kalman(mean: Array, squared: float, constant: float, work: Work, into: tuple[Array, Array]) -> float:
    """As `Prediction`, of one component and observation, from its gradient and information."""
    evidence = -constant
    for i in range(len(mean)):
        for j in range(len(mean)):
            work.total[i, j] = work.information[i, j]
        work.total[i, i] += 1.0
    factorise(work.total, LEAST_PIVOT, ROUNDING, work.grown)
    invert_product(work.grown, work.lower, work.gain)
    for i in range(len(mean)):
        evidence -= math.log(work.grown[i, i])
        for j in range(len(mean)):
            squared -= work.gradient[i] * work.gain[i, j] * work.gradient[j]
    moved(mean, work.factor, work.gain, work.gradient, work.pull, work.total, into)
    return evidence - 0.5 * (0.0 if squared < 0 else squared)


@borrowing
def _second_order(
    mean: Array, covariance: Array, signed: float, constant: float, work: Work, into: tuple[Array, Array]
) -> float:
    """As `nearly_linear._second_order`, of one component."""
    off, spread = signed, 1.0
    for i in range(len(mean)):
        off -= work.curvature[i, i] / 2
        spread += work.slope[i] * work.slope[i]
        for j in range(len(mean)):
            spread += work.curvature[i, j] * work.curvature[i, j] / 2
    for i in range(len(mean)):
        work.pull[i] = 0.0
        for j in range(i + 1):
            work.pull[i] += work.factor[i, j] * work.slope[j]
        work.pull[i] /= spread
        into[0][i] = mean[i] + work.pull[i] * off
    for i in range(len(mean)):
        for j in range(i + 1):
            value = 0.5 * (covariance[i, j] + covariance[j, i]) - work.pull[i] * work.pull[j] * spread
            into[1][i, j] = into[1][j, i] = value
    return -0.5 * (off * off / spread + math.log(spread)) - constant
