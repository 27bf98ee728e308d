"""What a sensor's observations add up to: sums that suffice for estimates and for sequential tests of its health.

Let z be an observation's normal score, c² the share of the sensor's noise in the predicted variance, s the predicted
standard deviation, and r the posterior probability of an inlier (`fits.py`). If all is as stated, r z has mean zero,
because r times the density of the value is the density of an inlier times their share. A bias b moves z by about b/s,
and a noise of κ times the stated deviation changes its variance to ``1 + (κ² − 1) c²``. So every term below is
weighted by how much the observation can tell.

Sums of several partitions, entities and stretches of time add.
"""

from __future__ import annotations

import numpy as np

from beliefstream.inference.tracking.health.columns import NOISIER, OUTLYING, QUIETER, WIDTH, Array, Fit, Sum

__all__ = ["SLIGHTLY_NOISIER", "SLIGHTLY_QUIETER", "excess_share", "terms", "tolerated_share"]

SLIGHTLY_NOISIER, SLIGHTLY_QUIETER = 1.25, 0.75  # noise scales that still count as healthy
LARGEST_RATIO = 700.0  # of the log odds, so that no exponential overflows


def terms(fits: Array) -> Array:
    """Return what each observation adds to the sums: ``(N, WIDTH)`` for `fits` ``(N, len(Fit))``.

    An observation that was not judged adds to `Sum.REPORTS` only.
    """
    odds = np.clip(fits[:, Fit.LOG_ODDS], -LARGEST_RATIO, LARGEST_RATIO)
    inlier = 1 / (1 + np.exp(-odds))
    score, share, stated = fits[:, Fit.SCORE], fits[:, Fit.SHARE], fits[:, Fit.STATED]
    deviation, level = fits[:, Fit.DEVIATION], fits[:, Fit.PREDICTED]
    square, precision = share**2, inlier / deviation**2
    columns = np.empty((len(fits), WIDTH))
    columns[:, Sum.COUNT] = 1
    columns[:, Sum.INLIERS] = inlier
    columns[:, Sum.STATED] = stated
    columns[:, Sum.SCORE] = inlier * score * share
    columns[:, Sum.INFORMATION] = square
    columns[:, Sum.UNIT_SCORE] = inlier * score / deviation
    columns[:, Sum.UNIT_INFORMATION] = precision
    columns[:, Sum.VARIANCE_SCORE] = square * inlier * (score**2 - 1)
    columns[:, Sum.VARIANCE_INFORMATION] = square**2 * inlier
    columns[:, Sum.EXCESS] = inlier * fits[:, Fit.EXCESS]
    columns[:, Sum.LEVEL] = precision * level
    columns[:, Sum.LEVEL_SQUARE] = precision * level**2
    columns[:, Sum.LEVEL_SCORE] = inlier * score * level / deviation
    scales = [(scale, SLIGHTLY_NOISIER) for scale in NOISIER] + [
        (scale, SLIGHTLY_QUIETER) for scale in QUIETER
    ]
    for place, (other, reference) in enumerate(scales, Sum.NOISIER):
        columns[:, place] = inlier * _scale_ratio(score**2, square, other, reference)
    tolerated = tolerated_share(stated)
    ratio = np.exp(-odds) * (1 - stated) / stated  # density of an outlier over that of an inlier
    for place, part in enumerate(OUTLYING, Sum.OUTLYING):
        larger = excess_share(tolerated, part)
        columns[:, place] = np.log((1 - larger + larger * ratio) / (1 - tolerated + tolerated * ratio))
    columns[share == 0] = 0.0
    columns[:, Sum.REPORTS] = 1
    return columns


def tolerated_share(stated: Array) -> Array:
    """Return the share of outliers that still counts as healthy."""
    return stated + np.clip(stated, 0.02, (1 - stated) / 2)


def excess_share(tolerated: Array, part: float) -> Array:
    """Return the share of outliers that has `part` of all beyond the tolerated share."""
    return tolerated + part * (1 - tolerated)


def _scale_ratio(squared: Array, share: Array, other: float, reference: float) -> Array:
    """Log likelihood ratio of two noise scales for a score with that square; `share` is c²."""
    new, old = 1 + (other**2 - 1) * share, 1 + (reference**2 - 1) * share
    return np.asarray(0.5 * (np.log(old / new) + squared * (1 / old - 1 / new)))
