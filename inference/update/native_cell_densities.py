"""Components of a prior in the plane, for `joint`."""

from __future__ import annotations

import math
from typing import NamedTuple

from beliefstream.inference.likelihood.native_terms import Array
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native import borrowing, inner
from beliefstream.inference.mixtures.native_arrays import Numbers

WIDEST = 0.3  # radians over a cell, beyond which a bearing is not linear


class Prior(NamedTuple):
    """Components of one problem's prior, in the plane."""

    peaks: Array  # (K,) log of weight × peak density
    log_weights: Array  # (K,)
    means: Array  # (K, 2)
    covariances: Array  # (K, 3) as xx, xy, yy
    precisions: Array  # (K, 3)


@borrowing
def take(mixtures: Numbers, b: int, prior: Prior) -> int:
    """Fill the components that are present; returns their number."""
    some = 0
    for k in range(mixtures.log_weights.shape[1]):
        weight, covariance = mixtures.log_weights[b, k], mixtures.covariances[b, k]
        if weight == -math.inf:
            continue
        xx, xy, yy = covariance[0, 0], covariance[1, 0], covariance[1, 1]
        determinant = xx * yy - xy * xy
        prior.log_weights[some] = weight - LOG_TWO_PI
        prior.peaks[some] = weight - LOG_TWO_PI - 0.5 * math.log(determinant)
        prior.means[some, 0], prior.means[some, 1] = mixtures.means[b, k, 0], mixtures.means[b, k, 1]
        prior.covariances[some, 0], prior.covariances[some, 1], prior.covariances[some, 2] = xx, xy, yy
        prior.precisions[some, 0] = yy / determinant
        prior.precisions[some, 1] = -xy / determinant
        prior.precisions[some, 2] = xx / determinant
        some += 1
    return some


@inner
def first_of(prior: Prior, count: int) -> Prior:
    """The components that were taken."""
    return Prior(
        prior.peaks[:count],
        prior.log_weights[:count],
        prior.means[:count],
        prior.covariances[:count],
        prior.precisions[:count],
    )
