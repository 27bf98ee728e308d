"""Two filters that users of satellites know: an extended Kalman filter, and particles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from research.drive.simulation import LIGHT, PARTS, SPREAD, TURN, Array, Drive, Epoch, origin, step
from research.resampling import systematic

TRUSTED = 0.5  # share of particles that count, below which they are drawn again


class Tuning(NamedTuple):
    """Choices of the Kalman filter."""

    widening: float = 1.0  # of the merged noise's deviation
    gate: float = math.inf  # standard deviations beyond which a report is left out
    centred: float = 1.0  # share of the merged noise's mean that is taken off


def expected(places: Array, epoch: Epoch) -> tuple[Array, Array]:
    """Ranges ``(P, N)`` of places ``(P, 3)`` without the clock, and their slopes ``(P, N, 3)``."""
    centre, axes = origin()
    receiver = centre + places @ axes
    turn = TURN / LIGHT * np.stack([-epoch.satellites[:, 1], epoch.satellites[:, 0], 0 * epoch.values], 1)
    away = receiver[:, None] - epoch.satellites
    length = np.linalg.norm(away, axis=2)
    return length + receiver @ turn.T, (away / length[..., None] + turn) @ axes.T


def merged() -> tuple[Array, Array]:
    """Mean of the noise in metres, and its variance as the parts of σ² and of 1: ``(2,)``."""
    weights, biases, ratios = PARTS.T
    mean = weights @ biases
    return mean, np.array([weights @ ratios**2, weights @ (biases - mean) ** 2])


def kalman(drive: Drive, tuning: Tuning) -> Iterator[tuple[Array, Array]]:
    """Means ``(8,)`` and covariances ``(8, 8)`` after each epoch; the three parts of the noise are merged into one."""
    transition, noise = step()
    bias, (square, constant) = merged()
    mean, covariance = np.zeros(8), np.diag(SPREAD**2)
    for second, epoch in enumerate(drive.epochs):
        if second:
            mean, covariance = transition @ mean, transition @ covariance @ transition.T + noise
        ranges, slopes = expected(mean[None, :3], epoch)
        rows = np.zeros((len(epoch.values), 8))
        rows[:, :3], rows[:, 6] = slopes[0], 1.0
        off = epoch.values - ranges[0] - mean[6] - tuning.centred * bias
        variances = tuning.widening**2 * (square * epoch.deviations**2 + constant)
        spread = np.einsum("ni,ij,nj->n", rows, covariance, rows) + variances
        kept = np.abs(off) < tuning.gate * np.sqrt(spread)
        rows, off, variances = rows[kept], off[kept], variances[kept]
        innovation = rows @ covariance @ rows.T + np.diag(variances)
        gain = np.linalg.solve(innovation, rows @ covariance).T
        mean = mean + gain @ off
        covariance = covariance - gain @ rows @ covariance
        covariance = (covariance + covariance.T) / 2
        yield mean, covariance


def particles(drive: Drive, count: int, seed: int) -> Iterator[Array]:
    """Equally weighted states ``(count, 8)`` after each epoch.

    Reports of an epoch count one after the other. Where few particles are left, they are drawn again from a kernel
    estimate (C. Musso, N. Oudjane and F. Le Gland, "Improving regularised particle filters", in "Sequential Monte Carlo
    Methods in Practice", 2001).
    """
    numbers, (transition, noise) = np.random.default_rng(seed), step()
    root = np.linalg.cholesky(noise)
    points, log_weights = SPREAD * numbers.normal(size=(count, 8)), np.zeros(count)
    for second, epoch in enumerate(drive.epochs):
        if second:
            points = points @ transition.T + numbers.normal(size=points.shape) @ root.T
        for number in range(len(epoch.values)):
            one = Epoch(*(part[number : number + 1] for part in epoch))
            log_weights = log_weights + _log_density(points, one)
            weights = np.exp(log_weights - log_weights.max())
            if weights.sum() ** 2 < TRUSTED * count * (weights**2).sum():
                points, log_weights = _drawn_again(points, weights, numbers), np.zeros(count)
        weights = np.exp(log_weights - log_weights.max())
        points, log_weights = points[systematic(weights, count, numbers)], np.zeros(count)
        yield points


def _log_density(points: Array, one: Epoch) -> Array:
    """Of a report given each state, up to a constant; the noise is that of the simulation."""
    off = one.values[0] - expected(points[:, :3], one)[0][:, 0] - points[:, 6]
    weights, biases, ratios = PARTS.T
    spread = ratios * one.deviations[0]
    parts = np.log(weights / spread) - 0.5 * ((off[:, None] - biases) / spread) ** 2
    found: Array = np.logaddexp.reduce(parts, 1)
    return found


def _drawn_again(points: Array, weights: Array, numbers: np.random.Generator) -> Array:
    """Draw from a Gaussian kernel estimate that keeps mean and covariance, with Silverman's bandwidth."""
    weights = weights / weights.sum()
    count, size = points.shape
    mean = weights @ points
    spread = (points - mean).T @ (weights[:, None] * (points - mean)) + 1e-9 * np.eye(size)
    width = (4 / (size + 2) * (weights**2).sum()) ** (1 / (size + 4))
    shrunk = mean + math.sqrt(1 - width**2) * (points[systematic(weights, count, numbers)] - mean)
    jitter: Array = width * numbers.normal(size=points.shape) @ np.linalg.cholesky(spread).T
    return shrunk + jitter
