"""Resampling of weighted particles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def systematic(weights: NDArray[np.float64], count: int, numbers: np.random.Generator) -> NDArray[np.int64]:
    """Draw the indices of `count` particles: a particle occurs `count` times its share of the weight, ± 1.

    G. Kitagawa, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models", Journal of
    Computational and Graphical Statistics 5(1), 1996.
    """
    ends = np.cumsum(weights)
    ticks = (np.arange(count) + numbers.random()) / count * ends[-1]
    return np.asarray(np.searchsorted(ends, ticks).clip(max=len(weights) - 1))
