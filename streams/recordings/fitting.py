"""Maximum-likelihood fits of noise to a recorded truth: of the motion, and of sensors with outliers."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def acceleration_density(times: Array, places: Array, spacing: float) -> float:
    """Spectral density of white-noise acceleration, unit²/s³, the same along every axis.

    With exactly known places and an unknown first velocity, every predicted variance of a Kalman filter is proportional
    to the density q. So the likeliest q is the mean of the squared innovations, each over its variance at a density of
    one.

    Args:
        times: ``(T,)`` s, increasing.
        places: ``(T, D)``.
        spacing: s; between the truths used, so that the truth's own noise does not pass for acceleration.
    """
    ticks = np.arange(times[0], times[-1], spacing)
    seen = np.stack([np.interp(ticks, times, column) for column in places.T], 1)
    velocity, variance, ratios = (seen[1] - seen[0]) / spacing, spacing / 3, []
    for before, place in pairwise(seen[1:]):
        # F P Fᵀ + Q of constant velocity; P is zero except for the velocity's variance
        predicted = variance * spacing**2 + spacing**3 / 3
        across, spread = variance * spacing + spacing**2 / 2, variance + spacing
        innovation = place - before - velocity * spacing
        ratios.append(np.square(innovation).mean() / predicted)
        velocity = velocity + across / predicted * innovation
        variance = spread - across**2 / predicted
    return float(np.mean(ratios))


def outlier_share(errors: Array, span: float) -> tuple[float, float]:
    """Standard deviation of the inliers, and the share of outliers uniform on a width of `span`; by EM.

    The share is at least one in ``N + 1``: to see no outliers does not mean that there are none.
    """
    deviation, share, least = float(np.std(errors)), 0.05, 1 / (len(errors) + 1)
    for _ in range(200):
        inlier = (1 - share) * np.exp(-0.5 * np.square(errors / deviation)) / (deviation * np.sqrt(2 * np.pi))
        belongs = inlier / (inlier + share / span)
        deviation = float(np.sqrt((belongs * np.square(errors)).sum() / belongs.sum()))
        share = max(1 - float(belongs.mean()), least)
    return deviation, share
