"""Classical filters of a batch of entities: Kalman (extended, iterated, unscented), Gaussian sum, particles."""

from __future__ import annotations

from beliefstream.inference.evaluation.baselines.gaussian_sum import gaussian_sum_update
from beliefstream.inference.evaluation.baselines.iterated import IteratedKalmanFilter
from beliefstream.inference.evaluation.baselines.kalman import ExtendedKalmanFilter
from beliefstream.inference.evaluation.baselines.particle import ParticleFilter
from beliefstream.inference.evaluation.baselines.regularised import RegularisedParticleFilter
from beliefstream.inference.evaluation.baselines.unscented import UnscentedKalmanFilter

__all__ = [
    "ExtendedKalmanFilter",
    "IteratedKalmanFilter",
    "ParticleFilter",
    "RegularisedParticleFilter",
    "UnscentedKalmanFilter",
    "gaussian_sum_update",
]
