"""Extended Kalman filter of task 3, with the right noise model and wrapped bearings.

A Kalman filter knows the first two moments of a report. Those of the range given r are exact: the mean of
.7 N(r, (.1 (r + 1))²) + .2 Exp(1) + .1 U(0, 20) is .7 r + 1.2. The clamp is left out: at 0 it cuts .04 % of reports.
"""

from __future__ import annotations

import numpy as np

from research.paper.exact.grids import Array
from research.paper.exact.particles import gaussian_log_density
from research.paper.fusion.task import (
    BEARING,
    FAR,
    MOTION,
    NOISE,
    SHARES,
    START,
    Series,
    wrapped,
)


def filtered(series: Series) -> Array:
    """Return the log densities of the true states ``(S, T)``."""
    count, steps, _ = series.states.shape
    mean, covariance = np.tile(START, (count, 1)), np.tile(np.eye(4), (count, 1, 1))
    found = []
    for step in range(steps):
        if step:
            mean, covariance = mean @ MOTION.T, MOTION @ covariance @ MOTION.T + NOISE
        mean, covariance = updated(mean, covariance, *seen(mean, series.reports[:, step]))
        found.append(gaussian_log_density(series.states[:, step], mean, covariance))
    return np.stack(found, 1)


def seen(mean: Array, reports: Array) -> tuple[Array, Array, Array]:
    """Return residuals ``(S, 2)``, slopes ``(S, 2, 4)`` and noise ``(S, 2, 2)`` of reports, linearised at the means."""
    x, y = mean[:, 0], mean[:, 2]
    distance = np.hypot(x, y).clip(1e-3)
    right, exponential, uniform = SHARES
    expected = right * distance + exponential + uniform * FAR / 2
    second = right * (distance**2 + (0.1 * (distance + 1)) ** 2) + 2 * exponential + uniform * FAR**2 / 3
    residual = np.stack([reports[:, 0] - expected, wrapped(reports[:, 1] - np.arctan2(x, y))], 1)
    slope = np.zeros((len(mean), 2, 4))
    slope[:, 0, 0], slope[:, 0, 2] = right * x / distance, right * y / distance
    slope[:, 1, 0], slope[:, 1, 2] = y / distance**2, -x / distance**2
    noise = np.zeros((len(mean), 2, 2))
    noise[:, 0, 0], noise[:, 1, 1] = second - expected**2, BEARING**2
    return residual, slope, noise


def updated(
    mean: Array, covariance: Array, residual: Array, slope: Array, noise: Array
) -> tuple[Array, Array]:
    """Return mean and covariance after a Kalman update; the covariance in Joseph's form, which stays positive."""
    spread = slope @ covariance @ slope.transpose(0, 2, 1) + noise
    gain = np.linalg.solve(spread, slope @ covariance).transpose(0, 2, 1)
    rest = np.eye(mean.shape[1]) - gain @ slope
    joseph = rest @ covariance @ rest.transpose(0, 2, 1) + gain @ noise @ gain.transpose(0, 2, 1)
    return mean + (gain @ residual[..., None])[..., 0], joseph
