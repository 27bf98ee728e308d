"""Prior × likelihood smoothed over cells in the plane, and what bounds it, for `native_joint_cells`.

The bound of an observation comes from its second-order series at the centre of a cell, with a bound of the remainder.
In the sensor's plane as complex numbers, with z the offset over the distance, a bearing is ``Im log(1 + z)``, whose
further terms are at most ``Σ |z|ⁿ / n``. Those of a range, ``|1 + z|``, are at most a quarter of ``Σ |z|ⁿ``.
"""

from __future__ import annotations

import math

from beliefstream.inference.likelihood.native_angles import arctangent, within_half_a_turn
from beliefstream.inference.likelihood.native_derivatives import BENT, SOFT
from beliefstream.inference.likelihood.native_terms import WIDE_OUTLIER, Seen
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.mixtures.native import borrowing, fusing
from beliefstream.inference.mixtures.native_exponential import UNDERFLOW, exponential
from beliefstream.inference.update.joint.native_joint_blocks import UNBOUNDED, Block, Heights, alive, start
from beliefstream.inference.update.native_cell_densities import WIDEST, Prior

CORNER = math.sqrt(3)  # half a width, in standard deviations over a cell
SMALLEST = 1e-300
NEAR = 0.7  # of the distance to a sensor: the series converges slowly in a cell that is larger


@borrowing
def smooth(seen: Seen, b: int, prior: Prior, heights: Heights, some: int, least: float, block: Block) -> int:
    """Fill density, bound and variances of the first cells of a block; returns for how many of them.

    These come first then; the others have a mass below the `least`. All masses are relative to the height.
    """
    start(some, block.total, block.bound)
    start(some, block.one, block.other)
    highest = -math.inf
    for k in range(len(prior.peaks)):
        highest = max(highest, prior.peaks[k])
    for k in range(len(prior.peaks)):
        _add_component(prior, k, highest, some, block)
    for p in range(some):
        block.one[p] /= math.sqrt(max(block.total[p], SMALLEST))
        block.other[p] /= math.sqrt(max(block.total[p], SMALLEST))
    for n in range(seen.kind.shape[1]):
        if seen.mask[b, n]:
            some = alive(some, least, block)
            if some == 0:
                return 0
            _place(seen, b, n, some, block)
            if seen.kind[b, n] == LINEAR:
                _see_linear(seen, b, n, some, block)
            elif seen.kind[b, n] == ANGLE:
                _see_angle(seen, b, n, some, block)
            else:
                _see_range(seen, b, n, some, block)
            _multiply(heights.inliers[n], heights.outliers[n], seen.kind[b, n] == LINEAR, some, block)
    return some


@fusing
def _add_component(prior: Prior, k: int, highest: float, some: int, block: Block) -> None:
    """Add a component of the prior, smoothed, and the highest density that it has within a cell."""
    mean, wide, precise = prior.means[k], prior.covariances[k], prior.precisions[k]
    east, north, weight, peak = mean[0], mean[1], prior.log_weights[k] - highest, prior.peaks[k] - highest
    c0, c1, c2, p0, p1, p2 = wide[0], wide[1], wide[2], precise[0], precise[1], precise[2]
    for p in range(some):
        dx, dy, f0, f2, f3 = block.x[p] - east, block.y[p] - north, block.xx[p], block.yx[p], block.yy[p]
        xx, xy, yy = c0 + f0 * f0, c1 + f0 * f2, c2 + f2 * f2 + f3 * f3
        determinant = xx * yy - xy * xy
        squared = (yy * dx * dx - 2 * xy * dx * dy + xx * dy * dy) / determinant
        along = p0 * f0 * f0 + 2 * p1 * f0 * f2 + p2 * f2 * f2
        across = p2 * f3 * f3
        off = math.sqrt(max(p0 * dx * dx + 2 * p1 * dx * dy + p2 * dy * dy, 0.0))
        off = max(off - CORNER * (math.sqrt(along) + math.sqrt(across)), 0.0)
        found = exponential(max(weight - 0.5 * squared, UNDERFLOW)) / math.sqrt(determinant)
        block.bound[p] += exponential(max(peak - 0.5 * off * off, UNDERFLOW))
        block.total[p] += found
        block.one[p] += math.sqrt(found) * along
        block.other[p] += math.sqrt(found) * across


