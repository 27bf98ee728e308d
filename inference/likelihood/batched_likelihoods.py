"""Likelihoods of problems in a batch of observations; each problem is evaluated once per batch.

Near a state, a log likelihood ℓ acts as a Gaussian one with its gradient g and the information ``M = |−∇²ℓ|``: the
Hessian with its eigenvalues made positive, in the frame of the caller. So a step ``(A + M)⁻¹ g`` with a prior
precision A leads uphill even where ℓ is convex (Y. Dauphin et al., "Identifying and Attacking the Saddle Point
Problem in High-Dimensional Non-Convex Optimization", NeurIPS 2014, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from beliefstream.inference.likelihood.problem_functions import ProblemFunction
from beliefstream.inference.mixtures import linear_algebra as la

IMPOSSIBLE = -1e10  # log likelihood that stands for minus infinity where arithmetic goes on
_STEEP, _FAR = 1e12, 1e12  # limits of a derivative, and of a squared residual


class Quadratic(NamedTuple):
    """Log likelihoods near a state, in the caller's frame; zero where an observation has no problem."""

    value: Tensor  # exact, (B, P, N)
    gradient: Tensor  # (B, P, N, d)
    information: Tensor  # (B, P, N, d, d)

    @property
    def squared(self) -> Tensor:
        """Squared distance to the peak of the Gaussian, in its deviations, along the gradient; ``(B, P, N)``."""
        size = la.squared_norm(self.gradient)
        along = la.quadratic(self.information, self.gradient, self.gradient)
        return torch.where(size > 0, size.square() / along.clamp_min(1e-300), 0.0).clamp(max=_FAR)


@dataclass(frozen=True)
class Likelihoods:
    """Assigns to each observation a problem whose parameters are ``u = A x − a``.

    Attributes:
        functions: the distinct problems.
        index: ``(B, N)`` int64, the observation's problem; −1 if it has none.
        numbers: data and context ``(B, N, Q)``, padded with zeros.
    """

    functions: tuple[ProblemFunction, ...]
    index: Tensor
    numbers: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Likelihoods:
        """Apply `change` to every tensor."""
        return replace(self, index=change(self.index), numbers=change(self.numbers))

    @cached_property
    def present(self) -> Tensor:
        """Which observations have a problem, ``(B, N)`` bool."""
        return self.index >= 0

    @cached_property
    def _places(self) -> list[tuple[ProblemFunction, Tensor, Tensor]]:
        found = []
        for number, function in enumerate(self.functions):
            row, column = torch.nonzero(self.index == number, as_tuple=True)
            if len(row):
                found.append((function, row, column))
        return found

    def _arguments(
        self, function: ProblemFunction, row: Tensor, column: Tensor, relative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coordinates ``(M P, n)`` and numbers ``(M P, q)`` of one problem's ``M`` observations."""
        size, count = len(function.parameters), len(function.number_names)
        at = relative[row, :, column][..., :size]
        numbers = self.numbers[row, column][:, None, :count].expand(-1, at.shape[1], -1)
        return at.reshape(-1, size), numbers.reshape(-1, count)

    def values(self, relative: Tensor) -> Tensor:
        """Log likelihoods at ``u`` ``(B, P, N, R)``; ``(B, P, N)``, zero where there is no problem."""
        result = relative.new_zeros(relative.shape[:3])
        for function, row, column in self._places:
            with torch.no_grad():
                value = function.log_likelihood(*self._arguments(function, row, column, relative))
            result[row, :, column] = value.view(len(row), -1)
        return result

    def quadratic(self, relative: Tensor, matrix: Tensor) -> Quadratic:
        """Values and derivatives; `matrix` ``(B, P, N, R, d)`` is the derivative of ``u`` in the caller's frame."""
        size = matrix.shape[-1]
        value = relative.new_zeros(relative.shape[:3])
        slope = relative.new_zeros(*relative.shape[:3], size)
        bend = relative.new_zeros(*relative.shape[:3], size, size)
        for function, row, column in self._places:
            found, gradient, hessian = function.derivatives(*self._arguments(function, row, column, relative))
            shape, width = (len(row), relative.shape[1]), gradient.shape[-1]
            inner = matrix[row, :, column][..., :width, :]
            value[row, :, column] = found.view(shape)
            slope[row, :, column] = _bounded(gradient.view(*shape, 1, width) @ inner)[..., 0, :]
            hessian = inner.mT @ hessian.view(*shape, width, width) @ inner
            bend[row, :, column] = absolute(_bounded(hessian))
        return Quadratic(value, slope, bend)


def absolute(matrix: Tensor) -> Tensor:
    """A symmetric ``(..., d, d)`` with its eigenvalues made positive."""
    if matrix.shape[-1] == 1:
        return matrix.abs()
    values, vectors = torch.linalg.eigh(matrix)
    return la.symmetrise((vectors * values.abs()[..., None, :]) @ vectors.mT)


def _bounded(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0).clamp(-_STEEP, _STEEP)


def smoothed(log_likelihoods: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the mean likelihood over the last dimension, and the variance of the log likelihood there."""
    mean = torch.logsumexp(log_likelihoods, -1) - math.log(log_likelihoods.shape[-1])
    return mean, log_likelihoods.var(-1, correction=0)
