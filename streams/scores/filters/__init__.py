"""Classical filters of a batch of entities: extended and iterated Kalman filters, and particle filters."""

from __future__ import annotations

from beliefstream.streams.scores.filters.iterated import IteratedKalmanFilter
from beliefstream.streams.scores.filters.kalman import ExtendedKalmanFilter
from beliefstream.streams.scores.filters.particle import ParticleFilter
from beliefstream.streams.scores.filters.regularised import RegularisedParticleFilter

__all__ = [
    "ExtendedKalmanFilter",
    "IteratedKalmanFilter",
    "ParticleFilter",
    "RegularisedParticleFilter",
]