@fusing
def _place(seen: Seen, b: int, n: int, some: int, block: Block) -> None:
    m00, m01, m10, m11 = (
        seen.matrix[b, n, 0, 0],
        seen.matrix[b, n, 0, 1],
        seen.matrix[b, n, 1, 0],
        seen.matrix[b, n, 1, 1],
    )
    first, second = seen.origin[b, n, 0], seen.origin[b, n, 1]
    for p in range(some):
        block.first[p] = m00 * block.x[p] + m01 * block.y[p] - first
        block.second[p] = m10 * block.x[p] + m11 * block.y[p] - second


@fusing
def _see_linear(seen: Seen, b: int, n: int, some: int, block: Block) -> None:
    one, other = seen.value[b, n, 0], seen.value[b, n, 1]
    m00, m01, m10, m11 = (
        seen.matrix[b, n, 0, 0],
        seen.matrix[b, n, 0, 1],
        seen.matrix[b, n, 1, 0],
        seen.matrix[b, n, 1, 1],
    )
    for p in range(some):
        left, right = one - block.first[p], other - block.second[p]
        a0, b0 = m00 * block.xx[p] + m01 * block.yx[p], m10 * block.xx[p] + m11 * block.yx[p]
        a1, b1 = m01 * block.yy[p], m11 * block.yy[p]
        along, across = a0 * a0 + b0 * b0, a1 * a1 + b1 * b1
        block.squared[p] = left * left + right * right
        block.reach[p] = CORNER * (math.sqrt(along) + math.sqrt(across))
        block.along[p], block.across[p] = along, across


@fusing
def _see_range(seen: Seen, b: int, n: int, some: int, block: Block) -> None:
    value, scale = seen.value[b, n, 0], 1 / seen.deviation[b, n]
    m00, m01, m10, m11 = (
        seen.matrix[b, n, 0, 0],
        seen.matrix[b, n, 0, 1],
        seen.matrix[b, n, 1, 0],
        seen.matrix[b, n, 1, 1],
    )
    for p in range(some):
        first, second = block.first[p], block.second[p]
        a0, b0 = m00 * block.xx[p] + m01 * block.yx[p], m10 * block.xx[p] + m11 * block.yx[p]
        a1, b1 = m01 * block.yy[p], m11 * block.yy[p]
        distance = math.sqrt(first * first + second * second + SOFT)
        each = 1 / distance
        s0, s1 = (a0 * first + b0 * second) * each, (a1 * first + b1 * second) * each
        off = (value - distance) * scale
        block.squared[p] = off * off
        narrow = scale * each
        b00 = min((a0 * a0 + b0 * b0 - s0 * s0) * narrow, BENT)
        b01 = max(min((a0 * a1 + b0 * b1 - s0 * s1) * narrow, BENT), -BENT)
        b11 = min((a1 * a1 + b1 * b1 - s1 * s1) * narrow, BENT)
        s0, s1 = abs(s0) * scale, abs(s1) * scale
        radius = CORNER * math.sqrt(a0 * a0 + b0 * b0 + a1 * a1 + b1 * b1 + 2 * abs(a0 * a1 + b0 * b1))
        ratio = min(radius * each, NEAR)
        reach = CORNER * (s0 + s1) + 0.5 * CORNER * CORNER * (abs(b00) + 2 * abs(b01) + abs(b11))
        reach += 0.25 * ratio * ratio * ratio / (1 - ratio) * distance * scale
        block.reach[p] = radius * scale if ratio == NEAR else min(reach, radius * scale)
        block.along[p] = s0 * s0 + 0.5 * (b00 * b00 + b01 * b01)
        block.across[p] = s1 * s1 + 0.5 * (b01 * b01 + b11 * b11)


