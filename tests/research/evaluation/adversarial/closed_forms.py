"""Closed forms that the oracle is held against."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from research.evaluation.adversarial.mixtures import Mixture

Array = NDArray[np.float64]


def log_gaussian(offset: Array, covariance: Array) -> float:
    """Log density of a Gaussian at an offset from its mean."""
    squared = float(offset @ np.linalg.solve(covariance, offset))
    return -0.5 * (squared + float(np.linalg.slogdet(2 * math.pi * covariance)[1]))


def linear_update(prior: Mixture, matrix: Array, noise: Array, value: Array) -> tuple[Mixture, float]:
    """Posterior and log evidence under one linear sensor, component by component."""
    logs, means, covariances = [], [], []
    for weight, mean, covariance in zip(*prior, strict=True):
        spread = matrix @ covariance @ matrix.T + noise
        gain = covariance @ matrix.T @ np.linalg.inv(spread)
        logs.append(math.log(weight) + log_gaussian(value - matrix @ mean, spread))
        means.append(mean + gain @ (value - matrix @ mean))
        left = np.eye(len(mean)) - gain @ matrix
        covariances.append(left @ covariance @ left.T + gain @ noise @ gain.T)
    evidence = float(np.logaddexp.reduce(logs))
    return Mixture(np.exp(np.array(logs) - evidence), np.array(means), np.array(covariances)), evidence


def gaussian_divergence(first: Mixture, second: Mixture) -> float:
    """KL of one Gaussian from another."""
    inverse = np.linalg.inv(second.covariances[0])
    offset = second.means[0] - first.means[0]
    sizes = np.linalg.slogdet(second.covariances[0])[1] - np.linalg.slogdet(first.covariances[0])[1]
    trace = float(np.trace(inverse @ first.covariances[0]))
    return 0.5 * (trace + float(offset @ inverse @ offset) - len(offset) + float(sizes))
