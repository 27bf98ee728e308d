"""Predicted observations of a prior, linearised at each component's mean: exact for linear sensors.

In the frame ``x = m + L y`` of a component ``N(m, L Lᵀ)``, with the summed gradient g and information M of its
observations there: the gain is ``G = (I + M)⁻¹``, the squared length of the joint innovation ``|e|² − gᵀ G g``, and the
log evidence ``−½ (|e|² − gᵀ G g) − ½ log det (I + M)`` above that of observations that fit exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.observations import Linearisation, Observations
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array
from beliefstream.inference.mixtures.native_linear_algebra import (
    LEAST_PIVOT,
    ROUNDING,
    factorise,
    invert_product,
)

Array = NDArray[np.float64]
Bits = NDArray[np.bool_]

UNDERFLOW = 700.0  # the exponential of minus more is no normal number


class Predicted(NamedTuple):
    """Fields of a `Prediction`, as arrays."""

    factors: Array
    gradient: Array
    gain: Array
    distance: Array
    log_evidence: Array
    rows: Array


class Prediction(NamedTuple):
    """All observations of an entity, linearised at each component's mean in the frame of its factor."""

    factors: Tensor  # of the prior, (B, K, D, D)
    gradient: Tensor  # (B, K, D)
    gain: Tensor  # covariance after the update, (B, K, D, D)
    distance: Tensor  # squared Mahalanobis length of the joint innovation, (B, K)
    log_evidence: Tensor  # (B, K)
    rows: Tensor  # degrees of freedom, (B,)

    @classmethod
    def of(cls, prior: GaussianMixture, observations: Observations) -> Prediction:
        factors = prior.factors()
        return cls.of_linearised(factors, observations, observations.linearise(prior.means, factors))

    @classmethod
    def of_linearised(cls, factors: Tensor, observations: Observations, linear: Linearisation) -> Prediction:
        """The prediction from `linear`, the observations at the prior's means in the frames of its `factors`."""
        prediction = new_predicted(array(linear.gradient), array(factors))
        peaks = observations.log_peaks(linear.residuals).expand_as(linear.residuals.squared)
        squared, mask = linear.residuals.squared, observations.mask.cpu().contiguous().numpy()
        given = array(linear.gradient), array(linear.information), array(squared), array(peaks)
        _predict_all(mask, array(observations.rows), given, prediction)
        return cls(*(torch.from_numpy(part).to(factors) for part in prediction))

    def rows_of(self, index: Tensor) -> Prediction:
        """The predictions of the entities at `index`."""
        return Prediction(*(tensor[index] for tensor in self))

    def posterior(self, prior: GaussianMixture) -> GaussianMixture:
        """One Kalman update per component, weighted by its evidence; not normalised."""
        means = prior.means + la.times(self.factors, la.times(self.gain, self.gradient))
        covariances = la.symmetrise(self.factors @ self.gain @ self.factors.mT)
        return GaussianMixture(prior.log_weights + self.log_evidence, means, covariances)

    def p_value(self, prior: GaussianMixture) -> Tensor:
        """Probability of observations at least as far from the prediction, by the linearised innovation, ``(B,)``."""
        probabilities = np.empty(prior.batch)
        _p_value(array(prior.log_weights), array(self.distance), array(self.rows), probabilities)
        return torch.from_numpy(probabilities).to(prior.means)


def prepare() -> None:
    """Compile all functions, or load them from Numba's cache."""
    one = np.ones((1, 1, 1))
    prediction = new_predicted(one[None], one[None])
    _predict_all(one[0] > 0, one[0], (one[None], one[None, None], one, one), prediction)
    _p_value(one[0], one[0], one[0, 0], np.empty(1))


def new_predicted(gradient: Array, factors: Array) -> Predicted:
    """Space for the prediction of observations whose `gradient` is ``(B, K, N, D)``."""
    batch, count, _, size = gradient.shape
    square = np.zeros((batch, count, size, size))
    lengths = np.zeros((2, batch, count))
    return Predicted(factors, np.zeros((batch, count, size)), square, lengths[0], lengths[1], np.zeros(batch))


@native
def _predict_all(
    mask: Bits, rows: Array, linear: tuple[Array, Array, Array, Array], prediction: Predicted
) -> None:
    gradient, information, squared, peaks = linear
    size = gradient.shape[3]
    squares = np.empty((3, size, size))
    for b in range(len(gradient)):
        for n in range(len(mask[b])):
            prediction.rows[b] += rows[b, n] if mask[b, n] else 0.0
        for k in range(gradient.shape[1]):
            peak = 0.0
            for n in range(len(mask[b])):
                peak += peaks[b, k, n] if mask[b, n] else 0.0
            part = (gradient[b, k], information[b, k], squared[b, k])
            predict(mask[b], part, peak, squares, prediction, b, k)


@borrowing
def predict(
    mask: Bits,
    linear: tuple[Array, Array, Array],
    peak: float,
    squares: Array,
    prediction: Predicted,
    b: int,
    k: int,
) -> None:
    """Fill the prediction of component k of entity b.

    `linear` are gradient ``(N, D)``, information ``(N, D, D)`` and squared residuals ``(N,)`` at its mean; `peak` is
    the log density of observations that fit exactly; `squares` ``(3, D, D)`` are space.
    """
    gradient, total, grown, lower = prediction.gradient[b, k], squares[0], squares[1], squares[2]
    gain, distance = prediction.gain[b, k], 0.0
    size = len(gradient)
    for i in range(size):
        gradient[i] = 0.0
        for j in range(size):
            total[i, j] = 1.0 if i == j else 0.0
    for n in range(len(mask)):
        if mask[n]:
            distance += linear[2][n]
            for i in range(size):
                gradient[i] += linear[0][n, i]
                for j in range(size):
                    total[i, j] += linear[1][n, i, j]
    factorise(total, LEAST_PIVOT, ROUNDING, grown)
    invert_product(grown, lower, gain)
    for i in range(size):
        peak -= math.log(grown[i, i])
        for j in range(size):
            distance -= gradient[i] * gain[i, j] * gradient[j]
    distance = 0.0 if distance < 0 else distance
    prediction.distance[b, k] = distance
    prediction.log_evidence[b, k] = peak - 0.5 * distance


@native
def _p_value(log_weights: Array, distance: Array, rows: Array, probabilities: Array) -> None:
    for b in range(len(probabilities)):
        probabilities[b] = probability(log_weights[b], distance[b], rows[b])


@borrowing
def probability(log_weights: Array, distance: Array, rows: float) -> float:
    """Probability of an innovation at least as long: chi-square laws with `rows` degrees of freedom."""
    total = 0.0
    for k in range(len(distance)):
        total += math.exp(log_weights[k]) * _tail(rows / 2, distance[k] / 2)
    return 0.0 if total < 0 else 1.0 if total > 1 else total


@borrowing
def _tail(degree: float, at: float) -> float:
    """``Γ(degree, at) / Γ(degree)``, where twice the degree is a whole number above zero.

    By recursion from the complementary error function or the exponential (NIST Digital Library of Mathematical
    Functions, 8.4.6 and 8.8.2).
    """
    if at == math.inf:
        return 0.0
    start = degree - math.floor(degree)
    total = math.erfc(math.sqrt(at)) if start > 0 else 0.0
    while start < degree:
        if at > UNDERFLOW:
            total += math.exp(start * math.log(at) - at - math.lgamma(start + 1))
        else:
            total += at**start * math.exp(-at) / math.gamma(start + 1)
        start += 1
    return total
