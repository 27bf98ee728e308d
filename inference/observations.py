"""A batch of observations as tensors, and what an update needs of them at any state.

Every measurement model has one of three forms, in ``d`` coordinates of the state x (A: matrix, a: origin, c: heading):

- linear  ``h(x) = A x`` (any number of rows, whitened, so that the noise is the identity);
- range   ``h(x) = |A x − a|``;
- angle   ``h(x) = atan2((A x − a)₂, (A x − a)₁) − cᵀx``, wrapped.

Noise is Gaussian; with probability p the value is an outlier instead: uniform where a span is known (range, angle),
ten times as wide otherwise. All quantities below are in units of the noise, so they do not depend on the units of the
state or of the sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from inference import linear_algebra as la
from inference.mixture import LOG_TWO_PI

LINEAR, RANGE, ANGLE = 0, 1, 2
WIDE_OUTLIER = 10.0  # an outlier of a linear sensor has ten times the standard deviation
_TINY = 1e-12


def wrap(angle: Tensor) -> Tensor:
    """To the interval [−π, π)."""
    return torch.remainder(angle + math.pi, 2 * math.pi) - math.pi


class Residuals(NamedTuple):
    """At some states ``(B, P)``, for ``N`` observations; each ``(B, P, N)``."""

    signed: Tensor  # of a scalar observation, in noise units; zero for one of several rows
    squared: Tensor  # squared Mahalanobis length under the noise alone
    log_odds: Tensor  # log of inlier against outlier
    log_likelihood: Tensor  # inlier or outlier, of the value as reported


class Linearisation(NamedTuple):
    """An observation's effect near a state, in noise units; shapes ``(B, K, N, ...)``."""

    gradient: Tensor  # Jᵀe, (..., d)
    information: Tensor  # JᵀJ, (..., d, d)
    curvature: Tensor  # Hessian of h, (..., d, d)
    residuals: Residuals


