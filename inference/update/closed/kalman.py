"""Kalman updates of the components of a mixture, compiled for the processor.

In the frame ``x = m + L y`` of a component ``N(m, L Lᵀ)``, with the gradient g and the gain G of `Prediction`: the mean
becomes ``m + L G g``, the covariance ``L G Lᵀ``, and the weight is multiplied by the evidence (R. E.
Kalman, "A New Approach to Linear Filtering and Prediction Problems", Journal of Basic Engineering 82, 1960).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.likelihood.predicted_observations import probability
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, native

Array = NDArray[np.float64]
Places = NDArray[np.int64]
Components = tuple[Array, Array, Array]  # log weights, means, covariances


class Predictions(NamedTuple):
    """Priors in scaled coordinates, and fields of their `Prediction`."""

    log_weights: Array
    means: Array
    factors: Array
    gradient: Array
    gain: Array
    distance: Array
    log_evidence: Array
    rows: Array


def exact(
    predictions: Predictions, frame: tuple[Array, Array], index: Tensor
) -> tuple[GaussianMixture, Tensor, Tensor]:
    """Unreduced posterior, log evidence and surprise of the entities at `index`; `frame` is shift and scale."""
    _, count, size = predictions.means.shape
    batch = len(index)
    found = np.empty((batch, count)), np.empty((batch, count, size)), np.empty((batch, count, size, size))
    numbers = np.empty(batch), np.empty(batch)
    exact_all(index.numpy(), predictions, frame, found, numbers)
    evidence, surprise = (torch.from_numpy(part) for part in numbers)
    return GaussianMixture(*(torch.from_numpy(part) for part in found)), evidence, surprise


@native
def exact_all(
    index: Places,
    predictions: Predictions,
    frame: tuple[Array, Array],
    found: Components,
    numbers: tuple[Array, Array],
) -> None:
    log_weights, means, factors, gradient, gain, distance, log_evidence, rows = predictions
    evidence, surprise = numbers
    pull, product = np.empty(means.shape[2]), np.empty(means.shape[2:] + means.shape[2:])
    for row in range(len(index)):
        b = index[row]
        shift, scale = frame[0][b], frame[1][b]
        for k in range(means.shape[1]):
            found[0][row, k] = log_weights[b, k] + log_evidence[b, k]
            into = (found[1][row, k], found[2][row, k])
            moved(means[b, k], factors[b, k], gain[b, k], gradient[b, k], pull, product, into)
            for i in range(len(shift)):
                into[0][i] = into[0][i] * scale + shift[i]
                for j in range(len(shift)):
                    into[1][i, j] *= scale * scale
        evidence[row] = log_sum(found[0][row])
        for k in range(means.shape[1]):
            found[0][row, k] -= evidence[row]
        surprise[row] = probability(log_weights[b], distance[b], rows[b])


@borrowing
def moved(
    mean: Array,
    factor: Array,
    gain: Array,
    gradient: Array,
    pull: Array,
    product: Array,
    into: tuple[Array, Array],
) -> None:
    """Mean ``m + L G g`` and covariance ``L G Lᵀ``, with L the lower factor, G the gain and g the gradient."""
    size = len(mean)
    for i in range(size):
        pull[i] = 0.0
        for j in range(size):
            pull[i] += gain[i, j] * gradient[j]
            product[i, j] = 0.0
            for k in range(i + 1):
                product[i, j] += factor[i, k] * gain[k, j]
    for i in range(size):
        into[0][i] = mean[i]
        for j in range(i + 1):
            into[0][i] += factor[i, j] * pull[j]
            total = 0.0
            for k in range(j + 1):
                total += product[i, k] * factor[j, k]
            into[1][i, j] = into[1][j, i] = total


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
