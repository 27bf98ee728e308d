"""Squared maximum mean discrepancy between joint draws of data and parameter (Gretton and others 2012), in NumPy.

The published figure: half the problems give true pairs (prior, data, parameter), the other half pairs whose parameter
was drawn from the answer. The kernel is a product of Gaussians of the parameter, the data and the prior's numbers,
each standardised, with the median distance as bandwidth. The estimate is unbiased and averaged over bootstraps, with
negative ones counted as 0. So even exact posteriors do not score 0: that score is the floor.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from research.paper.exact.grids import Array

BOOTSTRAPS = 30


def discrepancy(true: Sequence[Array], drawn: Sequence[Array], seed: int) -> Array:
    """Return the squared discrepancy of each bootstrap, where negative ones are 0.

    Args:
        true: blocks of columns ``(N, ...)`` of true pairs, one kernel each.
        drawn: the same blocks of pairs with drawn parameters.
        seed: of the bootstraps.
    """
    numbers, count = np.random.default_rng(seed), len(true[0])
    blocks = [np.concatenate(pair).reshape(2 * count, -1) for pair in zip(true, drawn, strict=True)]
    found = []
    for _ in range(BOOTSTRAPS):
        first = numbers.integers(0, count, count)
        second = numbers.integers(count, 2 * count, count)
        chosen = np.concatenate([first, second])
        found.append(unbiased(np.prod([gram(block[chosen]) for block in blocks], axis=0), count))
    return np.maximum(found, 0)


def gram(values: Array) -> Array:
    """Return the Gaussian kernel between standardised rows, with the median distance as its bandwidth."""
    spread = values.std(0)
    scaled = (values - values.mean(0)) / np.where(spread > 0, spread, 1)
    square = (scaled**2).sum(1)
    distance = np.maximum(square[:, None] + square - 2 * scaled @ scaled.T, 0)
    median = np.median(np.sqrt(distance[~np.eye(len(values), dtype=bool)]))
    return np.asarray(np.exp(-0.5 * distance / median**2))


def unbiased(kernel: Array, count: int) -> float:
    """Return the unbiased estimate for a kernel of `count` true rows, followed by drawn rows."""
    true, drawn, cross = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    pairs = count * (count - 1)
    within = (true.sum() - np.trace(true) + drawn.sum() - np.trace(drawn)) / pairs
    return float(within - 2 * cross.mean())
