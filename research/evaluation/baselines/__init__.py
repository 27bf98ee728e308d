"""Further classical filters, beside those of `streams.scores.filters`: unscented, Gaussian sum, moment matched."""

from __future__ import annotations

from research.evaluation.baselines.gaussian_sum import gaussian_sum_update
from research.evaluation.baselines.unscented import UnscentedKalmanFilter

__all__ = ["UnscentedKalmanFilter", "gaussian_sum_update"]