@borrowing
def _see_angle(seen: Seen, b: int, n: int, some: int, block: Block) -> None:
    value, scale, h0, h1 = (
        seen.value[b, n, 0],
        1 / seen.deviation[b, n],
        seen.heading[b, n, 0],
        seen.heading[b, n, 1],
    )
    for p in range(some):
        turn = h0 * block.x[p] + h1 * block.y[p]
        off = within_half_a_turn(value - (arctangent(block.second[p], block.first[p]) - turn)) * scale
        block.squared[p] = off * off
    _bend_angle(seen, b, n, some, block)


@fusing
def _bend_angle(seen: Seen, b: int, n: int, some: int, block: Block) -> None:
    scale, h0, h1 = 1 / seen.deviation[b, n], seen.heading[b, n, 0], seen.heading[b, n, 1]
    m00, m01, m10, m11 = (
        seen.matrix[b, n, 0, 0],
        seen.matrix[b, n, 0, 1],
        seen.matrix[b, n, 1, 0],
        seen.matrix[b, n, 1, 1],
    )
    far = WIDEST * WIDEST * scale * scale
    for p in range(some):
        first, second = block.first[p], block.second[p]
        a0, b0 = m00 * block.xx[p] + m01 * block.yx[p], m10 * block.xx[p] + m11 * block.yx[p]
        a1, b1 = m01 * block.yy[p], m11 * block.yy[p]
        each = 1 / (first * first + second * second + SOFT)
        t0, t1 = (b0 * first - a0 * second) * each, (b1 * first - a1 * second) * each
        l0, l1 = (a0 * first + b0 * second) * each, (a1 * first + b1 * second) * each
        b00 = max(min(-2 * l0 * t0 * scale, BENT), -BENT)
        b01 = max(min(-(l1 * t0 + l0 * t1) * scale, BENT), -BENT)
        b11 = max(min(-2 * l1 * t1 * scale, BENT), -BENT)
        s0 = (t0 - h0 * block.xx[p] - h1 * block.yx[p]) * scale
        s1 = (t1 - h1 * block.yy[p]) * scale
        along, across = s0 * s0 + 0.5 * (b00 * b00 + b01 * b01), s1 * s1 + 0.5 * (b01 * b01 + b11 * b11)
        radius = CORNER * math.sqrt(a0 * a0 + b0 * b0 + a1 * a1 + b1 * b1 + 2 * abs(a0 * a1 + b0 * b1))
        ratio = min(radius * math.sqrt(each), NEAR)
        reach = CORNER * (abs(s0) + abs(s1)) + 0.5 * CORNER * CORNER * (abs(b00) + 2 * abs(b01) + abs(b11))
        reach += ratio * ratio * ratio / (3 * (1 - ratio)) * scale
        block.reach[p] = UNBOUNDED if ratio == NEAR else reach
        # no line from here says where the beam passes
        wide = along + across > far
        lacking = max(block.squared[p] - along - across, 0.0) if wide else 0.0
        block.along[p], block.across[p] = along + 0.5 * lacking, across + 0.5 * lacking


@fusing
def _multiply(inlier: float, outlier: float, is_linear: bool, some: int, block: Block) -> None:
    """Multiply the likelihood of one observation in."""
    slope = -0.5 / WIDE_OUTLIER**2 if is_linear else 0.0
    for p in range(some):
        squared, along, across = block.squared[p], block.along[p], block.across[p]
        least = max(math.sqrt(squared) - block.reach[p], 0.0)
        least = least * least
        factor = 1 / (1 + along + across)
        likely = exponential(max(inlier - 0.5 * squared * factor, UNDERFLOW)) * math.sqrt(factor)
        rest = exponential(max(outlier + slope * squared, UNDERFLOW))
        highest = exponential(max(inlier - 0.5 * least, UNDERFLOW))
        highest += exponential(max(outlier + slope * least, UNDERFLOW))
        # a ridge that holds little of a cell's mass must be resolved too
        share = math.sqrt(likely / (likely + rest))
        block.bound[p] *= highest
        block.total[p] *= likely + rest
        block.one[p] += share * along
        block.other[p] += share * across
