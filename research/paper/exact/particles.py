"""Particle filters for many series at once, in NumPy: S series of N particles in D coordinates.

Bootstrap filters with systematic resampling in every step (Gordon, Salmond and Smith 1993; Kitagawa 1996).
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import logsumexp

from research.paper.exact.grids import Array
from research.resampling import systematic

LOG_TAU = math.log(2 * math.pi)


def log_sum(values: Array) -> Array:
    """Return log Σ exp over the last axis."""
    return np.asarray(logsumexp(values, -1))


def normalised(log_weights: Array) -> Array:
    """Return weights ``(S, N)`` that sum to 1 for each series."""
    weights = np.exp(log_weights - log_weights.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


def resampled(points: Array, weights: Array, numbers: np.random.Generator) -> Array:
    """Draw N particles ``(S, N, D)`` systematically: copies of a particle differ from N times its weight by < 1."""
    return np.stack(
        [each[systematic(row, len(row), numbers)] for each, row in zip(points, weights, strict=True)]
    )


def gaussian_log_density(points: Array, means: Array, covariances: Array) -> Array:
    """Return log N(points; means, covariances) for points and means ``(..., D)`` and covariances ``(..., D, D)``."""
    factor = np.linalg.cholesky(covariances)
    scaled = np.linalg.solve(factor, (points - means)[..., None])[..., 0]
    determinant = np.log(np.diagonal(factor, axis1=-2, axis2=-1)).sum(-1)
    return np.asarray(-0.5 * (scaled**2).sum(-1) - determinant - 0.5 * points.shape[-1] * LOG_TAU)


def moments(points: Array, weights: Array) -> tuple[Array, Array]:
    """Return means ``(S, D)`` and covariances ``(S, D, D)`` of weighted particles."""
    mean = np.einsum("sn,snd->sd", weights, points)
    offset = points - mean[:, None]
    return mean, (weights[..., None] * offset).transpose(0, 2, 1) @ offset


def as_gaussian(points: Array, weights: Array, truth: Array) -> Array:
    """Return the log density at `truth` ``(S, D)`` of the Gaussian with the particles' moments."""
    mean, covariance = moments(points, weights)
    return gaussian_log_density(truth, mean, covariance + 1e-9 * np.eye(truth.shape[1]))


def as_kernels(points: Array, weights: Array, truth: Array) -> Array:
    """Return the log density at `truth` ``(S, D)`` of a kernel estimate of the particles.

    Gaussian kernels with Silverman's bandwidth h for the effective number of particles. The particles are shrunk
    towards their mean by sqrt(1 − h²), so that the covariance stays (West 1993).
    """
    size = truth.shape[1]
    mean, covariance = moments(points, weights)
    inverse = np.linalg.inv(np.linalg.cholesky(covariance + 1e-9 * np.eye(size)))
    scaled = (points - mean[:, None]) @ inverse.transpose(0, 2, 1)
    place = np.einsum("sij,sj->si", inverse, truth - mean)
    effective = 1 / (weights**2).sum(1)
    width = (4 / (size + 2)) ** (1 / (size + 4)) * effective ** (-1 / (size + 4))
    shrunk = np.sqrt(1 - width**2)[:, None, None] * scaled
    distance = ((place[:, None] - shrunk) ** 2).sum(-1) / width[:, None] ** 2
    stretch = np.log(np.diagonal(inverse, axis1=1, axis2=2)).sum(-1) - size * np.log(width)
    with np.errstate(divide="ignore"):
        logs = np.log(weights) - 0.5 * distance
    return np.asarray(log_sum(logs) + stretch - 0.5 * size * LOG_TAU)
