"""Batched observations: residuals, likelihoods and linearisations at any state.

Every measurement model has one of five forms, in ``d`` coordinates of the state x (A: matrix, a: origin, c: heading):

- linear    ``h(x) = A x`` (any number of rows, whitened, so that the noise is the identity);
- range     ``h(x) = |A x − a|``;
- angle     ``h(x) = atan2((A x − a)₂, (A x − a)₁) − cᵀx``, wrapped;
- function  ``h(x) = f(A x − a, parameters)``, any registered `inference.likelihood.measurement_functions`,
  differentiated automatically;
- likelihood: the log likelihood of a problem (`inference.likelihood.problems`) at the parameters ``A x − a``, without
  a residual or noise of its own. Near a state it acts by its gradient and curvature (`batched_likelihoods`).

Noise is Gaussian. For a scalar it may also be a mixture, or have a deviation that grows with the value
(`inference.likelihood.noise`). With probability p the value is an outlier: ten times as wide for a linear sensor,
else of a known density. All quantities below are in units of the noise, so they do not depend on the units of state
or sensor.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.batched_likelihoods import IMPOSSIBLE
from beliefstream.inference.likelihood.noise import effective, wrap
from beliefstream.inference.likelihood.observation_data import (
    ANGLE,
    FUNCTION,
    LIKELIHOOD,
    LINEAR,
    RANGE,
    ObservationData,
)
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI
from beliefstream.inference.mixtures.native_forms import native_form

__all__ = [
    "ANGLE",
    "FUNCTION",
    "LIKELIHOOD",
    "LINEAR",
    "RANGE",
    "WIDE_OUTLIER",
    "Linearisation",
    "Observations",
    "Residuals",
    "wrap",
]

_NATIVE = "likelihood.native_observations"
WIDE_OUTLIER = 10.0  # an outlier of a linear sensor has ten times the standard deviation
_SOFT = 1e-24  # added to a squared distance: keeps derivatives finite at a sensor, far below any noise
_FAR, _STEEP, _BENT = 1e6, 1e6, 1e9  # limits of a function's residual and derivatives, in units of the noise


def _bounded(tensor: Tensor, most: float) -> Tensor:
    """Clamp to ±`most`, as larger squares would overflow; NaN becomes `most`, as far off as possible."""
    return torch.nan_to_num(tensor, nan=most).clamp(-most, most)


def _direction(vector: Tensor) -> Tensor:
    return vector / la.norm(vector, True).clamp_min(1e-150)


class Residuals(NamedTuple):
    """Residuals of ``N`` observations at states ``(B, P)``; each field is ``(B, P, N)``."""

    signed: Tensor  # of a scalar observation, in noise units; zero for one of several rows
    squared: Tensor  # squared Mahalanobis length under the noise alone
    log_odds: Tensor  # log odds of inlier against outlier
    log_likelihood: Tensor  # of the value as reported, inlier or outlier
    deviation: Tensor  # of `signed`, in units of the value, (B, P or 1, N)


class Linearisation(NamedTuple):
    """An observation's effect near a state, in noise units; shapes ``(B, K, N, ...)``."""

    gradient: Tensor  # Jᵀe, (..., d)
    information: Tensor  # JᵀJ, (..., d, d)
    curvature: Tensor  # Hessian of h, (..., d, d)
    slope: Tensor  # J of a scalar observation, (..., d)
    residuals: Residuals

    def rows(self, index: Tensor) -> Linearisation:
        """The linearisations of the entities at `index`."""
        return Linearisation(
            self.gradient[index],
            self.information[index],
            self.curvature[index],
            self.slope[index],
            Residuals(*(tensor[index] for tensor in self.residuals)),
        )


