"""A mixture smoothed over the cells of a scan, for the processor; see `inference.update.prior_scan`.

Cells are taken a block at a time, one number of each in a row, so that the compiler vectorises the loops over a block.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from beliefstream.inference.mixtures.mixture import LOG_TWO_PI, GaussianMixture
from beliefstream.inference.mixtures.native import borrowing, fusing, native
from beliefstream.inference.mixtures.native_arrays import array, numbers_of
from beliefstream.inference.mixtures.native_density import BLOCK, Block, new_block, sum_components
from beliefstream.inference.mixtures.native_linear_algebra import ROUNDING

Array = NDArray[np.float64]


class Cells(NamedTuple):
    """Space for a block of cells."""

    covariance: Array  # (d, d, BLOCK)
    factor: Array  # (d, d, BLOCK), of a component widened by the cell
    offset: Array  # (d, BLOCK), whitened
    volume: Array  # (BLOCK,), product of the factor's diagonal


def prepare() -> None:
    """Compile the function, or load it from Numba's cache."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    log_density(GaussianMixture(one[0].log(), one, one[..., None]), one, one[..., None])


def log_density(mixture: GaussianMixture, points: Tensor, factors: Tensor) -> Tensor:
    """Log density ``(B, P)`` at `points` ``(B, P, d)``, each smoothed over its cell with `factors` ``(B, P, d, d)``."""
    found = np.empty(points.shape[:2])
    _evaluate(*numbers_of(mixture), array(points), array(factors), found)
    return torch.from_numpy(found)


@native
def _evaluate(
    log_weights: Array, means: Array, covariances: Array, points: Array, factors: Array, found: Array
) -> None:
    count, size = means.shape[1:]
    block = new_block(count, size)
    cells = Cells(
        np.zeros((size, size, BLOCK)),
        np.ones((size, size, BLOCK)),
        np.zeros((size, BLOCK)),
        np.empty(BLOCK),
    )
    for b in range(len(points)):
        for start in range(0, points.shape[1], BLOCK):
            some = min(BLOCK, points.shape[1] - start)
            _take(points[b, start : start + some], factors[b, start : start + some], block, cells)
            for k in range(count):
                _factorise(covariances[b, k], cells)
                _whiten(means[b, k], block, cells)
                constant = log_weights[b, k] - 0.5 * size * LOG_TWO_PI
                for p in range(some):
                    block.values[k, p] = constant - math.log(cells.volume[p])
                for i in range(size):
                    for p in range(some):
                        block.values[k, p] -= 0.5 * cells.offset[i, p] * cells.offset[i, p]
            sum_components(block, found[b, start : start + some])


@borrowing
def _take(points: Array, factors: Array, block: Block, cells: Cells) -> None:
    """Fill the points and covariances of a block of cells."""
    size = points.shape[1]
    for p in range(len(points)):
        for i in range(size):
            block.points[i, p] = points[p, i]
            for j in range(size):
                total = 0.0
                for k in range(size):
                    total += factors[p, i, k] * factors[p, j, k]
                cells.covariance[i, j, p] = total


@borrowing
def _factorise(covariance: Array, cells: Cells) -> None:
    """Fill the lower factor of the covariance plus that of each cell, and the product of its diagonal."""
    size, factor = len(covariance), cells.factor
    for p in range(BLOCK):
        cells.volume[p] = 1.0
    for column in range(size):
        for row in range(column, size):
            entry = covariance[row, column]
            for p in range(BLOCK):
                factor[row, column, p] = entry + cells.covariance[row, column, p]
            for k in range(column):
                for p in range(BLOCK):
                    factor[row, column, p] -= factor[row, k, p] * factor[column, k, p]
        for p in range(BLOCK):
            least = ROUNDING * (covariance[column, column] + cells.covariance[column, column, p])
            # a comparison that keeps what is not a number
            pivot = least if factor[column, column, p] < least else factor[column, column, p]
            factor[column, column, p] = math.sqrt(pivot)
            cells.volume[p] *= factor[column, column, p]
        for row in range(column + 1, size):
            for p in range(BLOCK):
                factor[row, column, p] /= factor[column, column, p]


@fusing
def _whiten(mean: Array, block: Block, cells: Cells) -> None:
    """Fill the whitened offsets of the cells' points from a component's mean."""
    for i in range(len(mean)):
        for p in range(BLOCK):
            cells.offset[i, p] = block.points[i, p] - mean[i]
        for j in range(i):
            for p in range(BLOCK):
                cells.offset[i, p] -= cells.factor[i, j, p] * cells.offset[j, p]
        for p in range(BLOCK):
            cells.offset[i, p] /= cells.factor[i, i, p]
