"""`Prediction.surprise` for the processor: the tail of the chi-square distribution, without a tensor operator."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.native import borrowing, native
from beliefstream.inference.mixtures.native_arrays import array

Array = NDArray[np.float64]

UNDERFLOW = 700.0  # the exponential of minus more is no normal number


def prepare() -> None:
    """Compile the surprise, or load it from Numba's cache."""
    one = torch.ones(1, 1, dtype=torch.float64)
    surprise(one, one, one[0])


def surprise(log_weights: Tensor, distance: Tensor, rows: Tensor) -> Tensor:
    """As `Prediction.surprise`, from weights and squared distances ``(B, K)`` and degrees of freedom ``(B,)``."""
    found = np.empty(len(rows))
    weights, lengths, freedom = map(array, (log_weights, distance, rows))
    _surprise(weights, lengths, freedom, found)
    return torch.from_numpy(found)


@native
def _surprise(log_weights: Array, distance: Array, rows: Array, found: Array) -> None:
    for b in range(len(found)):
        found[b] = probability(log_weights[b], distance[b], rows[b])


@borrowing
def probability(log_weights: Array, distance: Array, rows: float) -> float:
    """The tail of a mixture of predictions, for one entity."""
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
