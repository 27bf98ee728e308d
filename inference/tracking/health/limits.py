"""Limits within which a linearised prediction of a reading says something about its sensor."""

BENT = 0.05  # share of the variance by curvature above which it says nothing
WIDEST_ANGLE = 0.7  # radians; a direction predicted less exactly than this wraps around
FEWEST_SHARED = (
    1e-3  # weight of all components but the largest, below which the prediction counts as one Gaussian
)
SMALLEST = 1e-300  # of a tail probability, so that its normal score is finite
