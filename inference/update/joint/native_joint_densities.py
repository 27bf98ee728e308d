"""Prior × likelihood of one problem at points in the plane, a block at a time, for `native_joint_quadrature`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from beliefstream.inference.likelihood.native_likelihood import (
    add_observation,
    close,
    fill_relative,
    fill_squared,
)
from beliefstream.inference.likelihood.native_terms import Array, Seen
from beliefstream.inference.mixtures.native import fusing, inner
from beliefstream.inference.mixtures.native_density import BLOCK, Block, new_block, sum_components
from beliefstream.inference.update.native_cell_densities import Prior


class DensitySpace(NamedTuple):
    """Space for one block of points."""

    block: Block
    relative: Array  # (2, BLOCK)
    product: Array  # (BLOCK,)
    total: Array


@inner
def new_density_space(components: int) -> DensitySpace:
    """Space for a prior of at most so many components."""
    return DensitySpace(new_block(components, 2), np.empty((2, BLOCK)), np.empty(BLOCK), np.empty(BLOCK))


@inner
def fill_density(
    seen: Seen, b: int, prior: Prior, x: Array, y: Array, count: int, space: DensitySpace, into: Array
) -> None:
    """Fill the log of prior × likelihood at the first `count` points."""
    whole, product, total = space.block, space.product, space.total
    block = Block(
        whole.points,
        whole.values[: len(prior.peaks)],
        whole.offset,
        whole.highest,
        whole.total,
        whole.argument,
    )
    for start in range(0, count, BLOCK):
        some = min(BLOCK, count - start)
        for p in range(some):
            block.points[0, p], block.points[1, p] = x[start + p], y[start + p]
        for k in range(len(prior.peaks)):
            _fill_component(
                prior.peaks[k], prior.means[k], prior.precisions[k], block.points, block.values[k]
            )
        sum_components(block, into[start : start + some])
        for p in range(BLOCK):
            product[p], total[p] = 1.0, 0.0
        for n in range(seen.kind.shape[1]):
            if seen.mask[b, n]:
                fill_relative(seen, b, n, block, space.relative)
                fill_squared(seen, b, n, block, space.relative)
                add_observation(seen, b, n, block, product, total)
        close(product, total)
        for p in range(some):
            into[start + p] += total[p]


@fusing
def _fill_component(peak: float, mean: Array, precision: Array, points: Array, values: Array) -> None:
    x, y, xx, xy, yy = mean[0], mean[1], precision[0], precision[1], precision[2]
    for p in range(BLOCK):
        dx, dy = points[0, p] - x, points[1, p] - y
        values[p] = peak - 0.5 * (xx * dx * dx + 2 * xy * dx * dy + yy * dy * dy)
