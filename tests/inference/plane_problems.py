"""Problems in the plane with one observation, and their likelihoods on a grid."""

from __future__ import annotations

import math

import numpy as np
import torch

from beliefstream.inference.likelihood.observations import Observations
from beliefstream.inference.mixtures.mixture import GaussianMixture
from beliefstream.inference.sensors.encoding import encode
from beliefstream.inference.sensors.readings import Reading, Sensor
from tests.inference.update.test_quadrature import Array

NOISE, OUTLIERS, SPAN = 0.3, 0.2, 60.0


def two_components(spread: float, size: int = 2) -> GaussianMixture:
    """Correlated ones side by side."""
    root = torch.eye(size).double() + 0.4 * torch.ones(size, size).double().tril(-1)
    covariance = spread**2 * (root @ root.mT)
    means = torch.zeros(1, 2, size, dtype=torch.float64)
    means[0, 1, :2] = torch.tensor([1.5, -0.7]) * spread
    weights = torch.tensor([[0.7, 0.3]], dtype=torch.float64)
    return GaussianMixture.from_weights(weights, means, covariance.expand(1, 2, size, size))


def read(sensor: Sensor, value: float, size: int = 2) -> Observations:
    return encode([[Reading(sensor, np.array([value]))]], size)


def distance_likelihood(points: Array, away: float, value: float, outliers: float) -> Array:
    off = (value - np.hypot(points[:, 0] + away, points[:, 1])) / NOISE
    return either(off, NOISE, outliers, SPAN)


def direction_likelihood(points: Array, away: float, value: float, noise: float, outliers: float) -> Array:
    off = value - np.arctan2(points[:, 1], points[:, 0] + away)
    off = np.remainder(off + math.pi, 2 * math.pi) - math.pi
    return either(off / noise, noise, outliers, 2 * math.pi)


def either(off: Array, noise: float, outliers: float, span: float) -> Array:
    """Log likelihood of a residual in units of the noise, of an inlier or an outlier."""
    inlier = math.log1p(-outliers) - 0.5 * off**2 - math.log(noise * math.sqrt(2 * math.pi))
    outlier = math.log(outliers / span) if outliers else -math.inf
    return np.asarray(np.logaddexp(inlier, outlier))
