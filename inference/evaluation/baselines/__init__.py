"""The classical filters on a batch of entities: extended Kalman, Gaussian sum, bootstrap particle filter."""

from __future__ import annotations

from inference.evaluation.baselines.gaussian_sum import gaussian_sum_update
from inference.evaluation.baselines.kalman import ExtendedKalmanFilter
from inference.evaluation.baselines.particle import ParticleFilter

__all__ = ["ExtendedKalmanFilter", "ParticleFilter", "gaussian_sum_update"]
