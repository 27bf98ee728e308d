"""The classical filters on a batch of entities: Kalman (extended, iterated, unscented), Gaussian sum, particles."""

from __future__ import annotations

from inference.evaluation.baselines.gaussian_sum import gaussian_sum_update
from inference.evaluation.baselines.iterated import IteratedKalmanFilter
from inference.evaluation.baselines.kalman import ExtendedKalmanFilter
from inference.evaluation.baselines.particle import ParticleFilter
from inference.evaluation.baselines.regularised import RegularisedParticleFilter
from inference.evaluation.baselines.unscented import UnscentedKalmanFilter

__all__ = [
    "ExtendedKalmanFilter",
    "IteratedKalmanFilter",
    "ParticleFilter",
    "RegularisedParticleFilter",
    "UnscentedKalmanFilter",
    "gaussian_sum_update",
]
