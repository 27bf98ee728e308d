"""Measurement functions in a batch of observations; each distinct function is evaluated once per batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from beliefstream.inference.likelihood.measurement_functions import Program


@dataclass(frozen=True)
class Functions:
    """Assigns to each observation a function of ``u = A x − a``.

    Attributes:
        programs: the distinct functions.
        index: ``(B, N)`` int64, the observation's program; −1 if it is not a function.
        parameters: ``(B, N, Q)``, padded with zeros.
    """

    programs: tuple[Program, ...]
    index: Tensor
    parameters: Tensor

    def map(self, change: Callable[[Tensor], Tensor]) -> Functions:
        """Apply `change` to every tensor."""
        return replace(self, index=change(self.index), parameters=change(self.parameters))

    @cached_property
    def present(self) -> Tensor:
        """Which observations are functions, ``(B, N)`` bool."""
        return self.index >= 0

    @cached_property
    def angle(self) -> Tensor:
        """Whether the value is in radians and wraps, ``(B, N)`` bool."""
        angles = torch.tensor(
            [p.measurement.angle for p in self.programs] + [False], device=self.index.device
        )
        return angles[self.index]

    @cached_property
    def _places(self) -> list[tuple[Program, Tensor, Tensor]]:
        found = []
        for number, program in enumerate(self.programs):
            row, column = torch.nonzero(self.index == number, as_tuple=True)
            if len(row):
                found.append((program, row, column))
        return found

    def _arguments(
        self, program: Program, row: Tensor, column: Tensor, relative: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Coordinates ``(M P, rows)`` and parameters ``(M P, Q)`` of one program's ``M`` observations."""
        states = relative[row, :, column][..., : program.rows]
        parameters = self.parameters[row, column][:, None].expand(-1, states.shape[1], -1)
        return states.reshape(-1, program.rows), parameters.reshape(len(row) * states.shape[1], -1)

    def values(self, relative: Tensor) -> Tensor:
        """Values at ``u`` ``(B, P, N, R)``; returns ``(B, P, N)``, zero where there is no function."""
        result = relative.new_zeros(relative.shape[:3])
        for program, row, column in self._places:
            value = program.values(*self._arguments(program, row, column, relative))
            result[row, :, column] = value.view(len(row), -1)
        return result

    def derivatives(self, relative: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values ``(B, P, N)``, gradients ``(B, P, N, d)`` and Hessians ``(B, P, N, d, d)`` in x.

        `relative` is ``(B, P, N, R)``; `matrix` ``(B, P, N, R, d)`` is the derivative of ``u``. A derivative that is
        not finite counts as zero, as it gives no direction to go.
        """
        size = matrix.shape[-1]
        value = relative.new_zeros(relative.shape[:3])
        slope = relative.new_zeros(*relative.shape[:3], size)
        bend = relative.new_zeros(*relative.shape[:3], size, size)
        for program, row, column in self._places:
            found, gradient, hessian = program.derivatives(*self._arguments(program, row, column, relative))
            shape = (len(row), relative.shape[1])
            inner = matrix[row, :, column][..., : program.rows, :]
            gradient = _finite(gradient).view(*shape, 1, program.rows)
            hessian = _finite(hessian).view(*shape, program.rows, program.rows)
            value[row, :, column] = found.view(shape)
            slope[row, :, column] = (gradient @ inner)[..., 0, :]
            bend[row, :, column] = inner.mT @ hessian @ inner
        return value, slope, bend


def _finite(tensor: Tensor) -> Tensor:
    return torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0)
