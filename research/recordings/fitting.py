"""Maximum-likelihood fits of motion noise and of sensor noise with outliers to a recorded truth."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def acceleration_density(times: Array, places: Array, spacing: float) -> float:
    """Fit the spectral density of white-noise acceleration, unit²/s³, equal along all axes.

    With exactly known positions and an unknown first velocity, every predicted variance of a Kalman filter is
    proportional to the density q. So the maximum-likelihood q is the mean of the squared innovations, each divided by
    its variance for q = 1.

    Args:
        times: increasing times, ``(T,)``, s.
        places: true positions, ``(T, D)``.
        spacing: time between the positions used, s, so that noise in the truth is not taken for acceleration.
    """
    ticks = np.arange(times[0], times[-1], spacing)
    seen = np.stack([np.interp(ticks, times, column) for column in places.T], 1)
    velocity, variance, ratios = (seen[1] - seen[0]) / spacing, spacing / 3, []
    for before, place in pairwise(seen[1:]):
        # F P Fᵀ + Q of constant velocity; P is zero except for the variance of the velocity
        predicted = variance * spacing**2 + spacing**3 / 3
        across, spread = variance * spacing + spacing**2 / 2, variance + spacing
        innovation = place - before - velocity * spacing
        ratios.append(np.square(innovation).mean() / predicted)
        velocity = velocity + across / predicted * innovation
        variance = spread - across**2 / predicted
    return float(np.mean(ratios))


def outlier_share(errors: Array, span: float) -> tuple[float, float]:
    """Fit the standard deviation of inliers, and the share of outliers uniform on a width of `span`, by EM.

    The share is at least ``1 / (N + 1)``, because N errors without outliers do not exclude them.
    """
    deviation, share, least = float(np.std(errors)), 0.05, 1 / (len(errors) + 1)
    for _ in range(200):
        inlier = (1 - share) * np.exp(-0.5 * np.square(errors / deviation)) / (deviation * np.sqrt(2 * np.pi))
        belongs = inlier / (inlier + share / span)
        deviation = float(np.sqrt((belongs * np.square(errors)).sum() / belongs.sum()))
        share = max(1 - float(belongs.mean()), least)
    return deviation, share