@dataclass(frozen=True)
class Observations:
    """Up to ``N`` observations for each of ``B`` entities; places that are not used have ``mask`` False."""

    kind: Tensor  # (B, N) int64
    mask: Tensor  # (B, N) bool
    value: Tensor  # (B, N, R); only the first place is used by range and angle
    matrix: Tensor  # (B, N, R, d)
    origin: Tensor  # (B, N, R)
    heading: Tensor  # (B, N, d)
    standard_deviation: Tensor  # (B, N), in the units of `value`; 1 for linear
    rows: Tensor  # (B, N) number of measured values, as a float
    log_scale: Tensor  # (B, N) half the log determinant of the noise covariance, in the sensor's own units
    outlier_probability: Tensor  # (B, N)
    outlier_log_density: Tensor  # (B, N) of a uniform outlier, in the sensor's own units; unused by linear

    @property
    def batch(self) -> int:
        return self.kind.shape[0]

    @property
    def dimension(self) -> int:
        return self.matrix.shape[-1]

    @cached_property
    def has_angles(self) -> bool:
        """Whether there is an angle at all; an arc tangent costs more than all else of a residual.

        A compiled graph has one path only, so there the answer is yes.
        """
        return torch.compiler.is_compiling() or bool((self.kind == ANGLE).any())

    @property
    def log_normaliser(self) -> Tensor:
        """Minus the log density of an inlier that fits exactly, ``(B, N)``, in the sensor's own units."""
        return self.log_scale + 0.5 * self.rows * LOG_TWO_PI

    def rows_of(self, index: Tensor | slice) -> Observations:
        """The observations of some of the entities."""
        return Observations(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | None = None) -> Observations:
        fields = {}
        for name in self.__dataclass_fields__:
            tensor = getattr(self, name)
            fields[name] = tensor.to(dtype=dtype if tensor.is_floating_point() else None, device=device)
        return Observations(**fields)

    def in_coordinates(self, shift: Tensor, scale: Tensor) -> Observations:
        """The same observations of y, where the state is ``x = shift + scale · y``.

        `shift` ``(B, d)``, `scale` ``(B,)``. Likelihoods stay those of the values as reported.
        """
        image = la.times(self.matrix, shift[:, None])
        factor = scale[:, None]
        linear, is_range = self.kind == LINEAR, self.kind == RANGE
        turn = (self.heading * shift[:, None]).sum(-1)
        first = torch.where(is_range, self.value[..., 0] / factor, wrap(self.value[..., 0] + turn))
        scalar = torch.cat([first[..., None], self.value[..., 1:]], -1)
        deviation = torch.where(is_range, self.standard_deviation / factor, self.standard_deviation)
        return replace(
            self,
            value=torch.where(linear[..., None], self.value - image, scalar),
            matrix=torch.where(linear[..., None, None], self.matrix * factor[..., None, None], self.matrix),
            origin=torch.where(linear[..., None], self.origin, (self.origin - image) / factor[..., None]),
            heading=self.heading * factor[..., None],
            standard_deviation=deviation,
        )

    def _relative(self, points: Tensor) -> Tensor:
        """``A x − a`` at `points` ``(B, P, d)``: ``(B, P, N, R)``."""
        batch, count, rows, size = self.matrix.shape
        image = points @ self.matrix.reshape(batch, count * rows, size).mT
        return image.view(batch, points.shape[1], count, rows) - self.origin[:, None]

    def _residuals(self, points: Tensor, relative: Tensor, distance: Tensor) -> Residuals:
        kind, value = self.kind[:, None], self.value[:, None]
        deviation, probability = self.standard_deviation[:, None], self.outlier_probability[:, None]
        linear = kind == LINEAR
        scalar = value[..., 0] - distance
        if relative.shape[-1] > 1 and self.has_angles:
            turn = points @ self.heading.mT
            angle = torch.atan2(relative[..., 1], relative[..., 0]) - turn
            scalar = torch.where(kind == ANGLE, wrap(value[..., 0] - angle), scalar)
        scalar = scalar / deviation
        several = value - relative
        squared = torch.where(linear, la.squared_norm(several), scalar.square())
        signed = torch.where(linear, torch.where(self.rows[:, None] == 1, several[..., 0], 0.0), scalar)
        constant = self.log_normaliser[:, None]
        inlier = (1 - probability).clamp_min(_TINY).log() - 0.5 * squared - constant
        wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - self.rows[:, None] * math.log(WIDE_OUTLIER)
        density = torch.where(linear, wide, self.outlier_log_density[:, None])
        outlier = probability.clamp_min(_TINY).log() + density
        return Residuals(signed, squared, inlier - outlier, torch.logaddexp(inlier, outlier))

    def residuals(self, points: Tensor) -> Residuals:
        """At `points` ``(B, P, d)``."""
        relative = self._relative(points)
        return self._residuals(points, relative, (la.squared_norm(relative) + 1e-8).sqrt())

    def log_likelihood(self, points: Tensor) -> Tensor:
        """Of all of an entity's observations together at `points` ``(B, P, d)``; returns ``(B, P)``."""
        return (self.residuals(points).log_likelihood * self.mask[:, None]).sum(-1)

    def linearise(self, points: Tensor, factors: Tensor) -> Linearisation:
        """Gradient, information and curvature at `points` ``(B, K, d)``.

        They are expressed in the frame ``x = point + factor · y`` of each point; `factors` ``(B, K, d, d)``.
        """
        relative = self._relative(points)
        distance = (la.squared_norm(relative) + 1e-8).sqrt()
        residuals = self._residuals(points, relative, distance)
        kind, deviation = self.kind[:, None], self.standard_deviation[:, None]
        linear, is_range = (kind == LINEAR)[..., None], (kind == RANGE)[..., None]
        batch, count, rows, size = self.matrix.shape
        flat = self.matrix.reshape(batch, 1, count * rows, size) @ factors
        matrix = flat.view(batch, points.shape[1], count, rows, size)
        gram = la.gram(matrix)
        radial = la.transpose_times(matrix, relative / distance[..., None])
        jacobian = radial / deviation[..., None]
        curvature = (gram - la.outer(radial, radial)) / (distance * deviation)[..., None, None]
        if rows > 1 and self.has_angles:
            across, bend = self._angle_derivatives(relative, matrix, self.heading[:, None] @ factors)
            jacobian = torch.where(is_range, jacobian, across / deviation[..., None])
            curvature = torch.where(is_range[..., None], curvature, bend / deviation[..., None, None])
        gradient = la.transpose_times(matrix, self.value[:, None] - relative)
        gradient = torch.where(linear, gradient, jacobian * residuals.signed[..., None])
        information = torch.where(linear[..., None], gram, la.outer(jacobian, jacobian))
        curvature = torch.where(linear[..., None], torch.zeros_like(curvature), curvature)
        return Linearisation(gradient, information, curvature, residuals)

    @staticmethod
    def _angle_derivatives(relative: Tensor, matrix: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of an angle in the plane of the first two rows."""
        first, second = relative[..., 0], relative[..., 1]
        squared = first.square() + second.square() + 1e-8
        row_first, row_second = matrix[..., 0, :], matrix[..., 1, :]
        radial = row_first * first[..., None] + row_second * second[..., None]
        tangent = row_second * first[..., None] - row_first * second[..., None]
        across = tangent / squared[..., None] - heading
        cross = la.outer(radial, tangent)
        bend = -(cross + cross.mT) / squared.square()[..., None, None]
        return across, bend
