"""Linearisation of observations by PyTorch's operators: for training, which needs gradients, and for other devices.

On the processor, without gradients, `Observations.linearise` computes the same in compiled code.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_functions import SOFT
from beliefstream.inference.likelihood.native_terms import BENT, FAR, STEEP, WIDE_OUTLIER
from beliefstream.inference.likelihood.noise import effective, wrap
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.likelihood.observations import Linearisation, Observations, Residuals
from beliefstream.inference.mixtures import linear_algebra as la


def linearise(observations: Observations, points: Tensor, factors: Tensor) -> Linearisation:
    """As `Observations.linearise`, with gradients where `points` ``(B, K, d)`` or `factors` need them."""
    if la.on_processor(points, factors):
        return observations.linearise(points, factors)
    return by_operators(observations, points, factors)


def log_likelihood(observations: Observations, points: Tensor) -> Tensor:
    """As `Observations.log_likelihood`, with gradients where `points` ``(B, P, d)`` need them."""
    if la.on_processor(points):
        return observations.log_likelihood(points)
    relative = observations.relative(points)
    functions = None if observations.functions is None else observations.functions.values(relative)
    off = _difference(observations, points, relative, functions)
    found = observations.with_problems(_residuals(observations, relative, off), points)
    return observations.joint(found.log_likelihood)


def by_operators(observations: Observations, points: Tensor, factors: Tensor) -> Linearisation:
    """As `linearise`, always by PyTorch's operators."""
    relative = observations.relative(points)
    distance = _distance(relative)
    batch, count, rows, size = observations.matrix.shape
    flat = observations.matrix.reshape(batch, 1, count * rows, size) @ factors
    matrix = flat.view(batch, points.shape[1], count, rows, size)
    functions = observations.functions
    derivatives = functions.derivatives(relative, matrix) if functions is not None else None
    off = _difference(observations, points, relative, derivatives[0] if derivatives is not None else None)
    residuals = _residuals(observations, relative, off)
    gram = la.gram(matrix)
    slope = la.transpose_times(matrix, relative / distance[..., None])
    deviation = residuals.deviation[..., None, None]
    curvature = (gram - la.outer(slope, slope)) / (distance[..., None, None] * deviation)
    if rows > 1 and observations.has_angles:
        is_angle = (observations.kind == ANGLE)[:, None, :, None]
        across, bend = _angle(relative, matrix, observations.heading[:, None] @ factors)
        slope = torch.where(is_angle, across, slope)
        curvature = torch.where(is_angle[..., None], bend / deviation, curvature)
    curvature = curvature.clamp(-BENT, BENT)  # unbounded close to a sensor
    jacobian = slope / deviation[..., 0]
    if functions is not None and derivatives is not None:
        own = functions.present[:, None, :, None]
        jacobian = torch.where(own, _bounded(derivatives[1] / deviation[..., 0], STEEP), jacobian)
        curvature = torch.where(own[..., None], _bounded(derivatives[2] / deviation, BENT), curvature)
    linear = (observations.kind == LINEAR)[:, None, :, None]
    gradient = la.transpose_times(matrix, observations.value[:, None] - relative)
    gradient = torch.where(linear, gradient, jacobian * residuals.signed[..., None])
    information = torch.where(linear[..., None], gram, la.outer(jacobian, jacobian))
    curvature = torch.where(linear[..., None], torch.zeros_like(curvature), curvature)
    found = Linearisation(gradient, information, curvature, jacobian, residuals)
    return observations.with_quadratic(found, points, factors)


def _distance(relative: Tensor) -> Tensor:
    return (la.squared_norm(relative) + SOFT).sqrt()


def _bounded(tensor: Tensor, most: float) -> Tensor:
    """Clamp to ±`most`, as larger squares would overflow; NaN becomes `most`, as far off as possible."""
    return torch.nan_to_num(tensor, nan=most).clamp(-most, most)


def _difference(
    observations: Observations, points: Tensor, relative: Tensor, functions: Tensor | None
) -> Tensor:
    """``value − h(x)`` of the scalar kinds, wrapped; `functions` ``(B, P, N)`` are the functions' values there."""
    value = observations.value[:, None, :, 0]
    scalar = value - _distance(relative)
    if relative.shape[-1] > 1 and observations.has_angles:
        turn = points @ observations.heading.mT
        angle = torch.atan2(relative[..., 1], relative[..., 0]) - turn
        scalar = torch.where(observations.kind[:, None] == ANGLE, wrap(value - angle), scalar)
    if observations.functions is not None and functions is not None:
        deviation = observations.standard_deviation[:, None]
        off = value - functions
        off = torch.where(observations.functions.angle[:, None], wrap(off), off)
        off = _bounded(off / deviation, FAR) * deviation
        scalar = torch.where(observations.functions.present[:, None], off, scalar)
    return scalar


def _residuals(observations: Observations, relative: Tensor, difference: Tensor) -> Residuals:
    linear = (observations.kind == LINEAR)[:, None]
    probability = observations.outlier_probability[:, None]
    deviation = observations.standard_deviation[:, None]
    several = observations.value[:, None] - relative
    constant, rows = observations.log_normaliser[:, None], observations.rows[:, None]
    if observations.has_plain_noise:
        scalar = difference / deviation
        squared = torch.where(linear, la.squared_norm(several), scalar.square())
        fit = -0.5 * squared
    else:
        spread = observations.deviation(observations.magnitude(difference))
        scalar, deviation, fit = effective(
            difference, deviation, spread, observations.mixture, observations.wraps
        )
        squared = torch.where(linear, la.squared_norm(several), scalar.square())
        fit = torch.where(linear, -0.5 * squared, fit)
    signed = torch.where(linear, torch.where(rows == 1, several[..., 0], 0.0), scalar)
    inlier = torch.log1p(-probability) + fit - constant
    wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - rows * math.log(WIDE_OUTLIER)
    density = torch.where(linear, wide, observations.outlier_log_density[:, None])
    outlier = probability.log() + density  # minus infinity without outliers
    return Residuals(signed, squared, inlier - outlier, torch.logaddexp(inlier, outlier), deviation)


def _angle(relative: Tensor, matrix: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """First and second derivatives of an angle in the plane of the first two rows."""
    first, second = relative[..., 0], relative[..., 1]
    squared = first.square() + second.square() + SOFT
    row_first, row_second = matrix[..., 0, :], matrix[..., 1, :]
    radial = row_first * first[..., None] + row_second * second[..., None]
    tangent = row_second * first[..., None] - row_first * second[..., None]
    turn = tangent / squared[..., None]
    # dividing by squared² would underflow in single precision
    cross = la.outer(radial / squared[..., None], turn)
    return turn - heading, -(cross + cross.mT)
