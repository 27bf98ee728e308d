"""Linearisation of observations by PyTorch's operators: for training, which needs gradients, and for other devices.

Training knows linear sensors, ranges and angles with Gaussian noise, and these are all that operators compute. All
others, and these on the processor without gradients, go to compiled code (`Observations.linearise`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from beliefstream.inference.likelihood.native_functions import SOFT
from beliefstream.inference.likelihood.native_terms import BENT, WIDE_OUTLIER
from beliefstream.inference.likelihood.noise import wrap
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.likelihood.observations import Linearisation, Observations, Residuals
from beliefstream.inference.mixtures import linear_algebra as la


def linearise(observations: Observations, points: Tensor, factors: Tensor) -> Linearisation:
    """As `Observations.linearise`; with gradients where `points` ``(B, K, d)`` or `factors` need them."""
    if _is_compiled(observations, points, factors):
        return observations.linearise(points, factors)
    relative = observations.relative(points)
    distance = distance_of(relative)
    batch, count, rows, size = observations.matrix.shape
    flat = observations.matrix.reshape(batch, 1, count * rows, size) @ factors
    matrix = flat.view(batch, points.shape[1], count, rows, size)
    residuals = _residuals(observations, points, relative)
    gram = la.gram(matrix)
    slope = la.transpose_times(matrix, relative / distance[..., None])
    deviation = residuals.deviation[..., None, None]
    curvature = (gram - la.outer(slope, slope)) / (distance[..., None, None] * deviation)
    if rows > 1 and observations.has_angles:
        is_angle = (observations.kind == ANGLE)[:, None, :, None]
        across, bend = angle_derivatives(relative, matrix, observations.heading[:, None] @ factors)
        slope = torch.where(is_angle, across, slope)
        curvature = torch.where(is_angle[..., None], bend / deviation, curvature)
    curvature = curvature.clamp(-BENT, BENT)  # unbounded close to a sensor
    jacobian = slope / deviation[..., 0]
    linear = (observations.kind == LINEAR)[:, None, :, None]
    gradient = la.transpose_times(matrix, observations.value[:, None] - relative)
    gradient = torch.where(linear, gradient, jacobian * residuals.signed[..., None])
    information = torch.where(linear[..., None], gram, la.outer(jacobian, jacobian))
    curvature = torch.where(linear[..., None], torch.zeros_like(curvature), curvature)
    return Linearisation(gradient, information, curvature, jacobian, residuals)


def log_likelihood(observations: Observations, points: Tensor) -> Tensor:
    """As `Observations.log_likelihood`; with gradients where `points` ``(B, P, d)`` need them."""
    if _is_compiled(observations, points):
        return observations.log_likelihood(points)
    found = _residuals(observations, points, observations.relative(points))
    return observations.joint(found.log_likelihood)


def _is_compiled(observations: Observations, *tensors: Tensor) -> bool:
    """Whether compiled code takes the observations; it raises RuntimeError where a gradient is needed."""
    other = observations.functions is not None or observations.likelihoods is not None
    return other or not observations.has_plain_noise or la.on_processor(*tensors)


def distance_of(relative: Tensor) -> Tensor:
    """Distance to a sensor ``(B, P, N)`` of coordinates relative to it ``(B, P, N, R)``, softened as by `SOFT`."""
    return (la.squared_norm(relative) + SOFT).sqrt()


def _residuals(observations: Observations, points: Tensor, relative: Tensor) -> Residuals:
    linear = (observations.kind == LINEAR)[:, None]
    probability = observations.outlier_probability[:, None]
    deviation = observations.standard_deviation[:, None]
    several = observations.value[:, None] - relative
    constant, rows = observations.log_normaliser[:, None], observations.rows[:, None]
    scalar = difference(observations, points, relative) / deviation
    squared = torch.where(linear, la.squared_norm(several), scalar.square())
    signed = torch.where(linear, torch.where(rows == 1, several[..., 0], 0.0), scalar)
    inlier = torch.log1p(-probability) - 0.5 * squared - constant
    wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - rows * math.log(WIDE_OUTLIER)
    density = torch.where(linear, wide, observations.outlier_log_density[:, None])
    outlier = probability.log() + density  # minus infinity without outliers
    return Residuals(signed, squared, inlier - outlier, torch.logaddexp(inlier, outlier), deviation)


def difference(observations: Observations, points: Tensor, relative: Tensor) -> Tensor:
    """``value − h(x)`` of ranges and angles, wrapped."""
    value = observations.value[:, None, :, 0]
    scalar = value - distance_of(relative)
    if relative.shape[-1] > 1 and observations.has_angles:
        turn = points @ observations.heading.mT
        angle = torch.atan2(relative[..., 1], relative[..., 0]) - turn
        scalar = torch.where(observations.kind[:, None] == ANGLE, wrap(value - angle), scalar)
    return scalar


def angle_derivatives(relative: Tensor, matrix: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
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
