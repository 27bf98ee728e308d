"""Batched observations: residuals, likelihoods and linearisations at any state.

Every measurement model has one of five forms, in ``d`` coordinates of the state x (A: matrix, a: origin, c: heading):

- linear    ``h(x) = A x`` (any number of rows, whitened, so that the noise is the identity);
- range     ``h(x) = |A x − a| − cᵀx``;
- angle     ``h(x) = atan2((A x − a)₂, (A x − a)₁) − cᵀx``, wrapped;
- function  ``h(x) = f(A x − a, parameters) − cᵀx``: built in (`native_functions`), or any registered one
  (`measurement_functions`), which PyTorch differentiates;
- likelihood: the log likelihood of a problem (`inference.likelihood.problems`) at the parameters ``A x − a``, without
  a residual or noise of its own. Near a state it acts by its gradient and curvature (`problem_functions`).

The last coordinates may be errors of sensors (`hidden`); of a range or a function, c is zero but for these. Noise is
Gaussian. For a scalar it may also be a mixture, or have a deviation that grows with the value
(`inference.likelihood.noise`). With probability p the value is an outlier: ten times as wide for a linear sensor,
else of a known density. All quantities below are in units of the noise, so they do not depend on the units of state
or sensor. `native_observations` computes them, but for problems, on the processor and without gradients.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood import native_observations
from beliefstream.inference.likelihood.native_functions import TABULATED
from beliefstream.inference.likelihood.native_terms import WIDE_OUTLIER as WIDE_OUTLIER, Seen
from beliefstream.inference.likelihood.noise import wrap as wrap
from beliefstream.inference.likelihood.observation_data import (
    ANGLE as ANGLE,
    FUNCTION as FUNCTION,
    LIKELIHOOD as LIKELIHOOD,
    LINEAR as LINEAR,
    RANGE as RANGE,
    ObservationData,
)
from beliefstream.inference.likelihood.problem_functions import IMPOSSIBLE
from beliefstream.inference.mixtures import linear_algebra as la
from beliefstream.inference.mixtures.mixture import LOG_TWO_PI


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

    @cached_property
    def has_own_functions(self) -> bool:
        """Whether the batch has a function of the user, which compiled code cannot call."""
        functions = self.functions
        if functions is None or all(program.code != TABULATED for program in functions.programs):
            return False
        tabulated = [program.code == TABULATED for program in functions.programs]
        own = torch.tensor([*tabulated, False], device=self.mask.device)
        return bool((own[functions.index] & self.mask).any())

    @cached_property
    def has_problems(self) -> bool:
        """Whether the batch has an observation of a problem."""
        return self.likelihoods is not None and bool((self.likelihoods.present & self.mask).any())

    @cached_property
    def numbers(self) -> Seen:
        """The numbers of the observations, as compiled code takes them."""
        return native_observations.seen(self)

    @property
    def native(self) -> Any:
        """The numbers, if compiled code can evaluate all observations at any point; else None."""
        return None if self.has_own_functions or self.has_problems else self.numbers

    def keep_native(self, numbers: Seen) -> None:
        """Keep the numbers that `numbers` would find, if they are known already."""
        self.__dict__["numbers"] = numbers

    def difference(self, points: Tensor) -> Tensor:
        """Reported value minus ``h`` at `points` ``(B, P, d)``, wrapped, of the scalar kinds; returns ``(B, P, N)``."""
        numbers, at = self.at(points, False)
        return native_observations.differences(numbers, at).view(*points.shape[:2], -1)

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

    def at(self, points: Tensor, derivatives: bool = True) -> tuple[Seen, Tensor]:
        """Numbers and points ``(B, P, d)`` for compiled code; with a function of the user, of ``B · P`` entities.

        Such numbers are of these points only; `derivatives` says whether they include derivatives.
        """
        if not self.has_own_functions:
            return self.numbers, points
        flat = points.reshape(-1, 1, points.shape[-1])
        return native_observations.tabulated(self, points, derivatives), flat

    def residuals(self, points: Tensor) -> Residuals:
        """Residuals at `points` ``(B, P, d)``."""
        numbers, at = self.at(points, False)
        residuals = native_observations.residuals(numbers, at)
        return self.with_problems(Residuals(*_like(points, residuals)), points)

    def with_problems(self, residuals: Residuals, points: Tensor) -> Residuals:
        """Residuals at `points` with those of problems put in."""
        if self.likelihoods is None:
            return residuals
        value = self.likelihoods.values(self.relative(points))
        return self._put_in(residuals, value, -2 * value.clamp(IMPOSSIBLE, 0.0))

    def _put_in(self, residuals: Residuals, value: Tensor, squared: Tensor) -> Residuals:
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

    def log_likelihood(self, points: Tensor) -> Tensor:
        """Joint log likelihood of each entity's observations at `points` ``(B, P, d)``; returns ``(B, P)``.

        It is minus infinity where a problem says that an observation is impossible.
        """
        if self.has_problems:
            return self.joint(self.residuals(points).log_likelihood)
        own = (native_observations.own_values(self, points),) if self.has_own_functions else ()
        return native_observations.log_likelihood(self.numbers, points, *own)

    def joint(self, each: Tensor) -> Tensor:
        """Joint log likelihood ``(B, P)`` from that of each observation ``(B, P, N)``."""
        each = each * self.mask[:, None]
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

        They are in the frame ``x = point + factor · y`` of each point; `factors` ``(B, K, d, d)``.
        """
        numbers, at = self.at(points)
        frames = factors.reshape(*at.shape[:2], *factors.shape[-2:])
        gradient, information, curvature, slope, *each = _like(
            points, native_observations.linearise(numbers, at, frames)
        )
        linear = Linearisation(gradient, information, curvature, slope, Residuals(*each))
        return self.with_quadratic(linear, points, factors)

    def with_quadratic(self, linear: Linearisation, points: Tensor, factors: Tensor) -> Linearisation:
        """A linearisation at `points`, in the frames of `factors`, with those of problems put in."""
        if self.likelihoods is None:
            return linear
        near = self.likelihoods.quadratic(self.relative(points), self.matrix[:, None] @ factors[:, :, None])
        own = self.likelihoods.present[:, None, :, None]
        # a residual of one row has a slope
        slope = la.trace(near.information)[..., None].clamp_min(0).sqrt() * _direction(near.gradient)
        return Linearisation(
            torch.where(own, near.gradient, linear.gradient),
            torch.where(own[..., None], near.information, linear.information),
            torch.where(own[..., None], 0.0, linear.curvature),
            torch.where(own, slope, linear.slope),
            self._put_in(linear.residuals, near.value, near.squared),
        )


def _like(points: Tensor, parts: tuple[Tensor, ...]) -> list[Tensor]:
    """The parts with the leading dimensions of `points`."""
    return [part.view(*points.shape[:2], *part.shape[2:]) for part in parts]


def _direction(vector: Tensor) -> Tensor:
    return vector / la.norm(vector, True).clamp_min(1e-150)