@dataclass(frozen=True)
class Observations(ObservationData):
    """Up to ``N`` observations for each of ``B`` entities, with their likelihoods at any state."""

    @property
    def log_normaliser(self) -> Tensor:
        """Minus the log density of an inlier that fits exactly, ``(B, N)``, in the sensor's own units."""
        return self.log_scale + 0.5 * self.rows * LOG_TWO_PI

    def _relative(self, points: Tensor) -> Tensor:
        """``A x − a`` at `points` ``(B, P, d)``: ``(B, P, N, R)``."""
        batch, count, rows, size = self.matrix.shape
        image = points @ self.matrix.reshape(batch, count * rows, size).mT
        return image.view(batch, points.shape[1], count, rows) - self.origin[:, None]

    def _difference(
        self, points: Tensor, relative: Tensor, distance: Tensor, functions: Tensor | None
    ) -> Tensor:
        """``value − h(x)`` of the scalar kinds, wrapped; `functions` ``(B, P, N)`` are the functions' values there."""
        kind, value = self.kind[:, None], self.value[:, None]
        scalar = value[..., 0] - distance
        if relative.shape[-1] > 1 and self.has_angles:
            turn = points @ self.heading.mT
            angle = torch.atan2(relative[..., 1], relative[..., 0]) - turn
            scalar = torch.where(kind == ANGLE, wrap(value[..., 0] - angle), scalar)
        if self.functions is not None and functions is not None:
            deviation = self.standard_deviation[:, None]
            found = value[..., 0] - functions
            found = torch.where(self.functions.angle[:, None], wrap(found), found)
            found = _bounded(found / deviation, _FAR) * deviation
            scalar = torch.where(self.functions.present[:, None], found, scalar)
        return scalar

    def difference(self, points: Tensor) -> Tensor:
        """Reported value minus ``h`` at `points` ``(B, P, d)``, wrapped, of the scalar kinds; returns ``(B, P, N)``."""
        relative = self._relative(points)
        functions = self.functions.values(relative) if self.functions is not None else None
        return self._difference(points, relative, (la.squared_norm(relative) + _SOFT).sqrt(), functions)

    def deviation(self, magnitude: Tensor) -> Tensor:
        """Noise deviation σ(x) where ``|h(x)|`` is `magnitude` ``(B, P, N)``."""
        deviation = self.standard_deviation[:, None]
        return (
            deviation
            if self.deviation_slope is None
            else deviation + self.deviation_slope[:, None] * magnitude
        )

    def magnitude(self, difference: Tensor) -> Tensor:
        """``|h(x)|`` of the scalar kinds where the residual is `difference` ``(B, P, N)``."""
        predicted = self.value[:, None, :, 0] - difference
        return torch.where(self.wraps[:, None], wrap(predicted), predicted).abs()

    def weights(self, log_odds: Tensor) -> Tensor:
        """Share of each observation's information that counts, given its log odds, ``(B, P, N)``.

        An inlier counts fully. An outlier counts zero, or a hundredth where it has ten times the standard deviation.
        """
        inlier = torch.sigmoid(log_odds)
        wide = WIDE_OUTLIER**-2 * (self.kind == LINEAR).to(log_odds.dtype)[:, None]
        return inlier + (1 - inlier) * wide

    def widened(self) -> Observations:
        """The observations with the noise of an outlier; for linear sensors only."""
        return replace(
            self,
            value=self.value / WIDE_OUTLIER,
            matrix=self.matrix / WIDE_OUTLIER,
            origin=self.origin / WIDE_OUTLIER,
            log_scale=self.log_scale + self.rows * math.log(WIDE_OUTLIER),
        )

    def _residuals(self, relative: Tensor, difference: Tensor) -> Residuals:
        linear = (self.kind == LINEAR)[:, None]
        probability, deviation = self.outlier_probability[:, None], self.standard_deviation[:, None]
        several = self.value[:, None] - relative
        constant, rows = self.log_normaliser[:, None], self.rows[:, None]
        if self.has_plain_noise:
            scalar = difference / deviation
            squared = torch.where(linear, la.squared_norm(several), scalar.square())
            fit = -0.5 * squared
        else:
            spread = self.deviation(self.magnitude(difference))
            scalar, deviation, fit = effective(difference, deviation, spread, self.mixture, self.wraps)
            squared = torch.where(linear, la.squared_norm(several), scalar.square())
            fit = torch.where(linear, -0.5 * squared, fit)
        signed = torch.where(linear, torch.where(rows == 1, several[..., 0], 0.0), scalar)
        inlier = torch.log1p(-probability) + fit - constant
        wide = -0.5 * squared / WIDE_OUTLIER**2 - constant - rows * math.log(WIDE_OUTLIER)
        density = torch.where(linear, wide, self.outlier_log_density[:, None])
        outlier = probability.log() + density  # minus infinity without outliers
        return Residuals(signed, squared, inlier - outlier, torch.logaddexp(inlier, outlier), deviation)

    @cached_property
    def native(self) -> Any:
        """The numbers that `native_observations` takes; None where operators must do."""
        code = native_form(_NATIVE, self.value, self.matrix, single=True)
        taken = self.functions is not None or self.likelihoods is not None
        if code is None or not self.has_plain_noise or taken:
            return None
        return code.seen(self)

    def keep_native(self, numbers: Any) -> None:
        """Keep the numbers that `native` would find, if they are known already."""
        self.__dict__["native"] = numbers

    def _native_at(self, *tensors: Tensor) -> tuple[Any, Any] | None:
        """Native code and the numbers that it takes; None where operators must do."""
        code = native_form(_NATIVE, *tensors, single=True)
        return None if code is None or self.native is None else (code, self.native)

    def residuals(self, points: Tensor) -> Residuals:
        """Residuals at `points` ``(B, P, d)``."""
        if native := self._native_at(points):
            code, seen = native
            signed, squared, odds, likelihood = code.residuals(seen, points)
            return Residuals(signed, squared, odds, likelihood, self.standard_deviation[:, None])
        relative = self._relative(points)
        functions = self.functions.values(relative) if self.functions is not None else None
        distance = (la.squared_norm(relative) + _SOFT).sqrt()
        found = self._residuals(relative, self._difference(points, relative, distance, functions))
        if self.likelihoods is None:
            return found
        value = self.likelihoods.values(relative)
        return self._with_likelihoods(found, value, -2 * value.clamp(IMPOSSIBLE, 0.0))

    def _with_likelihoods(self, residuals: Residuals, value: Tensor, squared: Tensor) -> Residuals:
        """Residuals with those of problems put in: their log likelihoods and squared residuals ``(B, P, N)``."""
        assert self.likelihoods is not None
        own, root = self.likelihoods.present[:, None], (squared + 1e-24).sqrt()
        return Residuals(
            torch.where(own, torch.where(self.rows[:, None] == 1, root, 0.0), residuals.signed),
            torch.where(own, squared, residuals.squared),
            torch.where(own, math.inf, residuals.log_odds),
            torch.where(own, value.clamp_min(IMPOSSIBLE), residuals.log_likelihood),
            torch.where(own, 1.0, residuals.deviation),
        )

    def is_undefined(self, residuals: Residuals) -> Tensor:
        """Which functions are NaN, or as far off as can be, where `residuals` are taken, ``(B, P, N)`` bool."""
        return (self.takes_coordinates & self.mask)[:, None] & (residuals.signed.abs() > 0.99 * _FAR)

    def log_likelihood(self, points: Tensor) -> Tensor:
        """Joint log likelihood of each entity's observations at `points` ``(B, P, d)``; returns ``(B, P)``.

        It is minus infinity where a problem says that an observation is impossible.
        """
        code = native_form("likelihood.native_likelihood", points, single=True)
        if code and self.native is not None:
            total: Tensor = code.log_likelihood(self.native, points)
            return total
        each = self.residuals(points).log_likelihood * self.mask[:, None]
        if self.likelihoods is None:
            return each.sum(-1)
        impossible = (each <= IMPOSSIBLE) & self.likelihoods.present[:, None]
        return torch.where(impossible.any(-1), -math.inf, each.sum(-1))

    def log_peaks(self, residuals: Residuals) -> Tensor:
        """Log density of an inlier that fits exactly, by the linearisation of `residuals`, ``(B, P or 1, N)``."""
        constant = -self.log_normaliser[:, None]
        if self.likelihoods is None:
            return constant
        own = residuals.log_likelihood + 0.5 * residuals.squared
        return torch.where(self.likelihoods.present[:, None], own, constant)

    def linearise(self, points: Tensor, factors: Tensor) -> Linearisation:
        """Gradient, information and curvature at `points` ``(B, K, d)``.

        They are in the frame ``x = point + factor · y`` of each point; `factors` ``(B, K, d, d)``. On the CPU,
        `native_observations` does it without PyTorch's operators.
        """
        if native := self._native_at(points, factors):
            code, seen = native
            gradient, information, curvature, slope, *numbers = code.linearise(seen, points, factors)
            signed, squared, odds, likelihood = numbers
            residuals = Residuals(signed, squared, odds, likelihood, self.standard_deviation[:, None])
            return Linearisation(gradient, information, curvature, slope, residuals)
        return self.linearise_by_operators(points, factors)

    def linearise_by_operators(self, points: Tensor, factors: Tensor) -> Linearisation:
        """As `linearise`, by PyTorch's operators on any device."""
        relative = self._relative(points)
        distance = (la.squared_norm(relative) + _SOFT).sqrt()
        batch, count, rows, size = self.matrix.shape
        flat = self.matrix.reshape(batch, 1, count * rows, size) @ factors
        matrix = flat.view(batch, points.shape[1], count, rows, size)
        functions = self.functions.derivatives(relative, matrix) if self.functions is not None else None
        predicted = functions[0] if functions is not None else None
        residuals = self._residuals(relative, self._difference(points, relative, distance, predicted))
        gram = la.gram(matrix)
        radial = la.transpose_times(matrix, relative / distance[..., None])
        deviation = residuals.deviation[..., None, None]
        slope = radial
        curvature = (gram - la.outer(radial, radial)) / (distance[..., None, None] * deviation)
        if rows > 1 and self.has_angles:
            is_angle = (self.kind == ANGLE)[:, None, :, None]
            across, bend = self._angle_derivatives(relative, matrix, self.heading[:, None] @ factors)
            slope = torch.where(is_angle, across, slope)
            curvature = torch.where(is_angle[..., None], bend / deviation, curvature)
        curvature = curvature.clamp(-_BENT, _BENT)  # unbounded close to a sensor
        jacobian = slope / deviation[..., 0]
        if self.functions is not None and functions is not None:
            is_function = self.functions.present[:, None, :, None]
            jacobian = torch.where(is_function, _bounded(functions[1] / deviation[..., 0], _STEEP), jacobian)
            curvature = torch.where(
                is_function[..., None], _bounded(functions[2] / deviation, _BENT), curvature
            )
        linear = (self.kind == LINEAR)[:, None, :, None]
        gradient = la.transpose_times(matrix, self.value[:, None] - relative)
        gradient = torch.where(linear, gradient, jacobian * residuals.signed[..., None])
        information = torch.where(linear[..., None], gram, la.outer(jacobian, jacobian))
        curvature = torch.where(linear[..., None], torch.zeros_like(curvature), curvature)
        found = Linearisation(gradient, information, curvature, jacobian, residuals)
        return found if self.likelihoods is None else self._with_quadratic(found, relative, matrix)

    def _with_quadratic(self, found: Linearisation, relative: Tensor, matrix: Tensor) -> Linearisation:
        """A linearisation with those of problems put in."""
        assert self.likelihoods is not None
        near, own = self.likelihoods.quadratic(relative, matrix), self.likelihoods.present[:, None, :, None]
        # a residual of one row has a slope
        slope = la.trace(near.information)[..., None].clamp_min(0).sqrt() * _direction(near.gradient)
        return Linearisation(
            torch.where(own, near.gradient, found.gradient),
            torch.where(own[..., None], near.information, found.information),
            torch.where(own[..., None], 0.0, found.curvature),
            torch.where(own, slope, found.slope),
            self._with_likelihoods(found.residuals, near.value, near.squared),
        )

    @staticmethod
    def _angle_derivatives(relative: Tensor, matrix: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivatives of an angle in the plane of the first two rows."""
        first, second = relative[..., 0], relative[..., 1]
        squared = first.square() + second.square() + _SOFT
        row_first, row_second = matrix[..., 0, :], matrix[..., 1, :]
        radial = row_first * first[..., None] + row_second * second[..., None]
        tangent = row_second * first[..., None] - row_first * second[..., None]
        turn = tangent / squared[..., None]
        cross = la.outer(
            radial / squared[..., None], turn
        )  # dividing by squared² would underflow in single precision
        return turn - heading, -(cross + cross.mT)
