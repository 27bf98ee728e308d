"""An oracle for compiled likelihoods: all kinds of observations, functions and noise by PyTorch's operators.

Ranges and angles are those of the network (`inference.network.linearisation`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import Functions, Program
from beliefstream.inference.likelihood.native_functions import BuiltIn
from beliefstream.inference.likelihood.native_terms import BENT, FAR, STEEP, WIDE_OUTLIER
from beliefstream.inference.likelihood.noise import NoiseMixture, wrap
from beliefstream.inference.likelihood.observation_data import ANGLE, LINEAR
from beliefstream.inference.likelihood.observations import Linearisation, Observations, Residuals
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.network.linearisation import angle_derivatives, difference, distance_of
from tests.inference.likelihood.laws import LAWS


def by_operators(observations: Observations, points: Tensor, factors: Tensor) -> Linearisation:
    """As `Observations.linearise`."""
    relative = observations.relative(points)
    distance = distance_of(relative)
    batch, count, rows, size = observations.matrix.shape
    flat = observations.matrix.reshape(batch, 1, count * rows, size) @ factors
    matrix = flat.view(batch, points.shape[1], count, rows, size)
    functions = observations.functions
    derivatives = None if functions is None else _derivatives(functions, relative, matrix)
    off = _difference(observations, points, relative, derivatives[0] if derivatives is not None else None)
    residuals = _residuals(observations, relative, off)
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


def _bounded(tensor: Tensor, most: float) -> Tensor:
    """Clamp to ±`most`, as larger squares would overflow; NaN becomes `most`, as far off as possible."""
    return torch.nan_to_num(tensor, nan=most).clamp(-most, most)


def _difference(
    observations: Observations, points: Tensor, relative: Tensor, functions: Tensor | None
) -> Tensor:
    """``value − h(x)`` of the scalar kinds, wrapped; `functions` ``(B, P, N)`` are the functions' values there."""
    scalar = difference(observations, points, relative)
    if observations.functions is not None and functions is not None:
        deviation = observations.standard_deviation[:, None]
        off = observations.value[:, None, :, 0] - functions
        off = torch.where(observations.functions.angle[:, None], wrap(off), off)
        off = _bounded(off / deviation, FAR) * deviation
        scalar = torch.where(observations.functions.present[:, None], off, scalar)
    return scalar


def _residuals(observations: Observations, relative: Tensor, off: Tensor) -> Residuals:
    linear = (observations.kind == LINEAR)[:, None]
    probability = observations.outlier_probability[:, None]
    deviation = observations.standard_deviation[:, None]
    several = observations.value[:, None] - relative
    constant, rows = observations.log_normaliser[:, None], observations.rows[:, None]
    if observations.has_plain_noise:
        scalar = off / deviation
        squared = torch.where(linear, la.squared_norm(several), scalar.square())
        fit = -0.5 * squared
    else:
        spread = observations.deviation(observations.magnitude(off))
        scalar, deviation, fit = effective(off, deviation, spread, observations.mixture, observations.wraps)
        squared = torch.where(linear, la.squared_norm(several), scalar.square())
        fit = torch.where(linear, -0.5 * squared, fit)
    signed = torch.where(linear, torch.where(rows == 1, several[..., 0], 0.0), scalar)
    inlier = torch.log1p(-probability) + fit - constant
    wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - rows * math.log(WIDE_OUTLIER)
    density = torch.where(linear, wide, observations.outlier_log_density[:, None])
    outlier = probability.log() + density  # minus infinity without outliers
    return Residuals(signed, squared, inlier - outlier, torch.logaddexp(inlier, outlier), deviation)


def _derivatives(functions: Functions, relative: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values ``(B, P, N)``, gradients ``(B, P, N, d)`` and Hessians ``(B, P, N, d, d)`` in x.

    `relative` is ``(B, P, N, R)``; `matrix` ``(B, P, N, R, d)`` is the derivative of ``u``. A derivative that is
    not finite counts as zero, as it gives no direction to go.
    """
    size = matrix.shape[-1]
    value = relative.new_zeros(relative.shape[:3])
    slope = relative.new_zeros(*relative.shape[:3], size)
    bend = relative.new_zeros(*relative.shape[:3], size, size)
    for program, row, column in _places(functions):
        arguments = functions.arguments(program, row, column, relative)
        found, gradient, hessian = differentiated(program).derivatives(*arguments)
        shape = (len(row), relative.shape[1])
        inner = matrix[row, :, column][..., : program.rows, :]
        gradient = _finite(gradient).view(*shape, 1, program.rows)
        hessian = _finite(hessian).view(*shape, program.rows, program.rows)
        value[row, :, column] = found.view(shape)
        slope[row, :, column] = (gradient @ inner)[..., 0, :]
        bend[row, :, column] = inner.mT @ hessian @ inner
    return value, slope, bend


def differentiated(program: Program) -> Program:
    """The program with PyTorch's form of a built-in function."""
    if not isinstance(program.measurement.function, BuiltIn):
        return program
    measurement = replace(program.measurement, function=LAWS[program.measurement.function.name])
    return replace(program, measurement=measurement)


def _places(functions: Functions) -> Iterator[tuple[Program, Tensor, Tensor]]:
    for number, program in enumerate(functions.programs):
        row, column = torch.nonzero(functions.index == number, as_tuple=True)
        if len(row):
            yield program, row, column


def _finite(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)


class Effective(NamedTuple):
    """The Gaussian that replaces the noise at a residual; each ``(B, P, N)``."""

    signed: Tensor  # residual over its own standard deviation
    deviation: Tensor
    log_density: Tensor  # exact, of the residual, over the peak density of the plain Gaussian


def effective(
    residual: Tensor, base: Tensor, deviation: Tensor, mixture: NoiseMixture | None, angle: Tensor
) -> Effective:
    """Replace the noise by a Gaussian at `residual` ``(B, P, N)``, already wrapped.

    `base` ``(B, 1, N)`` is the standard deviation σ₀, `deviation` ``(B, P or 1, N)`` is σ(x); `angle` ``(B, N)`` says
    which residuals wrap.
    """
    growth = (deviation / base).log()
    if mixture is None:
        signed = residual / deviation
        return Effective(signed, deviation, -0.5 * signed.square() - growth)
    offset = residual[..., None] - mixture.bias[:, None]
    offset = torch.where(angle[:, None, :, None], wrap(offset), offset)
    spread = deviation[..., None] * mixture.ratio[:, None]
    scaled = offset / spread
    logs = (mixture.log_weights - mixture.ratio.log())[:, None] - 0.5 * scaled.square()
    total = torch.logsumexp(logs, -1)
    share = (logs - total[..., None]).exp()
    # relative to the deviation, so that small squares do not underflow
    precision = (share / mixture.ratio[:, None].square()).sum(-1)
    pull = (share * scaled / mixture.ratio[:, None]).sum(-1)
    root = precision.rsqrt()
    return Effective(pull * root, deviation * root, total - growth)
