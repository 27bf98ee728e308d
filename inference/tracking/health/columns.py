"""Columns of the tables of `inference.tracking.health`; like its sums and tests, this needs NumPy only."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# outlier probability for sensors that state none: one freak value must not look like a bias
ASSUMED_OUTLIERS = 0.01
NOISIER, QUIETER = (1.6, 2.5, 5.0), (0.5, 0.25)  # noise scales that the tests weigh
OUTLYING = (0.1, 0.4)  # shares of outliers that the tests weigh, of all beyond the tolerated share


class Fit(IntEnum):
    """Columns of `inference.tracking.health.fits.fits`."""

    SCORE = 0  # normal score under the prediction of a value that is no outlier, with the sign of the reported value
    LOG_ODDS = 1  # posterior log odds of inlier against outlier
    SHARE = 2  # square root of the share of the predicted variance that is noise of the sensor; 0 if it was not judged
    DEVIATION = 3  # standard deviation of the prediction, in the reported unit
    PREDICTED = 4  # mean of the prediction, in the reported unit
    EXCESS = 5  # log evidence of an inlier minus its expectation, in nats
    STATED = 6  # outlier probability of the definition, or `ASSUMED_OUTLIERS` where it states none


class Sum(IntEnum):
    """Columns of `inference.tracking.health.sums.terms`."""

    COUNT = 0  # observations judged
    INLIERS = 1  # Σ r
    STATED = 2  # Σ of the stated outlier probabilities
    SCORE = 3  # Σ r z c, the score of a bias in stated standard deviations
    INFORMATION = 4  # Σ c²
    UNIT_SCORE = 5  # Σ r z / s, in one over the reported unit
    UNIT_INFORMATION = 6  # Σ r / s²
    VARIANCE_SCORE = 7  # Σ c² r (z² − 1)
    VARIANCE_INFORMATION = 8  # Σ c⁴ r
    EXCESS = 9  # Σ r (log evidence − its expectation), in nats
    LEVEL = 10  # Σ r h / s², with h the predicted value
    LEVEL_SQUARE = 11  # Σ r h² / s²
    LEVEL_SCORE = 12  # Σ r z h / s
    NOISIER = 13  # log likelihood ratios of `NOISIER` against `SLIGHTLY_NOISIER`
    QUIETER = 16  # log likelihood ratios of `QUIETER` against `SLIGHTLY_QUIETER`
    OUTLYING = 18  # log likelihood ratios of `OUTLYING` against the tolerated share
    REPORTS = 20  # observations, also those that were not judged


WIDTH = 21  # number of columns of `inference.tracking.health.sums.terms`
