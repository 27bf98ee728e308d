"""`polar_quadrature.leaves_a_ring` for the processor: for one observation of one entity."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from beliefstream.inference.mixtures.native import inner
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING, TINY, factorise
from beliefstream.inference.update.lasting import BENT, WEAK
from beliefstream.inference.update.quadrature import LEAST_WEIGHT, MOST_SPREAD
from beliefstream.inference.update.scaled_problem import Shapes

Array = NDArray[np.float64]


@inner
def leaves_a_ring(log_weights: Array, linear: Shapes) -> bool:
    """Whether lines should be fitted to the ring or the beam of the first observation at once.

    `linear` is the linearisation at the components, of a batch of one.
    """
    largest, present = 0.0, 0
    for k in range(len(log_weights)):
        present += 1 if log_weights[k] > -math.inf else 0
        if log_weights[k] > math.log(LEAST_WEIGHT):
            trace, curved = _sums(linear, k)
            largest = max(largest, trace + 0.5 * curved)
    if not largest >= MOST_SPREAD * MOST_SPREAD:
        return False
    return present > 1 or not _lasts(linear)


@inner
def _sums(linear: Shapes, k: int) -> tuple[float, float]:
    """Trace of the information of a component, and the sum of its squared curvatures."""
    information, curvature = linear.information[0, k, 0], linear.curvature[0, k, 0]
    trace, curved = 0.0, 0.0
    for i in range(len(information)):
        trace += information[i, i]
        for j in range(len(information)):
            curved += curvature[i, j] * curvature[i, j]
    return trace, curved


@inner
def _lasts(linear: Shapes) -> bool:
    """As `lasting.lasts`, for a prior of one component."""
    information, total = linear.information[0, 0, 0], 0.0
    size = len(information)
    whole, factor = np.eye(size), np.empty((size, size))
    for i in range(size):
        for j in range(size):
            whole[i, j] += information[i, j]
    factorise(whole, TINY, ROUNDING, factor)
    for i in range(size):
        total += math.log(factor[i, i])
    return total < WEAK and math.sqrt(_sums(linear, 0)[1]) > BENT
