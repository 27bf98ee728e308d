"""Linear motions given by matrices, in continuous time or in steps of fixed length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from beliefstream.inference.motion.linear import LinearMotion

Matrix = Sequence[Sequence[float]]


def _matrix(name: str, value: Matrix, rows: int, columns: int) -> Tensor:
    try:
        matrix = torch.tensor(np.array(value, dtype=np.float64).reshape(len(value), -1))
    except ValueError as error:
        raise ValueError(f"{name}: expected a matrix of numbers, got {value}") from error
    if tuple(matrix.shape) != (rows, columns):
        raise ValueError(f"{name}: expected ({rows}, {columns}), got {tuple(matrix.shape)}")
    if not bool(matrix.isfinite().all()):
        raise ValueError(f"{name}: expected finite numbers, got {value}")
    return matrix


def _covariance(name: str, value: Matrix, size: int) -> Tensor:
    """Convert `value` to a tensor; raises ValueError unless it is symmetric positive semidefinite up to rounding."""
    matrix = _matrix(name, value, size, size)
    scale = float(matrix.abs().max())
    if float((matrix - matrix.T).abs().max()) > 1e-9 * scale:
        raise ValueError(f"{name}: expected a symmetric matrix, got {value}")
    if float(torch.linalg.eigvalsh(matrix)[0]) < -1e-9 * scale:
        raise ValueError(f"{name}: expected a positive semidefinite matrix, got {value}")
    return (matrix + matrix.T) / 2


class Joint(LinearMotion):
    """A linear motion given by one transition of state and held inputs together."""

    input_matrix: Matrix | None

    @abstractmethod
    def _joint(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``F`` and ``Q`` of state and inputs, each ``(B, D + C, D + C)``, over `interval` ``(B,)``, seconds."""

    @property
    def inputs(self) -> int:
        return len(self.input_matrix[0]) if self.input_matrix else 0

    def transition(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        matrix, noise = self._joint(interval)
        size = self.dimension
        return matrix[:, :size, :size].contiguous(), noise[:, :size, :size].contiguous()

    def gain(self, interval: Tensor) -> Tensor:
        return self._joint(interval)[0][:, : self.dimension, self.dimension :].contiguous()

    def _filled(self, whole: Tensor, matrix: str, noise: str) -> tuple[Tensor, Tensor]:
        """Put the state's part into the matrix `whole` of held inputs; `matrix` and `noise` are names of fields."""
        size = self.dimension
        whole[:size, :size] = _matrix(matrix, getattr(self, matrix), size, size)
        if self.input_matrix is not None:
            whole[:size, size:] = _matrix("input_matrix", self.input_matrix, size, self.inputs)
        spread = torch.zeros_like(whole)
        spread[:size, :size] = _covariance(noise, getattr(self, noise), size)
        return whole, spread


@dataclass(frozen=True)
class Linear(Joint):
    """``dx = (A x + B u) dt + dW`` with drift ``A`` (1/s) and white noise of spectral density `diffusion` (unit²/s).

    A matrix exponential discretises it exactly (Van Loan, "Computing integrals involving the matrix exponential", IEEE
    Transactions on Automatic Control 23(3), 1978). It is computed over an interval with ``|A| T <= 1``, which is then
    doubled: ``F_2t = F_t²``, ``Q_2t = F_t Q_t F_tᵀ + Q_t``. So a stable system does not overflow.

    Attributes:
        drift: A, ``(D, D)``.
        diffusion: spectral density, symmetric positive semidefinite, ``(D, D)``.
        input_matrix: B, ``(D, C)``; None without inputs.

    Raises:
        ValueError: the shapes do not agree, or the diffusion is not a covariance.
    """

    drift: Matrix
    diffusion: Matrix
    input_matrix: Matrix | None = None
    _system: tuple[Tensor, Tensor] = field(
        init=False, repr=False, compare=False
    )  # drift and diffusion of both

    def __post_init__(self) -> None:
        size = self.dimension + self.inputs
        system = self._filled(torch.zeros(size, size, dtype=torch.float64), "drift", "diffusion")
        object.__setattr__(self, "_system", system)

    @property
    def dimension(self) -> int:
        return len(self.drift)

    def _joint(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Joint`, computed once for each different interval."""
        times, place = torch.unique(interval.double(), return_inverse=True)
        system, noise = (part.to(times.device) for part in self._system)
        size = len(system)
        norm = float(torch.linalg.matrix_norm(system, 1))
        doublings = torch.ceil(torch.log2((norm * times).clamp_min(1.0))).long()
        short = times / 2.0**doublings
        block = torch.zeros(2 * size, 2 * size, dtype=torch.float64, device=times.device)
        block[:size, :size], block[:size, size:], block[size:, size:] = -system, noise, system.T
        exponential = torch.matrix_exp(short[:, None, None] * block)
        matrix = exponential[:, size:, size:].mT
        covariance = matrix @ exponential[:, :size, size:]
        for turn in range(int(doublings.max()) if len(times) else 0):
            more = (doublings > turn)[:, None, None]
            covariance = torch.where(more, matrix @ covariance @ matrix.mT + covariance, covariance)
            matrix = torch.where(more, matrix @ matrix, matrix)
        return matrix[place], ((covariance + covariance.mT) / 2)[place]


@dataclass(frozen=True)
class FixedStep(Joint):
    """``x' = F x + G u + n``, ``n ~ N(0, Q)``, once every `step` seconds, for regularly sampled data.

    An interval of n steps applies it n times, by repeated squaring. The motion is undefined between steps.

    Attributes:
        matrix: F, ``(D, D)``.
        noise: Q, symmetric positive semidefinite, ``(D, D)``.
        step: length of a step, in seconds.
        input_matrix: G, ``(D, C)``; None without inputs.

    Raises:
        ValueError: the shapes do not agree, or a number is outside its range. Predictions raise it for an interval that
            is not a multiple of the step, within a thousandth of a step.
    """

    matrix: Matrix
    noise: Matrix
    step: float = 1.0
    input_matrix: Matrix | None = None
    _matrices: tuple[Tensor, Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.step < np.inf:
            raise ValueError(f"step: expected a positive number, got {self.step}")
        whole = torch.eye(self.dimension + self.inputs, dtype=torch.float64)
        object.__setattr__(self, "_matrices", self._filled(whole, "matrix", "noise"))

    @property
    def dimension(self) -> int:
        return len(self.matrix)

    def _joint(self, interval: Tensor) -> tuple[Tensor, Tensor]:
        """As of `Joint`, of n steps by the binary digits of n."""
        steps = interval.double() / self.step
        count = steps.round()
        if bool(((steps - count).abs() > 1e-3).any()):
            odd = float(interval[(steps - count).abs() > 1e-3][0])
            raise ValueError(f"interval: {odd} s is not a multiple of the step of {self.step} s")
        whole, noise = (part.to(interval.device) for part in self._matrices)
        digits = count.long()
        matrix = torch.eye(len(whole), dtype=torch.float64, device=interval.device).repeat(len(digits), 1, 1)
        covariance = torch.zeros_like(matrix)
        while bool((digits > 0).any()):
            now = (digits % 2 == 1)[:, None, None]
            covariance = torch.where(now, whole @ covariance @ whole.T + noise, covariance)
            matrix = torch.where(now, whole @ matrix, matrix)
            whole, noise = whole @ whole, whole @ noise @ whole.T + noise
            digits = digits // 2
        return matrix, (covariance + covariance.mT) / 2
